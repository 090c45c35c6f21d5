"""What a layout is: the form in which a family of detectors answers, and how that becomes candidates."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dvcc.errors import CheckpointError
from dvcc.networks.coco import COCO_NUMBERS
from dvcc.networks.feed import Feed, NetworkOptions

_SUPPRESSED_AT_IOU = 0.45
_ROUNDING = 2e-3  # of a half-precision score of 1

Size = tuple[int, int]


class Boxes(NamedTuple):
    """N boxes of one picture, arrays of numpy or tensors of torch.

    corners: (N, 4), left, top, right, bottom as shares 0..1 of the picture's sides; labels: int64 (N,), class numbers; scores:
    (N,), 0..1.
    """

    corners: Any
    labels: Any
    scores: Any


class Layout(AbstractBase):
    """One form of answers. Answers are lists of arrays of numpy or torch (`xp`), each with the pictures as its first axis.

    name: for `task.layout`. form: in words. feed: how its networks are fed as a rule. suppress: whether several candidates may
    mean one object. object_score: from which a candidate counts as an object. batched: whether the answers have an axis of
    pictures; if not, each picture is run by itself. named_only: whether answers of this form could be another layout's too, so
    that a user has to name it. outputs: how exporters name the outputs of this form, in order, where others stand beside them.
    advice: what to set where answers have the form, but not the numbers.
    """

    name: ClassVar[str]
    form: ClassVar[str]
    feed: Feed = Feed()
    suppress: ClassVar[bool] = True
    object_score: ClassVar[float] = 0.4
    batched: ClassVar[bool] = True
    named_only: ClassVar[bool] = False
    outputs: ClassVar[tuple[str, ...]] = ()
    advice: ClassVar[str] = ""

    @abstractmethod
    def shaped(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        """Whether answers have this form, by number, shapes and types alone."""

    @abstractmethod
    def plausible(self, answers: Sequence[np.ndarray], canvas: Size) -> bool:
        """Whether answers of this form have values as this layout's: scores within 0..1, boxes where boxes can be."""

    def of_classes(self, answers: Sequence[np.ndarray], classes: int | None) -> Sequence[np.ndarray]:
        """Return the answers without what follows the scores of so many classes, where it has a place in this form."""
        return answers

    @abstractmethod
    def num_classes(self, answers: Sequence[np.ndarray], options: NetworkOptions) -> int:
        """How many classes there are, by the shapes; or what the user says, where they do not tell."""

    @abstractmethod
    def decode(self, answers: Sequence[Any], canvas: Size, num_classes: int, xp: Any) -> tuple[Any, Any]:
        """(corners (N, M, 4) in pixels of the canvas, scores (N, M, num_classes) 0..1); differentiable if `xp` is torch."""


def within(values: Any, low: float = 0.0, high: float = 1.0) -> bool:
    """Whether all values are in a range, but for rounding; True for none."""
    return not values.size or bool(values.min() >= low - _ROUNDING and values.max() <= high + _ROUNDING)


def corners_of(boxes: Any, xp: Any) -> Any:
    """Corners (.., 4) of boxes (.., 4) of centre x, y, width, height."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return xp.concat([centre - half, centre + half], axis=-1)


def in_pixels(boxes: Any) -> bool:
    """Whether the widths and heights of boxes (.., 4) are pixels, and not shares or logarithms."""
    sides = boxes[..., 2:4]
    return bool(sides.size and sides.min() >= -1 and np.median(sides) > 1)


def grid(canvas: Size, strides: Sequence[int]) -> np.ndarray:
    """(cells, 3): column, row and stride of every cell, row by row, of grids of these strides."""
    parts = []
    for stride in strides:
        rows, columns = (-(-side // stride) for side in canvas)
        row, column = np.divmod(np.arange(rows * columns), columns)
        parts.append(np.stack([column, row, np.full(rows * columns, stride)], 1))
    return np.concatenate(parts).astype(np.float32)


def one_hot(labels: Any, scores: Any, num_classes: int, xp: Any, *, what: str) -> Any:
    """Scores (.., M, K) of labels (.., M): everything is the label's. Raises `CheckpointError` for a label of K or more."""
    if labels.shape[-1] and (most := int(labels.max())) >= num_classes:
        raise CheckpointError(f"{what} answers class {most}, and {num_classes} classes were taken for granted: set task.classes")
    classes = xp.arange(num_classes, device=labels.device)
    return (labels[..., None] == classes) * scores[..., None]


