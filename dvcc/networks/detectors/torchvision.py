"""torchvision's detectors as `torch.onnx` exports them: one picture, boxes, labels and scores of those that were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, fixed_rows, one_hot_from_one, within
from dvcc.networks.feed import Feed, NetworkOptions

_ROWS = 100


class Torchvision(Layout):
    """Boxes [M, 4], labels [M] and scores [M] of one picture, in any order.

    Corners in pixels, class numbers from 1 on. Masks or key points after them are not looked at. Without `task.classes` the
    numbers are COCO's 1..90.
    """

    name = "torchvision"
    form = "boxes [M, 4], labels [M], scores [M] (torchvision)"
    feed = Feed()
    suppress = False
    object_score = 0.6
    batched = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) >= 3 and _order(answers) is not None

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        _, _, scores = (answers[i] for i in _order(answers) or ())
        return within(scores)

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        boxes, labels, scores = (answers[i] for i in _order(answers) or ())
        hot = one_hot_from_one(labels, scores, num_classes, xp)
        return fixed_rows(boxes[None], _ROWS, xp), fixed_rows(hot[None], _ROWS, xp)


def _order(answers: Sequence[Any]) -> tuple[int, int, int] | None:
    """Where boxes, labels and scores are; None where they are not these."""
    boxes = [i for i, value in enumerate(answers) if value.ndim == 2 and value.shape[1] == 4]
    flat = [i for i, value in enumerate(answers) if value.ndim == 1]
    labels = [i for i in flat if "int" in str(answers[i].dtype)]
    scores = [i for i in flat if i not in labels]
    return (boxes[0], labels[0], scores[0]) if boxes and labels and scores else None
