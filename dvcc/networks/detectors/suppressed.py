"""Detectors whose files suppress by themselves: MMDetection's, YOLOv7's `--end2end`, PaddleDetection's, and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, fixed_rows, one_hot, within
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions

_ROWS = 300


class Mmdetection(Layout):
    """Boxes with scores [1, N, 5] and labels [1, N], in any order.

    Corners in pixels of the canvas, then the score; class numbers. Rows of score 0 fill up, with corners and labels of 0 or -1.
    """

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


class BatchedNms(Layout):
    """Counts [1, 1], boxes [1, N, 4], scores [1, N], class numbers [1, N], in any order: corners in pixels of the canvas.

    What follows the counted boxes of a picture is no box.
    """

    name = "batched_nms"
    form = "counts [1, 1], boxes [1, N, 4], scores [1, N], classes [1, N] (SuperGradients, EfficientNMS)"
    feed = Feed(resize="letterbox")
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return _quartet(answers) is not None

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        counts, boxes, scores, labels = (answers[i] for i in _quartet(answers) or ())
        counted = np.arange(boxes.shape[1]) < counts.reshape(-1, 1)
        return bool((counts >= 0).all() and (labels[counted] >= 0).all()) and within(scores[counted])

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        counts, boxes, scores, labels = (answers[i] for i in _quartet(answers) or ())
        counted = xp.arange(boxes.shape[1], device=boxes.device) < counts.reshape(-1, 1)
        hot = one_hot(xp.where(counted, labels, 0 * labels), scores * counted, num_classes, xp, what="the network")
        return fixed_rows(boxes, _ROWS, xp), fixed_rows(hot, _ROWS, xp)


class Yolov7(Layout):
    """[M, 7], one row for each box: number of the picture, corners in pixels of the canvas, class number, score."""

    label, score = 5, 6
    """Columns of the class number and of the score."""

    name = "yolov7_end2end"
    form = "[M, 7], picture, corners, class, score (YOLOv7 with --end2end)"
    feed = Feed(resize="letterbox")
    suppress = False
    batched = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 2 and answers[0].shape[1] == 7

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        rows = answers[0]
        numbers = rows[:, [0, self.label]]
        whole = bool((numbers == np.rint(numbers)).all() and (numbers >= 0).all())
        return whole and within(rows[:, self.score]) and bool((rows[:, 3] >= rows[:, 1]).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = answers[0]
        rows = rows[rows[:, 0] == 0][None]  # of the picture: what fills up a fixed batch comes after it
        hot = one_hot(rows[..., self.label], rows[..., self.score], num_classes, xp, what="the network")
        return fixed_rows(rows[..., 1:5], _ROWS, xp), fixed_rows(hot, _ROWS, xp)


class FlatNms(Yolov7):
    """The same with the score before the class number. Without a box, the two forms are one, so it has to be named."""

    name = "flat_nms"
    form = "[M, 7], picture, corners, score, class (SuperGradients, flat)"
    named_only = True
    label, score = 6, 5


class Paddle(Layout):
    """[M, 6], one row for each box, and their number: class number, score, corners in pixels of the canvas.

    Rows of class -1 are no boxes. The further inputs `im_shape` and `scale_factor` are given the canvas, and 1.
    """

    name = "paddle"
    form = "[M, 6], class, score, corners, and their number [1] (PaddleDetection)"
    feed = Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD)
    suppress = False
    batched = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return answers[0].ndim == 2 and answers[0].shape[1] == 6 and all(value.ndim == 1 for value in answers[1:])

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        labels, scores, corners = answers[0][:, 0], answers[0][:, 1], answers[0][:, 2:]
        whole = bool((labels == np.rint(labels)).all() and (labels >= -1).all())
        return whole and within(scores[labels >= 0]) and bool((corners[:, 2] >= corners[:, 0]).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = answers[0][None]
        hot = one_hot(rows[..., 0], rows[..., 1], num_classes, xp, what="the network")
        return fixed_rows(rows[..., 2:], _ROWS, xp), fixed_rows(hot, _ROWS, xp)


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


def _quartet(answers: Sequence[Any]) -> tuple[int, int, int, int] | None:
    """Where counts, boxes, scores and labels are; None where they are not these."""
    boxes = [i for i, value in enumerate(answers) if value.ndim == 3 and value.shape[2] == 4]
    if len(answers) != 4 or len(boxes) != 1:
        return None
    shape = tuple(answers[boxes[0]].shape[:2])
    flat = [i for i, value in enumerate(answers) if tuple(value.shape) == shape]
    counts = [i for i, value in enumerate(answers) if tuple(value.shape) in (shape[:1], (shape[0], 1)) and i not in flat]
    labels = [i for i in flat if "int" in str(answers[i].dtype)]
    if len(flat) != 2 or len(counts) != 1 or len(labels) != 1:
        return None
    return counts[0], boxes[0], next(i for i in flat if i not in labels), labels[0]
