"""YOLO-NAS and its kin before suppression: boxes and scores apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, in_pixels, within
from dvcc.networks.detectors.queries import boxes_and_classes
from dvcc.networks.feed import Feed, NetworkOptions


class YoloNas(Layout):
    """Boxes [1, N, 4] and scores [1, N, classes], in any order: corners in pixels of the canvas."""

    name = "yolo_nas"
    form = "boxes [1, N, 4] as corners in pixels, scores [1, N, classes] (YOLO-NAS)"
    feed = Feed(resize="letterbox")

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return boxes_and_classes(answers) is not None

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        corners, scores = (answers[i] for i in boxes_and_classes(answers) or ())
        sides = np.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1)
        return in_pixels(sides) and within(scores)

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        _, scores = (answers[i] for i in boxes_and_classes(answers) or ())
        return scores.shape[-1]

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        corners, scores = (answers[i] for i in boxes_and_classes(answers) or ())
        return corners, scores
