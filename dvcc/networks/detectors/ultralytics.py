"""YOLOv8, YOLO11 and their kin, as Ultralytics exports them: one column per cell, decoded boxes and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, corners_of, grid, in_pixels, within
from dvcc.networks.feed import Feed, NetworkOptions

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # as trained; with another for large objects, or for small ones


class Ultralytics(Layout):
    """[1, 4 + classes, N]: centre, width and height in pixels of the canvas, then the scores of the classes.

    A segmentation model of the family has 32 coefficients of masks after the scores, and a second output [1, 32, h, w]. Key
    points, or the angle of an oriented box, follow the scores too: `task.classes` says where they begin, and a box counts as
    if it were upright.
    """

    name = "ultralytics"
    form = "[1, 4 + classes, N] (YOLOv8, YOLO11)"
    feed = Feed(resize="letterbox")
    advice = "set task.classes where key points or an angle follow the scores"

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        if not answers or answers[0].ndim != 3 or _cells_first(answers[0], canvas):
            return False
        masks = _masks(answers)
        return (len(answers) == 1 or (len(answers) == 2 and masks > 0)) and answers[0].shape[1] >= 5 + masks

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return in_pixels(answers[0][:, :4].swapaxes(1, 2)) and within(_scores(answers))

    def of_classes(self, answers: Sequence[np.ndarray], classes: int | None) -> Sequence[np.ndarray]:
        return [answers[0][:, : 4 + classes]] if classes else answers

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        there = answers[0].shape[1] - 4 - _masks(answers)
        return min(there, options.classes or there)

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        return _rows(answers[0].swapaxes(1, 2), num_classes, xp)


class UltralyticsRows(Layout):
    """The same as rows, [1, N, 4 + classes], as exports with a transposition have it."""

    name = "ultralytics_rows"
    form = "[1, N, 4 + classes], boxes in pixels, no objectness (YOLOv8 and YOLO11, transposed)"
    feed = Ultralytics.feed
    named_only = True

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 3 and answers[0].shape[2] >= 5

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return in_pixels(answers[0]) and within(answers[0][..., 4:])

    def of_classes(self, answers: Sequence[np.ndarray], classes: int | None) -> Sequence[np.ndarray]:
        return [answers[0][..., : 4 + classes]] if classes else answers

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        there = answers[0].shape[2] - 4
        return min(there, options.classes or there)

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        return _rows(answers[0], num_classes, xp)


def _rows(rows: Any, num_classes: int, xp: Any) -> tuple[Any, Any]:
    """Corners and scores of rows (N, cells, 4 + classes ..)."""
    return corners_of(rows[..., :4], xp), rows[..., 4 : 4 + num_classes]


def _cells_first(answer: np.ndarray, canvas: Size) -> bool:
    """Whether the cells of a canvas are the second axis of an answer, and not the third.

    As many classes as cells are possible, too: then its columns are boxes in pixels, and scores.
    """
    counts = {len(grid(canvas, strides)) for strides in _STRIDES}
    if answer.shape[1] not in counts or answer.shape[2] in counts:
        return False
    return not (in_pixels(answer[:, :4].swapaxes(1, 2)) and within(answer[:, 4:]))


def _masks(answers: Sequence[Any]) -> int:
    """How many coefficients of masks a column has."""
    return answers[1].shape[1] if len(answers) == 2 and answers[1].ndim == 4 else 0


def _scores(answers: Sequence[np.ndarray]) -> np.ndarray:
    return answers[0][:, 4 : answers[0].shape[1] - _masks(answers)]
