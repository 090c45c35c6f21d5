"""Files that appear whole or not at all."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dvcc.errors import DvccError


def check_writable(folder: str | Path, *, key: str = "out") -> None:
    """Make `folder` and raise `DvccError` unless a file can be written there: before the hours of work that end in one.

    key: of the setting that names it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"?")
    except OSError as error:
        raise DvccError(f"cannot write to {folder}: {error.strerror or error}; choose another folder with {key}=DIR") from error


def replaced(*paths: Path) -> list[str]:
    """Return a note that says which of `paths` are files already, and are going to be written anew; none if none is."""
    there = [str(path) for path in paths if path.is_file()]
    return [f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'} and will be replaced"] if there else []


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary file to write to that takes its name `path` when the block ends, and none when the block raises.

    It is a temporary name beside `path`, then renamed: a reader in another process sees the old file or the new one, never a
    part. Raises `DvccError` when the folder is read-only or the disk is full.
    """
    path = Path(path)
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
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise DvccError(f"cannot write {path}: {error.strerror or error}; free some space or write elsewhere") from error
        raise


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write `data` to `path`, whole or not at all (see `open_atomic`)."""
    with open_atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray] | None:
    """Return all arrays of a file .npz by name, or None for a damaged one.

    None when the file is missing, lacks one of `names`, or fails its checksum (the CRC-32 of every zip member): an entry of a
    cache is made again then.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if all(name in arrays for name in names) else None
