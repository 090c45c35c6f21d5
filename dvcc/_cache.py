"""Entries by content: in a folder of this machine, or in storage, of which this machine keeps what it has seen."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from dvcc._files import check_writable, write_atomic
from dvcc._storage import Storage


class Cache:
    """Files by name, which are written once, whole or not at all, and read by any number of workers and machines.

    place: a folder, or an address that fsspec knows, as s3://bucket/cache. Of an address, `folder` is the copy on this machine:
    what is looked for there is fetched once, and what is kept is uploaded. Raises `ConfigError` and `MissingExtraError` for an
    address that cannot be reached.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        self._storage = Storage(self.place) if "://" in self.place else None
        self.folder = Path(self.place) if self._storage is None else _copies() / _digest(self._storage.address)

    def __str__(self) -> str:
        return self.place

    def part(self, name: str) -> Cache:
        """Return the entries of a folder in this one."""
        return Cache(f"{self.place.rstrip('/')}/{name}")

    def find(self, name: str) -> Path:
        """Return where an entry is on this machine, if it is anywhere. Raises `DvccError` when the storage cannot be read."""
        path = self.folder / name
        if self._storage is not None and not path.is_file():
            with suppress(FileNotFoundError), self._storage.open(name) as file:
                write_atomic(path, file.read())
        return path

    def keep(self, name: str, data: bytes) -> None:
        """Write an entry. Raises `DvccError` when that fails."""
        write_atomic(self.folder / name, data)
        if self._storage is not None:
            self._storage.upload(self.folder / name, name)

    def check_writable(self) -> None:
        """Raise `DvccError` unless an entry can be kept: before the hours of work that make some."""
        check_writable(self.folder, key="data.cache")
        if self._storage is not None:
            self._storage.check_writable()


def _copies() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dvcc" / "storage"


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]
