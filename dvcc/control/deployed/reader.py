"""The segmenter that lies beside a control and reads analysis encodes, by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.analysis import Lost, Reader
from dvcc.control.eyes import EYES, Eyes, load_eyes
from dvcc.control.eyes.base import shown_size, to_grid
from dvcc.media.format import Planes
from dvcc.units import MACROBLOCK

LONGEST_SIDE = 512
"""Pixels of the longer side of what the network that reads an analysis encode is shown."""
_LEAST_ERROR = 1e-3


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
