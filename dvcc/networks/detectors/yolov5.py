"""YOLOv5 and whatever else answers decoded boxes, an objectness and classes, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, corners_of, in_pixels, within
from dvcc.networks.feed import Feed, NetworkOptions


class Yolov5(Layout):
    """[1, N, 5 + classes]: centre, width and height in pixels of the canvas, the objectness, then the classes.

    A score is the product of objectness and class. YOLOX exports of other settings have the same form, so it has to be named.
    """

    name = "yolov5"
    form = "[1, N, 5 + classes], boxes in pixels (YOLOv5, v6, v7)"
    feed = Feed(resize="letterbox")
    named_only = True

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 3 and answers[0].shape[2] >= 6

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return in_pixels(answers[0]) and within(answers[0][..., 4:])

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return answers[0].shape[2] - 5

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = answers[0]
        return corners_of(rows[..., :4], xp), rows[..., 4:5] * rows[..., 5:]


class YoloxDecoded(Yolov5):
    """YOLOX exported with its boxes decoded: YOLOv5's form, fed as YOLOX is."""

    name = "yolox_decoded"
    form = "[1, N, 5 + classes], boxes in pixels (YOLOX, decoded in the export)"
    feed = Feed(resize="letterbox_corner", colours="bgr", range=255)
