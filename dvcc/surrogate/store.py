"""Decoded samples on disk: what a training would decode again at every step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dvcc._cache import Cache


class SampleStore:
    """Named tensors by key, one safetensors file each, read as memory maps: pages that nobody looks at are not read.

    Files are written atomically, so any number of workers can share a folder; one that is not whole is made again. place: of a
    `Cache`, a folder or an address; None keeps nothing, and everything is made at every call.
    """

    def __init__(self, place: str | Path | Cache | None) -> None:
        self.entries = Cache(place) if isinstance(place, (str, Path)) else place

    def get(self, words: list[object], make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return what `make()` returns, from the store when it is there. words: all that it depends on, by their repr."""
        if self.entries is None:
            return make()
        name = _name(words)
        if (stored := _read(self.entries.find(name))) is None:
            made = {name: tensor.contiguous() for name, tensor in make().items()}
            self.entries.keep(name, save(made))
            stored = _read(self.entries.find(name)) or made  # a folder that is lost by now
        return stored

    def has(self, words: list[object]) -> bool:
        """Whether `get` would find a whole entry."""
        return self.entries is not None and _read(self.path(words)) is not None

    def path(self, words: list[object]) -> Path:
        """Where the entry of these words is on this machine, or will be."""
        assert self.entries is not None
        return self.entries.find(_name(words))


def _name(words: list[object]) -> str:
    key = hashlib.sha256(repr(words).encode()).hexdigest()
    return f"{key[:2]}/{key}.safetensors"


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError):  # not there, or cut off
        return None
