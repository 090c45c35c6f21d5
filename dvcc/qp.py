"""QP maps: what is asked of the encoder for every macroblock of every frame."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dvcc._files import write_atomic
from dvcc.errors import ConfigError, VideoError
from dvcc.units import macroblock_grid

if TYPE_CHECKING:
    from dvcc.clip import Clip

MAX_QP = 51

Delivery = Literal["offsets", "map"]
"""How an encoder gets what a control decides: offsets on the encoder's own rate control, or a map of every QP."""

DEFAULT_RUNGS = (2, 10, 16, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 46, 48, 51)
"""QPs of a ladder: every even one where controls live, so that most macroblocks have a rung of their own."""


def _checked(values: object, *, low: int, high: int, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 3 or 0 in array.shape:
        raise ConfigError(
            f"{name} needs values of shape (T, ceil(H/16), ceil(W/16)), got {array.shape}: give one per macroblock and frame"
        )
    if array.dtype.kind not in "iu":
        raise ConfigError(f"{name} needs integers, got {array.dtype}: round the map first, e.g. np.rint(values).astype(int)")
    if array.min() < low or array.max() > high:
        raise ConfigError(f"{name} values go from {low} to {high}, got {array.min()}..{array.max()}: clip the map first")
    array = array.astype(np.int8)
    array.setflags(write=False)
    return array


def fill_skipped_qps(qp: np.ndarray) -> np.ndarray:
    """Return QPs (.., h, w) as read from a bitstream, with skipped macroblocks filled.

    QPs are whole numbers. A macroblock that has its predecessor's (in raster order) gets the mean of the frame's others, rounded.

    A macroblock without residual carries no QP, and what is read there is the last one before it: taken for its own, it makes
    streaks along the rows, and codes finely what was not worth a bit. Nothing tells it from one that was given the same.
    """
    flat = qp.reshape(-1, qp.shape[-2] * qp.shape[-1])
    coded = np.diff(flat, axis=1, prepend=flat[:, :1] - 1) != 0
    means = np.rint((flat * coded).sum(1) / coded.sum(1)).astype(qp.dtype)
    return np.where(coded, flat, means[:, None]).reshape(qp.shape)


class _Grid:
    """What `QPMap` and `QPOffsets` share: a frozen int8 grid (T, h, w)."""

    values: np.ndarray

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((type(self), self.values.shape, self.values.tobytes()))

    def __repr__(self) -> str:
        t, h, w = self.values.shape
        return f"{type(self).__name__}(frames={t}, grid={h}x{w}, {self.values.min()}..{self.values.max()})"

    def check_fits(self, clip: Clip) -> None:
        """Raise `ConfigError` unless there is one value per macroblock and frame of `clip`."""
        want = (clip.num_frames, *macroblock_grid(clip.height, clip.width))
        if self.values.shape != want:
            raise ConfigError(
                f"{type(self).__name__} of shape {self.values.shape} does not fit {clip!r}, which needs {want}: "
                f"one value per 16x16 macroblock and frame"
            )


@dataclass(frozen=True, eq=False, repr=False)
class QPMap(_Grid):
    """Absolute QPs, one per macroblock.

    `values`: int8 (T, ceil(H/16), ceil(W/16)), 0 (finest) to 51 (coarsest). Even values are coded exactly; x264
    may code an odd value next to an even one with its neighbour's QP (never more than 1 off).

    Raises `ConfigError` for a wrong shape, type or range.
    """

    values: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked(self.values, low=0, high=MAX_QP, name="QPMap"))

    @classmethod
    def uniform(cls, qp: int, *, like: Clip) -> QPMap:
        """Return the same `qp` for every macroblock of the clip `like`."""
        return cls(np.full((like.num_frames, *macroblock_grid(like.height, like.width)), qp))

    def save(self, path: str | Path) -> None:
        """Write a NumPy `.npz` with the one array `qp` (int8, (T, h, w)); the file appears whole or not at all."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, qp=self.values)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> QPMap:
        """Read what `save` wrote. Raises `VideoError` if the file is missing, damaged or holds no QP map."""
        try:
            with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as archive:
                return cls(archive["qp"])
        except Exception as error:  # NumPy and its zip file raise a dozen unrelated types for what is damaged
            raise VideoError(f"{path} is not a QP map written by dvcc ({error}): export it again") from error


@dataclass(frozen=True, eq=False, repr=False)
class QPOffsets(_Grid):
    """Offsets on the QPs that x264's own rate control decides; zero offsets change nothing.

    `values`: int8 (T, ceil(H/16), ceil(W/16)), -51 (better) to 51 (worse). Raises `ConfigError` like `QPMap`.
    """

    values: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _checked(self.values, low=-MAX_QP, high=MAX_QP, name="QPOffsets"))
