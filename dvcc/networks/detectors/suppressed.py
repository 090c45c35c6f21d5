"""Detectors whose files suppress by themselves and answer boxes with scores: MMDetection's, and YOLOv7's `--end2end`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, fixed_rows, one_hot, within
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions

_ROWS = 300


class Mmdetection(Layout):
    """Boxes with scores [1, N, 5] and labels [1, N], in any order: corners in pixels of the canvas, then the score; class
    numbers. Rows of score 0 fill up, with corners and labels of 0 or -1."""

    name = "mmdetection"
    form = "boxes with scores [1, N, 5], labels [1, N] (MMDetection by mmdeploy)"
    feed = Feed(resize="letterbox_corner", mean=IMAGENET_MEAN, deviation=IMAGENET_STD, padding=sum(IMAGENET_MEAN) / 3)
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return _order(answers) is not None

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        boxes, labels = (answers[i] for i in _order(answers) or ())
        return within(boxes[..., 4]) and bool((labels >= -1).all()) and bool((boxes[..., 2] >= boxes[..., 0]).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        boxes, labels = (answers[i] for i in _order(answers) or ())
        hot = one_hot(labels, boxes[..., 4], num_classes, xp, what="the network")
        return fixed_rows(boxes[..., :4], _ROWS, xp), fixed_rows(hot, _ROWS, xp)


class Yolov7(Layout):
    """[M, 7], one row for each box: number of the picture, corners in pixels of the canvas, class number, score."""

    name = "yolov7_end2end"
    form = "[M, 7], picture, corners, class, score (YOLOv7 with --end2end)"
    feed = Feed(resize="letterbox")
    suppress = False
    batched = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 2 and answers[0].shape[1] == 7

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        rows = answers[0]
        numbers = rows[:, [0, 5]]
        whole = bool((numbers == np.rint(numbers)).all() and (numbers >= 0).all())
        return whole and within(rows[:, 6]) and bool((rows[:, 3] >= rows[:, 1]).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = answers[0][None]
        hot = one_hot(rows[..., 5], rows[..., 6], num_classes, xp, what="the network")
        return fixed_rows(rows[..., 1:5], _ROWS, xp), fixed_rows(hot, _ROWS, xp)


def _order(answers: Sequence[Any]) -> tuple[int, int] | None:
    """Where boxes and labels are; None where they are not these."""
    if len(answers) != 2:
        return None
    for boxes, labels in ((0, 1), (1, 0)):
        rows, numbers = answers[boxes], answers[labels]
        if (
            rows.ndim == 3
            and rows.shape[2] == 5
            and tuple(numbers.shape) == tuple(rows.shape[:2])
            and "int" in str(numbers.dtype)
        ):
            return boxes, labels
    return None
