"""NanoDet and PicoDet: the heads of generalised focal loss, whose sides are distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dvcc.networks.detectors.base import Layout, Size, grid, within
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions, softmax

_STRIDES = ((8, 16, 32, 64), (8, 16, 32))  # NanoDet-Plus and PicoDet; NanoDet-m
_BINS = (8, 11)  # of a side's distribution: 0..7 strides, or 0..10


class Picodet(Layout):
    """For every stride 8, 16, 32, 64 the scores [1, cells, classes], then for every stride the sides [1, cells, 4 x 8].

    Sides are logits of a distribution over 0..7 strides from the cell's centre to the left, top, right and bottom.
    """

    name = "picodet"
    form = "scores [1, cells, classes] and sides [1, cells, 4 x 8] for every stride (PicoDet)"
    feed = Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD)
    offset: ClassVar[float] = 0.5
    """Offset of a cell's centre from its corner, in strides."""

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        if len(answers) < 6 or any(value.ndim != 3 for value in answers):
            return False
        scores, sides = _halves(answers)
        strides = _strides_of(canvas, sum(value.shape[1] for value in scores))
        return (
            strides is not None
            and [value.shape[1] for value in scores] == [value.shape[1] for value in sides]
            and len({value.shape[2] for value in scores}) == 1
            and {value.shape[2] for value in sides} <= {4 * bins for bins in _BINS}
        )

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        return all(within(value) for value in _halves(answers)[0])

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return _halves(answers)[0][0].shape[2]

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        scores, sides = (xp.concat(half, axis=1) for half in _halves(answers))
        return _corners(sides, canvas, self.offset, xp), scores


class Nanodet(Layout):
    """[1, cells, classes + 4 x 8]: scores and sides of every cell, the centre at the cell's corner."""

    name = "nanodet"
    form = "[1, cells, classes + 4 x 8] (NanoDet)"
    feed = Feed(colours="bgr", range=255, mean=(103.53, 116.28, 123.675), deviation=(57.375, 57.12, 58.395))

    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        if len(answers) != 1 or answers[0].ndim != 3:
            return False
        return _strides_of(canvas, answers[0].shape[1]) is not None and answers[0].shape[2] > 4 * _BINS[0]

    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        classes = _classes(answers[0])
        return within(answers[0][..., :classes]) and not within(answers[0][..., classes:])

    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        return _classes(answers[0])

    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        return _corners(answers[0][..., num_classes:], canvas, 0.0, xp), answers[0][..., :num_classes]


def _classes(rows: np.ndarray) -> int:
    """Those whose values are scores in every row: the distribution's logits leave 0..1."""
    counts = [rows.shape[2] - 4 * bins for bins in _BINS if rows.shape[2] > 4 * bins]
    return next((count for count in counts if within(rows[..., :count])), counts[0])


def _halves(answers: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Scores and sides of every stride, the finest first, whether the file groups them by kind or by stride."""
    middle = len(answers) // 2
    if len(answers) % 2 == 0 and answers[0].shape[1] == answers[1].shape[1] != answers[2].shape[1]:
        return list(answers[::2]), list(answers[1::2])
    return list(answers[:middle]), list(answers[middle:])


def _strides_of(canvas: Size, cells: int) -> tuple[int, ...] | None:
    return next((strides for strides in _STRIDES if len(grid(canvas, strides)) == cells), None)


def _corners(sides: Any, canvas: Size, offset: float, xp: Any) -> Any:
    """Corners (N, cells, 4) in pixels of sides (N, cells, 4 x bins)."""
    strides = _strides_of(canvas, sides.shape[1])
    assert strides is not None  # `shaped`
    cells = xp.asarray(grid(canvas, strides), device=sides.device)
    bins = sides.shape[2] // 4
    numbers = xp.asarray(np.arange(bins, dtype=np.float32), device=sides.device)
    away = (softmax(sides.reshape(*sides.shape[:2], 4, bins), xp) * numbers).sum(-1) * cells[:, 2:]
    centre = (cells[:, :2] + offset) * cells[:, 2:]
    return xp.concat([centre - away[..., :2], centre + away[..., 2:]], axis=-1)
