"""Folders of videos: on this machine, or in storage that fsspec reaches by an address, as s3://bucket/coded.

This is the one place that writes to such storage. Every failure of it is one `DvccError` that names the file.
"""

from __future__ import annotations

import os
import secrets
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, cast

from dvcc._files import check_writable, make_folder, temporary_folder
from dvcc._packaged import require
from dvcc.errors import ConfigError, DvccError, MissingExtraError

OWN = ".dvcc"
"""Folder in a folder of results: what dvcc keeps there for itself."""


class Folder(AbstractBase):
    """A folder. Files are named by their path in it, as "north/a.mp4", and `str` of it and a name is how a user finds one."""

    address: str
    """With a protocol, so that folders of all kinds can be compared."""

    @abstractmethod
    def __str__(self) -> str: ...

    @abstractmethod
    def names(self, suffixes: Collection[str]) -> list[str]:
        """Return the files of these suffixes at any depth, in order, without hidden ones."""

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[BufferedReader]:
        """Yield a file to read. Raises `OSError` where there is none."""

    @abstractmethod
    def reading(self, name: str) -> AbstractContextManager[Path]:
        """Yield a file of this machine with the content of `name`."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield where to write a file on this machine: whole or not at all. When the block ends well, it is there as `name`."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise `DvccError` unless a file can be written there: before the hours of work that end in one."""

    def contains(self, other: Folder) -> bool:
        """Whether another folder is this one, or lies in it."""
        return f"{other.address}/".startswith(f"{self.address}/")


def open_folder(place: str | Path) -> Folder:
    """Return the folder of a path or an address. Raises `ConfigError` and `MissingExtraError` for one that cannot be reached."""
    return Storage(str(place)) if "://" in str(place) else LocalFolder(Path(place))


def write_results(place: str, write: Callable[[Path], str]) -> str:
    """Let `write` fill a folder, which may be an address, and return what it says of it.

    Files go to an address one by one when all are there. Raises `DvccError` when that fails.
    """
    if "://" not in place:
        return write(Path(place))
    storage = Storage(place)
    with temporary_folder() as folder:
        said = write(folder)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            storage.upload(path, path.relative_to(folder).as_posix())
        return said.replace(str(folder), str(storage))


class LocalFolder(Folder):
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.address = f"file://{self.path}".rstrip("/")

    def __str__(self) -> str:
        return str(self.path)

    def names(self, suffixes: Collection[str]) -> list[str]:
        """See `Folder.names`."""
        files = [path for path in self.path.rglob("*") if _is_wanted(path, suffixes) and path.is_file()]
        return [str(path) for path in sorted(path.relative_to(self.path) for path in files)]

    @contextmanager
    def open(self, name: str) -> Iterator[BufferedReader]:
        """See `Folder.open`."""
        with (self.path / name).open("rb") as file:
            yield file

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """See `Folder.reading`."""
        yield self.path / name

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See `Folder.writing`."""
        make_folder((self.path / name).parent)
        yield self.path / name

    def check_writable(self) -> None:
        """See `Folder.check_writable`."""
        check_writable(self.path)


class Storage(Folder):
    """A folder of storage.

    What is uploaded has a name of its own in `OWN` until it is whole, and is then moved by the storage itself.
    """

    def __init__(self, address: str) -> None:
        require("fsspec", wanted_by=address, extra="remote")
        from fsspec.core import url_to_fs

        try:
            self._system, root = url_to_fs(address)
            self._root = root.rstrip("/")
            self.address = str(self._system.unstrip_protocol(self._root)).rstrip("/")
        except ImportError as error:  # of the package for this kind of storage
            raise MissingExtraError(f"{address} cannot be reached: {_reason(error)}, by pip beside dvcc") from error
        except Exception as error:  # storages raise whatever their packages do
            what = "give the address of a folder, as s3://bucket/videos/"
            raise ConfigError(f"{address} cannot be reached: {_reason(error)}; {what}") from error
        self._called = address.rstrip("/") if self._root else address

    def __str__(self) -> str:
        return self._called

    def names(self, suffixes: Collection[str]) -> list[str]:
        """See `Folder.names`. Raises `ConfigError` for a name that would lead out of a folder, for anybody may choose it."""
        with self._failing("be read", ""):
            paths = [PurePosixPath(path) for path in self._system.find(self._root)]
            names = sorted(path.relative_to(self._root or path.anchor) for path in paths if _is_wanted(path, suffixes))
        for name in names:
            if not name.parts or ".." in name.parts:
                raise ConfigError(f"{self} has {str(name)!r}, which is no file below it: give a folder, without such names")
        return [str(name) for name in names]

    @contextmanager
    def open(self, name: str) -> Iterator[BufferedReader]:
        """See `Folder.open`."""
        with self._failing("be read", name, but=(FileNotFoundError,)), self._system.open(self._at(name), "rb") as file:
            yield cast(BufferedReader, file)

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """See `Folder.reading`."""
        with temporary_folder() as folder:
            path = folder / PurePosixPath(name).name
            with self._failing(f"be copied to {folder}", name):
                self._system.get_file(self._at(name), str(path))
            yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """See `Folder.writing`."""
        with temporary_folder() as folder:
            path = folder / PurePosixPath(name).name
            yield path
            self.upload(path, name)

    def upload(self, path: Path, name: str) -> None:
        """Write a file of this machine as `name`, whole or not at all. Raises `DvccError` when that fails."""
        with self._failing("be written", name):
            self._upload(path, self._at(name))

    def check_writable(self) -> None:
        """See `Folder.check_writable`."""
        trial = self._temporary()
        with self._failing("be written", ""):
            self._system.makedirs(trial.rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(trial, b"?")
            self._system.rm_file(trial)

    def _upload(self, path: Path, final: str) -> None:
        temporary, size = self._temporary(), path.stat().st_size
        try:
            for place in (temporary, final):
                self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._system.put_file(str(path), temporary)
            self._check_size(temporary, size)
            self._system.mv(temporary, final)
        except BaseException:
            with suppress(Exception):  # what cannot be written can often not be removed either, and the first error counts
                self._system.rm_file(temporary)
            raise
        self._check_size(final, size)

    def _check_size(self, place: str, size: int) -> None:
        """Raise `OSError` where the storage took less than it said, or kept an old file."""
        if (there := self._system.size(place)) not in (size, None):
            raise OSError(f"it has {there} bytes of {size}")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _temporary(self) -> str:
        """Return a name in the storage, another one each time. It has no letters that fsspec takes for a pattern."""
        return self._at(f"{OWN}/{secrets.token_hex(8)}.part")

    @contextmanager
    def _failing(self, what: str, name: str, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Raise what goes wrong as a `DvccError`. but: what is raised as it is."""
        try:
            yield
        except Exception as error:
            if isinstance(error, (DvccError, *but)):
                raise
            place = f"{self}/{name}" if name else str(self)
            raise DvccError(f"{place} cannot {what}: {_reason(error)}; check the storage, and your rights there") from error


def _is_wanted(path: Any, suffixes: Collection[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def _reason(error: Exception) -> str:
    """Return the first line of what an error says, which may be nothing."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().partition("\n")[0].rstrip(".;") or type(error).__name__
