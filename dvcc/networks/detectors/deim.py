"""RT-DETR, D-FINE and DEIM as their own scripts export them: three outputs, nothing left to decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, fixed_rows, one_hot, within
from dvcc.networks.feed import Feed, NetworkOptions

_ROWS = 300


class Deim(Layout):
    """Labels [1, N], boxes [1, N, 4], scores [1, N], in any order.

    Class numbers, and corners in pixels of what the second input `orig_target_sizes` says, which is given the canvas. Without
    that input the corners are pixels of the canvas.
    """

    name = "deim"
    form = "labels [1, N], boxes [1, N, 4], scores [1, N] (RT-DETR, D-FINE, DEIM)"
    feed = Feed()
    suppress = False

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return len(answers) == 3 and _order(answers) is not None

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        labels, _, scores = (answers[i] for i in _order(answers) or ())
        return within(scores) and bool((labels >= 0).all())

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return options.classes or 80

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        labels, boxes, scores = (answers[i] for i in _order(answers) or ())
        hot = one_hot(labels, scores, num_classes, xp, what="the network")
        return fixed_rows(boxes, _ROWS, xp), fixed_rows(hot, _ROWS, xp)


def _order(answers: Sequence[Any]) -> tuple[int, int, int] | None:
    """Where labels, boxes and scores are; None where they are not these."""
    boxes = [i for i, value in enumerate(answers) if value.ndim == 3 and value.shape[2] == 4]
    flat = [i for i, value in enumerate(answers) if value.ndim == 2]
    if len(boxes) != 1 or len(flat) != 2 or any(answers[i].shape[1] != answers[boxes[0]].shape[1] for i in flat):
        return None
    whole = [i for i in flat if "int" in str(answers[i].dtype)]
    if len(whole) != 1:
        return None
    return whole[0], boxes[0], next(i for i in flat if i != whole[0])
