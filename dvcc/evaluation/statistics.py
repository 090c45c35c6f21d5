"""Figures of a comparison: BD-rates, bootstrap over videos, met shares."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import bjontegaard
import numpy as np

LEAST_CLUSTERS = 3
"""Videos or groups from which an interval can be given: of two, half of the samples have one twice, and know no spread."""


LEAST_POINTS, LEAST_OVERLAP = 4, 1 / 3
"""What a BD-rate needs: points of each curve whose metric rises, and the share of the metric's range that both curves reach."""


@dataclass(frozen=True)
class BDRate:
    """A BD-rate and what it stands on.

    percent: of the anchor's bits at equal metric, NaN where it stands on too little. points: of the shorter curve, after those
    are dropped whose metric does not exceed that of a cheaper one. overlap: 0..1, the range of the metric that both curves reach
    over that which either reaches. monotone: of the two curves, how many needed no dropping. reason: why there is no figure, ""
    where there is one.
    """

    percent: float
    points: int
    overlap: float
    monotone: int
    reason: str


def bd_rate(
    anchor_rates: Sequence[float], anchor_metric: Sequence[float], rates: Sequence[float], metric: Sequence[float]
) -> BDRate:
    """Bjontegaard delta rate in percent of the anchor's bits at equal metric; negative is better.

    Of a metric where less is better, give the negative.

    Piecewise-cubic interpolation of log rate over the metric, by the package `bjontegaard`. It needs the metric to rise with the
    rate: each curve is replaced by its running maximum, and points that add nothing are dropped.
    """
    given = [(anchor_rates, anchor_metric), (rates, metric)]
    curves = [_rising(*curve) for curve in given]
    points = min(len(rising_rates) for rising_rates, _ in curves)
    monotone = sum(len(rising[0]) == len(curve[0]) for rising, curve in zip(curves, given, strict=True))
    overlap = 0.0
    if points:
        common = min(values[-1] for _, values in curves) - max(values[0] for _, values in curves)
        whole = max(values[-1] for _, values in curves) - min(values[0] for _, values in curves)
        overlap = max(0.0, common / whole) if whole > 0 else 0.0
    reason = ""
    if points < LEAST_POINTS:
        reason = f"{points} of the {LEAST_POINTS} rising points that it needs"
    elif overlap < LEAST_OVERLAP:
        reason = f"the curves share {overlap:.0%} of the metric's range, and it needs {LEAST_OVERLAP:.0%}"
    if reason:
        return BDRate(float("nan"), points, overlap, monotone, reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # little overlap: that is said by `overlap`
        value = bjontegaard.bd_rate(*curves[0], *curves[1], method="pchip", require_matching_points=False, min_overlap=0)
    return BDRate(float(value), points, overlap, monotone, "")


def bd_metric(
    anchor_rates: Sequence[float], anchor_metric: Sequence[float], rates: Sequence[float], metric: Sequence[float]
) -> float:
    """Mean difference of the metric at equal rate, over the common range of log rate; positive is better.

    NaN when a curve has fewer than two points or the curves share no rate.
    """
    if min(len(anchor_rates), len(rates)) < 2:
        return float("nan")
    log_anchor, log_rates = np.log(anchor_rates), np.log(rates)
    low, high = max(log_anchor.min(), log_rates.min()), min(log_anchor.max(), log_rates.max())
    if not low < high:
        return float("nan")
    grid = np.linspace(low, high, 200)
    order = np.argsort(log_anchor), np.argsort(log_rates)
    ours = np.interp(grid, log_rates[order[1]], np.asarray(metric)[order[1]])
    theirs = np.interp(grid, log_anchor[order[0]], np.asarray(anchor_metric)[order[0]])
    return float((ours - theirs).mean())


def cluster_samples(clusters: Sequence[str], *, count: int, seed: int) -> list[list[int]]:
    """`count` bootstrap samples of item indices: whole clusters (videos) are drawn with replacement.

    Empty for fewer than `LEAST_CLUSTERS`: too little can be said about other videos then.
    """
    names = sorted(set(clusters))
    if len(names) < LEAST_CLUSTERS:
        return []
    members = {name: [i for i, cluster in enumerate(clusters) if cluster == name] for name in names}
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(names), (count, len(names)))
    return [[i for k in row for i in members[names[k]]] for row in drawn]


def interval95(values: Sequence[float]) -> tuple[float, float] | None:
    """2.5th and 97.5th percentile; None for fewer than 20 values, or when more than 5 % are NaN.

    A NaN is a resample whose curves do not overlap, often the worst one: to drop many would flatter the interval.
    """
    finite = [value for value in values if np.isfinite(value)]
    if len(finite) < 20 or len(finite) < 0.95 * len(values):
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def _rising(rates: Sequence[float], metric: Sequence[float]) -> tuple[list[float], list[float]]:
    """Points in order of rate whose metric exceeds that of all cheaper ones."""
    kept_rates: list[float] = []
    kept_metric: list[float] = []
    for rate, value in sorted(zip(rates, metric, strict=True)):
        if np.isfinite(value) and (not kept_metric or (value > kept_metric[-1] and rate > kept_rates[-1])):
            kept_rates.append(float(rate))
            kept_metric.append(float(value))
    return kept_rates, kept_metric
