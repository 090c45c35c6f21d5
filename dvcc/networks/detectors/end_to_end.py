"""Detectors that have suppressed already: YOLOv10, YOLO26, and Ultralytics' exports with `nms=True`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, fixed_rows, one_hot, within
from dvcc.networks.feed import Feed, NetworkOptions

_ROWS = 300


class EndToEnd(Layout):
    """[1, N, 6]: corners in pixels of the canvas, score, class number; rows of score 0 fill up.

    Key points or coefficients of masks may follow.
    """

    name = "end_to_end"
    form = "[1, N, 6], corners, score, class (YOLOv10, YOLO26, nms=True)"
    feed = Feed(resize="letterbox")
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 1 and answers[0].ndim == 3 and answers[0].shape[2] >= 6

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        rows = answers[0]
        whole = bool((rows[..., 5] == np.rint(rows[..., 5])).all())
        return whole and within(rows[..., 4]) and bool((rows[..., 5] > -1).all()) and bool((rows[..., 2] >= rows[..., 0]).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        rows = fixed_rows(answers[0], _ROWS, xp)
        return rows[..., :4], one_hot(rows[..., 5], rows[..., 4], num_classes, xp, what="the network")