def one_hot_from_one(labels: Any, scores: Any, num_classes: int, xp: Any) -> Any:
    """Scores (.., M, K) of labels (.., M) that count from 1; of 80 classes, they are COCO's numbers 1..90."""
    numbers = 91 if num_classes == 80 else num_classes + 1
    hot = one_hot(labels, scores, numbers, xp, what="the network")
    return of_coco(hot) if numbers == 91 else hot[..., 1:]


def of_coco(scores: Any) -> Any:
    """Scores of COCO's 80 classes out of those of its numbers 0..90; scores of another count as they are."""
    return scores[..., COCO_NUMBERS] if scores.shape[-1] == 91 else scores


def fixed_rows(array: Any, count: int, xp: Any) -> Any:
    """Return the first `count` rows of (N, M, C), filled up with zeros: parts of a clip are put together."""
    array = array[:, :count]
    if (missing := count - array.shape[1]) == 0:
        return array
    zeros = xp.zeros((array.shape[0], missing, array.shape[2]), dtype=array.dtype, device=array.device)
    return xp.concat([array, zeros], axis=1)


def select(candidates: np.ndarray, *, least_score: float, suppress: bool) -> Boxes:
    """Return the boxes among the candidates (M, 4 + K) of one picture, best first.

    Each is of its best class, at `least_score` or more.

    suppress: less those that a better box of the class covers (non-maximum suppression at IoU 0.45).
    """
    corners, scores = candidates[:, :4], candidates[:, 4:]
    best = scores.max(1)
    # What lies outside the picture is clamped to nothing.
    sure = np.flatnonzero((best >= least_score) & (corners[:, 2:] > corners[:, :2]).all(1))
    sure = sure[np.argsort(-best[sure], kind="stable")]
    corners, labels, best = corners[sure], scores[sure].argmax(1), best[sure]
    if suppress:
        kept = _suppressed(corners.astype(np.float64), labels)
        corners, labels, best = corners[kept], labels[kept], best[kept]
    return Boxes(corners, labels.astype(np.int64), best)


def _suppressed(corners: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return the indices of the boxes, best first, that no better kept box of the class covers."""
    left, top, right, bottom = np.ascontiguousarray(corners.T)  # by side: a camera waits for this at every look
    areas, open_, kept = (right - left) * (bottom - top), np.ones(len(corners), bool), []
    for first in range(len(corners)):
        if not open_[first]:
            continue
        kept.append(first)
        width = np.minimum(right, right[first]) - np.maximum(left, left[first])
        height = np.minimum(bottom, bottom[first]) - np.maximum(top, top[first])
        inside = width.clip(0) * height.clip(0)
        covered = inside > _SUPPRESSED_AT_IOU * (areas + areas[first] - inside)
        open_ &= ~(covered & (labels == labels[first]))
    return kept


def intersection_over_union(a: Any, b: Any, xp: Any = np) -> Any:
    """(N, M): of corners (N, 4) with corners (M, 4), 0..1, arrays of numpy or torch (`xp`); 0 for two boxes without an area."""
    sides = xp.minimum(a[:, None, 2:], b[None, :, 2:]) - xp.maximum(a[:, None, :2], b[None, :, :2])
    inside = sides.clip(0).prod(-1)
    area_a, area_b = ((corners[:, 2:] - corners[:, :2]).prod(-1) for corners in (a, b))
    return inside / (area_a[:, None] + area_b[None] - inside).clip(float(np.finfo(np.float32).tiny))


def sides_of(canvas: Size, like: Any, xp: Any) -> Any:
    """(4,): width, height, width, height of the canvas, to scale shares with."""
    return xp.asarray(np.array([canvas[1], canvas[0]] * 2, np.float32), device=like.device)
