"""What a control sees of an analysis encode: how much each macroblock has lost of the task's answer when x264 codes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from dvcc.clip import Matrix
from dvcc.media.format import Planes

NUM_PLANES = 3
_LARGEST_SHARE = 8.0  # of a macroblock in the mean degradation; a few have a hundred times the mean


class Lost(NamedTuple):
    """Return the degradation of the task and the coding error of one look, by macroblock (h, w).

    The degradation is 0 or more; the error is the log of the mean absolute one, 0..1.
    """

    degradation: np.ndarray
    log_error: np.ndarray


class Reader(Protocol):
    """Who says what coded pictures have lost: a network that lies beside a control, or a task.

    name: of the network, for what is printed. frames: how many neighbouring pictures one look takes: 2 of a task that compares
    them, as optical flow.
    """

    @property
    def name(self) -> str: ...

    @property
    def frames(self) -> int: ...

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """Return the mean of what so many stored 4:2:0 pictures have lost; a player turns them anticlockwise by quarters."""


def analysis_planes(degradation: np.ndarray, log_error: np.ndarray, *, gop: int) -> np.ndarray:
    """Return float32 (T, 3, h, w) for what T coded frames have lost, see `Lost`, both (T, h, w).

    The planes are the root of the degradation relative to the picture's mean, the same up to 8, and the error. They are means
    over a GOP of `gop` frames, the same in all of them: a control says where to spend, and x264 when.
    """
    lost, error = _over_gops(degradation, gop), _over_gops(log_error, gop)
    share = lost / np.maximum(lost.mean((1, 2), keepdims=True), 1e-6)
    planes = [np.sqrt(share) - 1, share.clip(0, _LARGEST_SHARE) / 2 - 0.5, (error + 4) / 2]
    return np.stack(planes, 1).astype(np.float32)


def _over_gops(values: np.ndarray, gop: int) -> np.ndarray:
    """Return values (T, h, w) with each frame's replaced by the mean over its GOP."""
    parts = [values[start : start + gop] for start in range(0, len(values), gop)]
    return np.concatenate([np.broadcast_to(part.mean(0), part.shape) for part in parts])
