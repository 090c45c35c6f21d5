"""FastestDet: one grid of cells, each with an objectness, a box and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, grid, sides_of, within
from dvcc.networks.feed import Feed, NetworkOptions, sigmoid

OBJECTNESS_POWER, CLASS_POWER = 0.6, 0.4


class FastestDet(Layout):
    """[1, 5 + classes, h, w]: the objectness, four numbers that place the box, the probabilities of the classes.

    Centre = (cell + tanh) / grid, size = sigmoid, score = objectness^0.6 class^0.4.
    """

    name = "fastestdet"
    form = "[1, 5 + classes, h, w] (FastestDet)"
    feed = Feed(colours="bgr")
    object_score = 0.6

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 4 and answers[0].shape[1] >= 6

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return within(answers[0][:, 0]) and within(answers[0][:, 5:])

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return answers[0].shape[1] - 5

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        cells = answers[0].reshape(*answers[0].shape[:2], -1).swapaxes(1, 2)
        corners = place(answers[0][:, 1:5], xp) * sides_of(canvas, cells, xp)
        return corners, cells[..., :1] ** OBJECTNESS_POWER * cells[..., 5:] ** CLASS_POWER


def is_fastestdet(answers: np.ndarray) -> bool:
    """Whether answers (N, 5 + C, h, w) can be nothing else: after the first five numbers come probabilities that sum to 1."""
    classes = answers[:, 5:]
    return classes.shape[1] > 1 and bool((classes >= 0).all()) and bool((abs(classes.sum(1) - 1) < 1e-3).all())


def place(boxes: Any, xp: Any) -> Any:
    """Corners (N, h w, 4) as shares of the sides, from the four numbers (N, 4, h, w) that place every cell's box."""
    rows, columns = boxes.shape[-2:]
    numbers = boxes.reshape(*boxes.shape[:2], -1).swapaxes(1, 2)
    cells = xp.asarray(grid((rows, columns), (1,))[:, :2], device=boxes.device)
    counts = xp.asarray(np.array([columns, rows], np.float32), device=boxes.device)
    centre = (cells + xp.tanh(numbers[..., :2])) / counts
    half = sigmoid(numbers[..., 2:], xp) / 2
    return xp.clip(xp.concat([centre - half, centre + half], axis=-1), 0.0, 1.0)
