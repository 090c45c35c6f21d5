"""DETR and RF-DETR: one row per object query, boxes as shares and logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, corners_of, of_coco, sides_of, within
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions, sigmoid, softmax

_FEED = Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD)


class RfDetr(Layout):
    """Boxes [1, N, 4] and logits [1, N, classes], in any order.

    Boxes are centre, width and height as shares of the canvas; there is a logit of every class for a sigmoid. 91 classes are
    COCO's numbers.
    """

    name = "rfdetr"
    outputs = ("pred_boxes", "logits")
    form = "boxes [1, N, 4], logits [1, N, classes] (RF-DETR)"
    feed = _FEED
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return boxes_and_classes(answers) is not None

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        boxes, logits = (answers[i] for i in boxes_and_classes(answers) or ())
        return within(boxes) and not within(logits) and not _mostly_nothing(logits)

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        _, logits = (answers[i] for i in boxes_and_classes(answers) or ())
        return of_coco(logits).shape[-1]

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        boxes, logits = (answers[i] for i in boxes_and_classes(answers) or ())
        return corners_of(boxes, xp) * sides_of(canvas, boxes, xp), of_coco(sigmoid(logits, xp))


class Detr(RfDetr):
    """The same with a softmax, whose last class is that of no object."""

    name = "detr"
    form = "boxes [1, N, 4], logits [1, N, classes + 1], the last for no object (DETR)"

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        boxes, logits = (answers[i] for i in boxes_and_classes(answers) or ())
        return within(boxes) and not within(logits) and _mostly_nothing(logits)

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        _, logits = (answers[i] for i in boxes_and_classes(answers) or ())
        return of_coco(logits[..., :-1]).shape[-1]

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        boxes, logits = (answers[i] for i in boxes_and_classes(answers) or ())
        return corners_of(boxes, xp) * sides_of(canvas, boxes, xp), of_coco(softmax(logits, xp)[..., :-1])


class RtDetr(Layout):
    """[1, N, 4 + classes], one row per query: centre, width and height as shares of the canvas, then the scores."""

    name = "rtdetr"
    form = "[1, N, 4 + classes], boxes as shares (RT-DETR by Ultralytics)"
    feed = Feed()
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 3 and answers[0].shape[2] >= 5

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return within(answers[0]) and bool((answers[0][..., 2:4] > 0).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return answers[0].shape[2] - 4

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = answers[0]
        return corners_of(rows, xp) * sides_of(canvas, rows, xp), rows[..., 4:]


def _mostly_nothing(logits: np.ndarray) -> bool:
    """Whether most queries are surest of the last class: DETR's queries are, and nothing else has such a class."""
    return bool((logits.argmax(-1) == logits.shape[-1] - 1).mean() > 0.5)


def boxes_and_classes(answers: Sequence[Any]) -> tuple[int, int] | None:
    """Where boxes [1, N, 4] and a value of every class [1, N, classes] are; None where they are not these."""
    if len(answers) != 2 or any(value.ndim != 3 for value in answers) or answers[0].shape[1] != answers[1].shape[1]:
        return None
    if answers[0].shape[2] == 4:
        return 0, 1
    return (1, 0) if answers[1].shape[2] == 4 else None
