"""A clip in RGB: what is coded as 4:4:4."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dvcc.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, repr=False)
class RGBClip:
    """Frames in RGB, 8 bit, of any size, odd ones too: what is coded as 4:4:4.

    frames: uint8 (T, 3, H, W). fps: frames per second. Raises `ConfigError` for another type or shape.
    """

    frames: torch.Tensor
    fps: Fraction

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[1] != 3 or "uint8" not in str(self.frames.dtype):
            raise ConfigError(f"RGBClip takes uint8 (T, 3, H, W), got {self.frames.dtype} {tuple(self.frames.shape)}")
        object.__setattr__(self, "fps", Fraction(self.fps))

    @property
    def num_frames(self) -> int:
        """Return the number of frames, T."""
        return self.frames.shape[0]

    @property
    def height(self) -> int:
        """Return the number of rows, H."""
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        """Return the number of columns, W."""
        return self.frames.shape[3]

    def __repr__(self) -> str:
        return f"RGBClip(frames={self.num_frames}, size={self.height}x{self.width}, fps={float(self.fps):g})"

    def rgb(self, t: int) -> np.ndarray:
        """Return frame `t`, uint8 (H, W, 3)."""
        return np.ascontiguousarray(self.frames[t].permute(1, 2, 0).numpy())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the pixels and fps: the content half of every cache key."""
        state = hashlib.sha256(repr(("rgb", tuple(self.frames.shape), self.fps)).encode())
        state.update(self.frames.contiguous().numpy().data)
        return state.hexdigest()
