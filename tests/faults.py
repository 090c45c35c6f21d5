"""A disk that fails: the n-th time that a program asks it to take something, and from then on."""

from __future__ import annotations

import builtins
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class FailingDisk:
    """Refuses what is written to the folders `within`, from the operation number `at` on; None: counts alone.

    Operations are: making a folder, opening a file to write, each write, its close, its mode, its name. Reading and removing
    work. Files of FFmpeg and of encoders do not go through Python.
    """

    def __init__(self, within: list[Path], *, number: int, at: int | None = None) -> None:
        self.within, self.number, self.at, self.count = [str(path) for path in within], number, at, 0

    def ask(self, path: Any) -> None:
        """Count an operation; raise `OSError` for one that fails."""
        if not isinstance(path, (str, os.PathLike)) or not os.path.abspath(path).startswith(tuple(self.within)):
            return
        self.count += 1
        if self.at is not None and self.count > self.at:
            raise OSError(self.number, os.strerror(self.number), str(path))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it between the program and the system."""
        for name in ("mkdir", "chmod", "replace", "rename"):
            monkeypatch.setattr(os, name, self._asked(getattr(os, name)))
        original_open, original_os_open, original_fdopen = io.open, os.open, os.fdopen
        descriptors: dict[int, str] = {}

        def os_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.ask(path)
            descriptor = original_os_open(path, flags, *arguments, **options)
            descriptors[descriptor] = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
            return descriptor

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            writes = bool(set(mode) & set("wax+"))
            if writes:
                self.ask(file)
            handle = original_open(file, mode, *arguments, **options)
            name = descriptors.get(file, "") if isinstance(file, int) else file
            return _FailingFile(handle, lambda: self.ask(name)) if writes else handle

        def fdopen(descriptor: int, *arguments: Any, **options: Any) -> Any:
            name = descriptors.get(descriptor, "")
            return _FailingFile(original_fdopen(descriptor, *arguments, **options), lambda: self.ask(name))

        monkeypatch.setattr(os, "open", os_open)
        monkeypatch.setattr(os, "fdopen", fdopen)
        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(tempfile._io, "open", opened)

    def _asked(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(path: Any, *arguments: Any, **options: Any) -> Any:
            self.ask(arguments[0] if arguments and isinstance(arguments[0], (str, os.PathLike)) else path)
            return original(path, *arguments, **options)

        return operation


class _FailingFile:
    """An open file whose writes and close ask first; a failing close closes all the same, as the system does."""

    def __init__(self, file: Any, ask: Callable[[], None]) -> None:
        self._file, self._ask = file, ask

    def write(self, data: Any) -> Any:
        self._ask()
        return self._file.write(data)

    def close(self) -> None:
        was_open = not self._file.closed
        self._file.close()
        if was_open:
            self._ask()

    def __enter__(self) -> _FailingFile:
        self._file.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
