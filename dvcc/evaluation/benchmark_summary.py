"""From rows to what coding costs every network: metric and bits per level with intervals, and the auditor's answer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc import units
from dvcc.evaluation.benchmark_rows import Row
from dvcc.evaluation.metrics import cluster_samples, interval95, pooled
from dvcc.tasks import Task


def summarise(
    rows: Sequence[Row], networks: dict[str, Task], levels: Sequence[float | str], *, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Per network a list of points, one per level in the order given.

    A point: `level`; `relative` and `absolute` (null without labels), each {metric: {"value", "ci95"}}, pooled over the set, the
    interval bootstrapped over groups (null for one group); `bits_per_pixel`, `kbps` and `kilobytes` per frame, means over
    examples, null where nothing was coded; `seconds`: of the network, sum.
    """
    summary = {}
    for name, task in networks.items():
        points = []
        for level in levels:
            found = [row for row in rows if row.network == name and row.level == level]
            samples = cluster_samples([row.group for row in found], count=bootstrap, seed=seed)
            point: dict[str, Any] = {"level": level, **_bits(found), "seconds": sum(row.seconds for row in found)}
            for kind in ("relative", "absolute"):
                known = [row for row in found if getattr(row, kind) is not None]
                point[kind] = _metrics(task, [getattr(row, kind) for row in known], samples) if known else None
            points.append(point)
        summary[name] = points
    return summary


def _metrics(task: Task, states: list[Any], samples: Sequence[Sequence[int]]) -> dict[str, Any]:
    figures = {}
    for name, metric in task.metrics().items():  # one for all: to make a metric takes longer than to pool a few clips
        of_metric = [state[name] for state in states]
        drawn = [pooled(metric, [of_metric[i] for i in sample]) for sample in samples]
        figures[name] = {"value": _or_none(pooled(metric, of_metric)), "ci95": interval95(drawn)}
    return figures


def _bits(rows: Sequence[Row]) -> dict[str, float | None]:
    coded = [row for row in rows if row.bits is not None]
    if not coded:
        return dict.fromkeys(("bits_per_pixel", "kbps", "kilobytes"))
    per_pixel = [
        units.bits_per_pixel(row.bits or 0, num_frames=row.num_frames, height=row.height, width=row.width) for row in coded
    ]
    kbps = [units.kbps(row.bits or 0, num_frames=row.num_frames, fps=row.fps) for row in coded]
    kilobytes = [(row.bits or 0) / 8000 / row.num_frames for row in coded]
    return {
        "bits_per_pixel": float(np.mean(per_pixel)),
        "kbps": float(np.mean(kbps)),
        "kilobytes": float(np.mean(kilobytes)),
    }


def loss_at(point: dict[str, Any], metric: str, *, higher_is_better: bool) -> tuple[float, tuple[float, float] | None] | None:
    """What is lost at a point relative to the uncoded pictures, with its interval: 1 - metric, or the error itself (end-point
    error). None when the metric is not defined, e.g. without any object."""
    figure = point["relative"][metric]
    if figure["value"] is None:
        return None
    if not higher_is_better:
        return figure["value"], figure["ci95"]
    interval = figure["ci95"]
    return 1 - figure["value"], None if interval is None else (1 - interval[1], 1 - interval[0])


def audit(
    points: Sequence[dict[str, Any]], metric: str, *, higher_is_better: bool, at: float, lose_at_most: float
) -> dict[str, Any]:
    """What an engineer asks: what do I lose at the level `at`, which level loses at most so much, and what does it cost?

    points: of the codec's levels, from the finest to the coarsest. `enough`: the coarsest level such that it and every finer one
    lose at most `lose_at_most`, by the upper end of the interval where there is one; null when even the finest loses more.
    `bandwidth_ratio`: its bits over those of `at`.
    """
    mine = next(point for point in points if point["level"] == at)
    enough = None
    for point in points:
        lost = loss_at(point, metric, higher_is_better=higher_is_better)
        if lost is None or (lost[1][1] if lost[1] else lost[0]) > lose_at_most:
            break
        enough = point
    lost = loss_at(mine, metric, higher_is_better=higher_is_better)
    return {
        "at": at,
        "lost": lost and lost[0],
        "lost_ci95": lost and lost[1],
        "kilobytes": mine["kilobytes"],
        "enough": enough and enough["level"],
        "enough_kilobytes": enough and enough["kilobytes"],
        "bandwidth_ratio": enough and enough["kilobytes"] / mine["kilobytes"],
    }


def not_monotone(points: Sequence[dict[str, Any]], metric: str, *, higher_is_better: bool) -> list[float]:
    """Levels that lose less than the next finer one by more than both intervals explain. points: from the finest."""
    losses = [loss_at(point, metric, higher_is_better=higher_is_better) for point in points]
    odd = []
    for (finer, coarser), point in zip(itertools.pairwise(losses), points[1:], strict=True):
        if finer and coarser and finer[1] and coarser[1] and coarser[1][1] < finer[1][0]:
            odd.append(point["level"])
    return odd


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
