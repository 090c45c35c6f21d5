"""Decoded samples on disk: what a training would decode again at every step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dvcc._files import write_atomic


class SampleStore:
    """Named tensors by key, one safetensors file each, read as memory maps: pages that nobody looks at are not read.

    Files are written atomically, so any number of workers can share a folder; one that is not whole is made again. folder: None
    keeps nothing, and everything is made at every call.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, words: list[object], make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return what `make()` returns, from the store when it is there. words: all that it depends on, by their repr."""
        if self.folder is None:
            return make()
        path = self.path(words)
        if (stored := _read(path)) is None:
            made = {name: tensor.contiguous() for name, tensor in make().items()}
            write_atomic(path, save(made))
            stored = _read(path) or made  # a folder that is lost by now
        return stored

    def has(self, words: list[object]) -> bool:
        """Whether `get` would find a whole entry."""
        return self.folder is not None and _read(self.path(words)) is not None

    def path(self, words: list[object]) -> Path:
        """Where the entry of these words is, or will be."""
        assert self.folder is not None
        key = hashlib.sha256(repr(words).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.safetensors"


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError):  # not there, or cut off
        return None
