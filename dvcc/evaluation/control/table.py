"""What was measured, by controller, target, rate factor and clip, and the figures of any sample of the clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from dvcc.evaluation.control.clips import ClipName
from dvcc.evaluation.control.rows import Measured, Row
from dvcc.tasks.base import Task
from dvcc.tasks.judging import merged, pooled
from dvcc.tasks.metric import Metric, State

Item = tuple[Row, State]
Curve = tuple[list[float], list[float]]  # bits per pixel, and what rises with them


class Curves(NamedTuple):
    """Of a controller over the clips of a sample. Where less is better, the metric is negative; so is the loss."""

    of_metric: Curve
    of_loss: Curve


class Table:
    """Finds measured rows and computes figures of them.

    A figure of a set is the mean over its clips by `Task.weight`, or of the states of all clips pooled where the task gives no
    weight. A target is coded at every rate factor, and its figures are means over these.
    """

    def __init__(
        self, measured: Sequence[Measured], task: Task, clips: Sequence[ClipName], *, metric: Metric | None = None
    ) -> None:
        """metric: one against the labels of the data set, whose states are taken then; None for the task's own."""
        self.task, self.clips, self.of_labels = task, clips, metric is not None
        self.metric = metric or task.metric()  # one for all: to make one takes longer than to pool a few clips
        self.sign = 1 if self.metric.higher_is_better else -1
        rows = [row for row, _, _ in measured]
        self.controllers = list(dict.fromkeys(row.controller for row in rows))
        self.num_targets = 1 + max(row.target_index for row in rows)
        self.factors = sorted({row.rate_factor for row in rows})
        self._items: dict[tuple[str, int, float, tuple[str, int]], Item] = {}
        for row, state, truth in measured:
            if (chosen := truth if self.of_labels else state) is not None:
                self._items[row.controller, row.target_index, row.rate_factor, (row.video, row.start)] = row, chosen

    def items(self, name: str, clips: Iterable[ClipName], target: int, factor: float) -> list[Item]:
        """Return what there is of a controller, at one target and rate factor."""
        keys = ((name, target, factor, (clip.video, clip.start)) for clip in clips)
        return [self._items[key] for key in keys if key in self._items]

    def figure(self, items: Sequence[Item]) -> float:
        """Return the metric of a set of clips at one rate; NaN where it is not defined."""
        weights = None if self.of_labels else _weights(items)
        if weights is None:
            return pooled(self.metric, [state for _, state in items])
        return _mean([row.metric for row, _ in items], weights)

    def over_factors(self, name: str, clips: Sequence[ClipName], target: int, what: Callable[[list[Item]], float]) -> float:
        """Mean over the rate factors of `what(items)`; NaN without any."""
        per_factor = [what(items) for factor in self.factors if (items := self.items(name, clips, target, factor))]
        return float(np.mean(per_factor)) if per_factor else float("nan")

    def per_target(self, name: str, clips: Sequence[ClipName], what: Callable[[list[Item]], float]) -> list[float]:
        """`over_factors` for every target."""
        return [self.over_factors(name, clips, target, what) for target in range(self.num_targets)]

    def curves(self, name: str, clips: Sequence[ClipName]) -> Curves:
        """Bits per pixel and figures at every target that is within reach."""
        rates = self.per_target(name, clips, lambda items: mean_of(items, lambda row: row.bits_per_pixel))
        values = self.per_target(name, clips, lambda items: self.sign * self.figure(items))
        losses = self.per_target(name, clips, lambda items: -mean_of(items, lambda row: row.loss))
        there = [i for i, rate in enumerate(rates) if np.isfinite(rate)]
        pick = [[column[i] for i in there] for column in (rates, values, losses)]
        return Curves((pick[0], pick[1]), (pick[0], pick[2]))

    def strict(self, name: str, clips: Sequence[ClipName], target: int, tolerance: float) -> float:
        """Return the metric where a clip that exceeds its target counts as a lost answer (`Task.lost`).

        NaN where nothing is defined.
        """
        return self.over_factors(name, clips, target, lambda items: self._strict(items, tolerance))

    def _strict(self, items: Sequence[Item], tolerance: float) -> float:
        """Clips that met it but have nothing to find, for which the metric is not defined, count as none."""
        reached = [item for item in items if item[0].within_reach]
        over = [item for item in reached if not met(item[0], tolerance)]
        kept = [item for item in reached if met(item[0], tolerance)]
        shares = [(_size(kept), self.figure(kept))] if kept else []
        if over:
            shares.append((_size(over), self.task.metric_when_dropped(merged(self.metric, [state for _, state in over]))))
        defined = [(size, value) for size, value in shares if size and np.isfinite(value)]
        return sum(size * value for size, value in defined) / sum(size for size, _ in defined) if defined else float("nan")

    def clip_difference(self, name: str, baseline: str, clip: ClipName) -> float | None:
        """Bits of one clip against the baseline's at equal metric, in percent; None without a figure.

        The metric of one clip jumps from rate to rate, so every curve is replaced by the nearest one that rises. Where the two
        share no range of the metric that is worth comparing, 0 if they are equal, and infinite either way if not.
        """
        ours, theirs = (self._rising(controller, clip) for controller in (name, baseline))
        if ours is None or theirs is None:
            return None
        low, high = max(ours[1][0], theirs[1][0]), min(ours[1][-1], theirs[1][-1])
        if high - low < _LEAST_RANGE:
            gained = float(np.mean(ours[1]) - np.mean(theirs[1]))
            return 0.0 if abs(gained) < _LEAST_RANGE / 2 else float(np.copysign(np.inf, -gained))
        at = np.linspace(low, high, 100)
        of_ours, of_theirs = (np.interp(at, values, logs) for logs, values in (ours, theirs))
        return float(100 * np.expm1((of_ours - of_theirs).mean()))

    def _rising(self, name: str, clip: ClipName) -> tuple[np.ndarray, np.ndarray] | None:
        """Log bits per pixel, and the metric; at least two points."""
        keys = ((target, factor) for target in range(self.num_targets) for factor in self.factors)
        rows = sorted((row for key in keys for row, _ in self.items(name, [clip], *key)), key=lambda row: row.bits_per_pixel)
        rows = [row for row in rows if np.isfinite(row.metric)]
        if len(rows) < 2:
            return None
        rising = isotonic_regression([self.sign * row.metric for row in rows]).x
        return np.log([row.bits_per_pixel for row in rows]), rising + np.arange(len(rows)) * 1e-9


_LEAST_RANGE = 0.02
"""The least range, of a metric of 0..1, that two curves of a clip must share."""


def met(row: Row, tolerance: float) -> bool:
    """Whether an encode stays within its target."""
    return row.achieved_kbps <= row.target_kbps * (1 + tolerance)


def mean_of(items: Sequence[Item], value: Callable[[Row], float]) -> float:
    """Mean of a column over clips, by their weights where there are any."""
    weights = _weights(items)
    return _mean([value(row) for row, _ in items], np.ones(len(items)) if weights is None else weights)


def _weights(items: Sequence[Item]) -> np.ndarray | None:
    weights = [row.weight for row, _ in items]
    return None if None in weights else np.array(weights, float)


def _size(items: Sequence[Item]) -> float:
    """Return what a set of clips counts."""
    weights = _weights(items)
    return len(items) if weights is None else float(weights.sum())


def _mean(values: Sequence[float], weights: np.ndarray) -> float:
    """NaN without weight; a value of weight 0 may be NaN."""
    counted = weights > 0
    if not counted.any():
        return float("nan")
    return float(np.average(np.array(values, float)[counted], weights=weights[counted]))
