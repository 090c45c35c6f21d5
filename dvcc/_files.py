"""The one place that writes files: whole or not at all, line by line, or in a temporary folder.

Coded video goes through `dvcc.media.output`. Every failure is one `DvccError` that names the place.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from dvcc.errors import DvccError


def check_writable(folder: str | Path, *, key: str = "out") -> None:
    """Make `folder` and raise `DvccError` unless a file can be written there: before the hours of work that end in one.

    key: of the setting that names it.
    """
    if reason := why_not_writable(Path(folder), make=True):
        raise DvccError(f"cannot write to {folder}: {reason}; choose another folder with {key}=DIR")


def why_not_writable(folder: Path, *, make: bool = False) -> str:
    """Return why no file can be written in a folder, "" where one can; make: the folder first, where it is missing."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"?")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it, where they are missing, and return it. Raises `DvccError`."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DvccError(f"cannot make the folder {path}: {error.strerror or error}; choose another place for it") from error
    return Path(path)


def replaced(*paths: Path) -> list[str]:
    """Return a note that says which of `paths` are files already, and are going to be written anew; none if none is."""
    there = [str(path) for path in paths if path.is_file()]
    return [f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'} and will be replaced"] if there else []


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary file to write to that takes its name `path` when the block ends, and none when the block raises.

    It is a temporary name beside `path`, then renamed: a reader in another process sees the old file or the new one, never a
    part. What is no regular file, as a pipe, is written to as it is. Raises `DvccError` when the folder is read-only or the disk
    is full.
    """
    path = Path(path)
    with _failing(path):
        special = path.exists() and not path.is_file()
    if special:  # a pipe or a device keeps its name, and takes what comes
        with _failing(path), path.open("wb") as file:
            yield file
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise DvccError(f"cannot write {path}: {error.strerror or error}; choose another folder for it") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # what cannot be written can often not be removed either, and the first error counts
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DvccError(f"cannot write {path}: {error.strerror or error}; free some space or write elsewhere") from error
        raise


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise DvccError(f"cannot write {path}: {error.strerror or error}; free some space or write elsewhere") from error


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write `data` to `path`, whole or not at all (see `open_atomic`)."""
    with open_atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def append_text(path: str | Path, text: str) -> None:
    """Add `text` to the end of a file: one line of a log, which a reader may find cut off. Raises `DvccError`."""
    with _failing(Path(path)), Path(path).open("a", encoding="utf-8", newline="") as file:
        file.write(text)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for what is needed until the block ends. Raises `DvccError` where none can be made."""
    with failing_temporary():
        folder = tempfile.TemporaryDirectory(prefix="dvcc-", ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


@contextmanager
def open_temporary(path: Path | None = None, mode: str = "wb") -> Iterator[BinaryIO]:
    """Yield a file of a temporary folder to write to, or one without a name for None. Raises `DvccError` when that fails."""
    with failing_temporary(), tempfile.TemporaryFile() if path is None else path.open(mode) as file:
        yield cast(BinaryIO, file)


@contextmanager
def failing_temporary() -> Iterator[None]:
    """Raise what the system refuses inside as a `DvccError` that names the folder for temporary files."""
    try:
        yield
    except FileNotFoundError as error:  # of `tempfile`, which has tried several folders
        raise DvccError(f"no folder for temporary files can be written to: {error.strerror}; set TMPDIR to one") from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        reason, folder = error.strerror or error, tempfile.gettempdir()
        raise DvccError(f"cannot write to {folder}: {reason}; free some space, or set TMPDIR to another folder") from error


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray] | None:
    """Return all arrays of a file .npz by name, or None for a damaged one.

    None when the file is missing, lacks one of `names`, or fails its checksum (the CRC-32 of every zip member): an entry of a
    cache is made again then.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = dict(stored)
    except Exception:  # NumPy and its zip file raise a dozen unrelated types for what is damaged
        return None
    return arrays if all(name in arrays for name in names) else None
