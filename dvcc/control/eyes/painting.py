"""From a detector's boxes to QP offsets: which macroblocks matter, between two looks as well, and by how much."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from dvcc.networks.detectors.base import Boxes, intersection_over_union
from dvcc.networks.sources import CHECKPOINTS
from dvcc.units import MACROBLOCK, macroblock_grid

_SAME_IOU = 0.1  # from which two boxes of a class, in two looks, are one object
_SAME_SIZE = 1.6  # or else: sides that differ by less than this factor,
_SAME_PLACE = 1.5  # and centres that are less than so many sides apart


@dataclass(frozen=True)
class Rule:
    """How boxes become offsets: `background - strength * value`, with a value of 0..1 for every macroblock.

    detector: file of the network. side: pixels of the longer side of what it is shown. every_small, every_large: frames from one
    look to the next, for pictures of at most `small_picture` pixels and above. background: offset without any object, in QPs.
    strength: from there to a sure object. unsure, sure: scores between which a value rises from 0 to 1. fade_from, fade_to:
    covered share of a picture between which its offsets fade to zero. seldom: a GOP with objects in a smaller share of its frames
    is left alone. whole, fall: an object that takes more than the share `whole` of the picture is found in a coarser picture,
    too, and counts (whole / its share) ** fall.
    """

    detector: str
    side: int
    small_picture: int
    every_small: int
    every_large: int
    background: float
    strength: float
    unsure: float
    sure: float
    fade_from: float
    fade_to: float
    seldom: float
    whole: float = 1.0
    fall: float = 0.0

    def every(self, height: int, width: int) -> int:
        """Frames from one look to the next."""
        return self.every_small if height * width <= self.small_picture else self.every_large


PUBLISHED = CHECKPOINTS / "objects.json"


def load_rule() -> Rule:
    """Return the published rule: its file also says where its numbers were measured."""
    stored = json.loads(PUBLISHED.read_text())
    return Rule(**{item.name: stored[item.name] for item in fields(Rule)})


class ScoreRange(Protocol):
    """Scores between which a painted value rises from 0 to 1."""

    @property
    def unsure(self) -> float: ...
    @property
    def sure(self) -> float: ...


def sure_of(boxes: Boxes, scores: ScoreRange) -> np.ndarray:
    """(N,) of 0..1: how sure it is that the boxes are objects."""
    return np.clip((boxes.scores - scores.unsure) / (scores.sure - scores.unsure), 0, 1)


def needed_by(boxes: Boxes, rule: Rule) -> np.ndarray:
    """(N,) of 0..1: how much of the rule's offset objects of such sizes need to be found."""
    sides = np.maximum(boxes.corners[:, 2:] - boxes.corners[:, :2], 1e-6)
    return np.minimum(1, rule.whole / sides.prod(1)) ** rule.fall


