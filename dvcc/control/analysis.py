"""What a control sees of an analysis encode: how much each macroblock has lost of the task's answer when x264 codes by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.eyes import EYES, Eyes, load_eyes
from dvcc.control.eyes.base import shown_size, to_grid
from dvcc.media.format import Planes
from dvcc.units import MACROBLOCK

NUM_PLANES = 3
LONGEST_SIDE = 512
"""Pixels of the longer side of what the network that reads an analysis encode is shown."""
_LARGEST_SHARE = 8.0  # of a macroblock in the mean degradation; a few have a hundred times the mean
_LEAST_ERROR = 1e-3


class Lost(NamedTuple):
    """Return the degradation of the task and the coding error of one look, by macroblock (h, w).

    The degradation is 0 or more; the error is the log of the mean absolute one, 0..1.
    """

    degradation: np.ndarray
    log_error: np.ndarray


class Reader(Protocol):
    """Who says what coded pictures have lost: a network that lies beside a control, or a task."""

    @property
    def frames(self) -> int:
        """How many neighbouring pictures one look takes: 2 of a task that compares them, as optical flow."""

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """Return what `frames` 4:2:0 pictures have lost, as they are stored: the mean over them.

        A player turns them anticlockwise by so many quarters.
        """


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


class SegmenterReader:
    """A segmenter that is run by onnxruntime: how much of its class probabilities has moved.

    As `SegmentationTask.degradation` says, at the resolution of its answers and with the classes of one picture.
    """

    frames = 1

    def __init__(self, segmenter: Eyes) -> None:
        self._segmenter = segmenter

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """See `Reader.lost`."""
        height, width = uncoded[0][0].shape
        size = shown_size(height, width, side=LONGEST_SIDE)
        frames = [planar_frame(*planes) for (planes,) in (uncoded, coded)]
        shown = (frame_to_rgb(frame, matrix=matrix, full_range=full_range, size=size) for frame in frames)
        before, after = (self._segmenter.look(np.rot90(rgb, quarter_turns)).maps[0] for rgb in shown)
        moved = np.abs(after - before).sum(0) / 2 * _class_weights(before.argmax(0))
        degradation = to_grid(np.rot90(moved, -quarter_turns)[None], height, width)[0]
        first, second = (frame_to_rgb(frame, matrix=matrix, full_range=full_range).astype(np.int16) for frame in frames)
        error = np.abs(first - second).mean(2, dtype=np.float32) / 255
        return Lost(degradation, np.log(_per_macroblock(error) + _LEAST_ERROR))


def _class_weights(labels: np.ndarray) -> np.ndarray:
    """Return the weight of every pixel, 1 on average: the inverse square root of how many have its label."""
    weights = 1 / np.sqrt(np.bincount(labels.ravel()).clip(1))[labels]
    return weights / weights.mean()


def _per_macroblock(values: np.ndarray) -> np.ndarray:
    """Return the mean (h, w) of values (H, W) over every macroblock; the last ones repeat the edge."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % MACROBLOCK), (0, -width % MACROBLOCK)), mode="edge")
    rows, columns = (side // MACROBLOCK for side in padded.shape)
    return padded.reshape(rows, MACROBLOCK, columns, MACROBLOCK).mean((1, 3))


def has_reader(model: str) -> bool:
    """Whether the network `task.model` can lie beside a control and read analysis encodes there."""
    kind = EYES.get(model)
    return kind is not None and kind.segments


def load_reader(settings: Mapping[str, Any], *, beside: Sequence[Path], control: str) -> Reader | None:
    """Return what reads analysis encodes for a control, by what it stores of it, see `load_eyes`; None: its task does."""
    return SegmenterReader(load_eyes(settings, beside=beside, control=control)) if settings else None
