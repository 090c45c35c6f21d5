"""Detectors of TensorFlow's Object Detection API, as tf2onnx exports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, fixed_rows, one_hot_from_one, sides_of, within
from dvcc.networks.feed import Feed, NetworkOptions

_ROWS = 100


class Tensorflow(Layout):
    """Boxes [1, N, 4], scores [1, N] and class numbers [1, N], all float.

    Boxes are top, left, bottom, right as shares of the canvas; class numbers count from 1. Without `task.classes` they are COCO's
    1..90. The outputs are known by their names, since others stand beside them.
    """

    name = "tensorflow"
    form = "detection_boxes [1, N, 4], detection_scores [1, N], detection_classes [1, N] (TensorFlow's Object Detection API)"
    outputs = ("detection_boxes", "detection_scores", "detection_classes")
    feed = Feed()
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        if len(answers) != 3 or any(value.dtype.kind != "f" for value in answers):
            return False
        boxes, scores, labels = answers
        return boxes.ndim == 3 and boxes.shape[2] == 4 and scores.shape == labels.shape == boxes.shape[:2]

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        boxes, scores, labels = answers
        return within(scores) and within(boxes, -1.0, 2.0) and bool((labels == np.rint(labels)).all() and (labels >= 0).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        boxes, scores, labels = answers
        corners = boxes[..., [1, 0, 3, 2]] * sides_of(canvas, boxes, xp)
        return fixed_rows(corners, _ROWS, xp), fixed_rows(one_hot_from_one(labels, scores, num_classes, xp), _ROWS, xp)
