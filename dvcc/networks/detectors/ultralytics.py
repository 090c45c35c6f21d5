"""YOLOv8, YOLO11 and their kin, as Ultralytics exports them: one column per cell, decoded boxes and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, corners_of, in_pixels, within
from dvcc.networks.feed import Feed, NetworkOptions


class Ultralytics(Layout):
    """[1, 4 + classes, N]: centre, width and height in pixels of the canvas, then the scores of the classes.

    A segmentation model of the family has 32 coefficients of masks after the scores, and a second output [1, 32, h, w].
    """

    name = "ultralytics"
    form = "[1, 4 + classes, N] (YOLOv8, YOLO11)"
    feed = Feed(resize="letterbox")

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        if not answers or answers[0].ndim != 3:
            return False
        masks = _masks(answers)
        return (len(answers) == 1 or (len(answers) == 2 and masks > 0)) and answers[0].shape[1] >= 5 + masks

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return in_pixels(answers[0][:, :4].swapaxes(1, 2)) and within(_scores(answers))

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return answers[0].shape[1] - 4 - _masks(answers)

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        columns = answers[0].swapaxes(1, 2)
        return corners_of(columns[..., :4], xp), columns[..., 4 : 4 + num_classes]


def _masks(answers: Sequence[Any]) -> int:
    """How many coefficients of masks a column has."""
    return answers[1].shape[1] if len(answers) == 2 and answers[1].ndim == 4 else 0


def _scores(answers: Sequence[np.ndarray]) -> np.ndarray:
    return answers[0][:, 4 : answers[0].shape[1] - _masks(answers)]