def paint(boxes: Boxes, worth: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (ceil(H/16), ceil(W/16)), 0..1: what the best box that touches a macroblock of an H x W picture is worth.

    worth: (N,) of every box.
    """
    values = np.zeros(macroblock_grid(height, width), np.float32)
    corners = boxes.corners * (np.array([width, height] * 2) / MACROBLOCK)
    low = np.floor(corners[:, :2] + 1 / MACROBLOCK).astype(int)  # a touch of less than a pixel is none
    high = np.maximum(np.ceil(corners[:, 2:] - 1 / MACROBLOCK).astype(int), low + 1)
    low, high = low.clip(0), high.clip(0)
    for i in np.argsort(worth, kind="stable"):  # the best last, over the others
        values[low[i, 1] : high[i, 1], low[i, 0] : high[i, 0]] = worth[i]
    return values


def offsets_of(painted: np.ndarray, rule: Rule) -> np.ndarray:
    """int8 (h, w): the offsets of a frame with values (h, w): zero without objects, and less the more of it they cover."""
    if not painted.any():
        return np.zeros(painted.shape, np.int8)
    fading = np.clip((rule.fade_to - float(painted.mean())) / (rule.fade_to - rule.fade_from), 0, 1)
    return np.rint((rule.background - rule.strength * painted) * fading).astype(np.int8)


def offsets_of_gop(painted: Sequence[np.ndarray], rule: Rule) -> np.ndarray:
    """int8 (T, h, w): the offsets of T frames of a GOP with values (h, w) each: zero where too few have objects."""
    seldom = np.mean([values.any() for values in painted]) < rule.seldom
    return np.stack([offsets_of(values * (not seldom), rule) for values in painted])


def offsets_of_clip(painted: np.ndarray, rule: Rule, *, gop: int) -> np.ndarray:
    """int8 (T, h, w): the same of a clip with values (T, h, w), in GOPs of `gop` frames."""
    return np.concatenate([offsets_of_gop(list(painted[start : start + gop]), rule) for start in range(0, len(painted), gop)])


def picked(boxes: Boxes, kept: np.ndarray) -> Boxes:
    """Return some of the boxes, by a mask or by indices."""
    return Boxes(*(values[kept] for values in boxes))


def turned(boxes: Boxes, quarter_turns: int) -> Boxes:
    """Boxes of a picture that was turned anticlockwise by so many quarters, in the picture before that."""
    corners = boxes.corners
    for _ in range(quarter_turns % 4):
        left, top, right, bottom = corners.T
        corners = np.stack([1 - bottom, left, 1 - top, right], 1)
    return boxes._replace(corners=corners)


def matched(a: Boxes, b: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Return indices into `a` and into `b` of boxes that are the same object.

    They are of one class. The best overlap comes first, then neighbours of like size.
    """
    pairs: list[tuple[int, int]] = []
    if len(a.scores) and len(b.scores):
        overlap = intersection_over_union(a.corners, b.corners)
        centre_a, centre_b = ((c[:, :2] + c[:, 2:]) / 2 for c in (a.corners, b.corners))
        size_a, size_b = (np.maximum(c[:, 2:] - c[:, :2], 1e-4) for c in (a.corners, b.corners))
        apart = (np.abs(centre_a[:, None] - centre_b[None]) / np.minimum(size_a[:, None], size_b[None])).max(-1)
        like = (np.abs(np.log(size_a[:, None] / size_b[None])) < np.log(_SAME_SIZE)).all(-1)
        near = np.where(like & (apart < _SAME_PLACE), 1 - apart / _SAME_PLACE, 0)
        worth = np.where(overlap >= _SAME_IOU, 1 + overlap, near) * (a.labels[:, None] == b.labels[None])
        while worth.max() > 0:
            i, j = np.unravel_index(worth.argmax(), worth.shape)
            pairs.append((int(i), int(j)))
            worth[i], worth[:, j] = 0, 0
    indices = np.array(pairs, int).reshape(-1, 2)
    return indices[:, 0], indices[:, 1]


def between(a: Boxes, b: Boxes, steps: int) -> list[Boxes]:
    """Return the boxes of the `steps` - 1 frames between looks that saw `a` and `b`.

    Boxes move evenly. One that only one look saw stays where it is for the half of the time that is nearer to it.
    """
    i, j = matched(a, b)
    alone_a, alone_b = np.setdiff1d(np.arange(len(a.scores)), i), np.setdiff1d(np.arange(len(b.scores)), j)
    answer = []
    for step in range(1, steps):
        share = step / steps
        corners = a.corners[i] * (1 - share) + b.corners[j] * share
        moved = Boxes(corners, a.labels[i], np.maximum(a.scores[i], b.scores[j]))
        alone = picked(a, alone_a) if share <= 0.5 else picked(b, alone_b)
        answer.append(Boxes(*(np.concatenate(both) for both in zip(moved, alone, strict=True))))
    return answer


def speeds(a: Boxes, b: Boxes, steps: int) -> np.ndarray:
    """(N, 4): by how much the corners of `b` moved in each of the `steps` frames since `a`; zero for a new box."""
    moved, (i, j) = np.zeros_like(b.corners), matched(a, b)
    moved[j] = (b.corners[j] - a.corners[i]) / steps
    return moved
