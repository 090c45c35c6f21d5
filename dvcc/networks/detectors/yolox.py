"""YOLOX as its own script exports it: the boxes still relative to their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, corners_of, grid, within
from dvcc.networks.feed import Feed, NetworkOptions

_STRIDES = (8, 16, 32)
_LARGEST_LOG = 10.0  # of a side in strides: more than any picture


class Yolox(Layout):
    """[1, N, 5 + classes], N cells of strides 8, 16 and 32.

    Centre in strides from the cell's corner, logarithms of width and height in strides, the objectness, then the classes.
    """

    name = "yolox"
    form = "[1, N, 5 + classes], boxes relative to cells (YOLOX)"
    feed = Feed(resize="letterbox_corner", colours="bgr", range=255)
    named_only = True

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        if len(answers) != 1 or answers[0].ndim != 3 or answers[0].shape[2] < 6:
            return False
        return answers[0].shape[1] == len(grid(canvas, _STRIDES))

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return within(answers[0][..., 4:]) and within(answers[0][..., 2:4], -_LARGEST_LOG, _LARGEST_LOG)

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return answers[0].shape[2] - 5

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = answers[0]
        cells = xp.asarray(grid(canvas, _STRIDES), device=rows.device)
        centre = (rows[..., :2] + cells[:, :2]) * cells[:, 2:]
        sides = xp.exp(xp.clip(rows[..., 2:4], -_LARGEST_LOG, _LARGEST_LOG)) * cells[:, 2:]
        return corners_of(xp.concat([centre, sides], axis=-1), xp), rows[..., 4:5] * rows[..., 5:]
