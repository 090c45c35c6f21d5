"""From rows to what coding costs every network: metric and bits per level with intervals, and the auditor's answer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dvcc import units
from dvcc.evaluation.benchmark.rows import Row
from dvcc.evaluation.resampling import resampled
from dvcc.evaluation.statistics import cluster_samples, interval95, or_none
from dvcc.tasks import Task
from dvcc.tasks.judging import pooled
from dvcc.tasks.metric import Metric

TOGETHER = {"detection": ("mAP", "mAP50", "mAP75"), "classification": ("top-1", "top-5")}
"""Metrics that the paper draws in one figure."""


def summarise(
    rows: Sequence[Row],
    networks: dict[str, Task],
    levels: Sequence[float | str],
    *,
    labelled: Mapping[str, Sequence[int] | None],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Per network a list of points, one per level in the order given. labelled: as in `benchmark.measure.measure`.

    A point: `level`; `relative` and `absolute` (null without labels), each {metric: {"value", "ci95"}}, pooled over the set, the
    interval bootstrapped over groups (null for fewer than three); `bits_per_pixel`, `kbps`, `kilobytes` and `file_kilobytes`
    (with the container) per frame, means over examples, null where nothing was coded; `seconds`: of the network, sum.
    """
    summary = {}
    for name, task in networks.items():
        points = []
        for level in levels:
            at_level = [row for row in rows if row.network == name and row.level == level]
            seconds = sum(row.measured.seconds for row in at_level)
            figures = {
                kind: _metrics(metrics, at_level, kind, bootstrap=bootstrap, seed=seed)
                for kind, metrics in metrics_of(task, labelled.get(name)).items()
            }
            points.append({"level": level, **_bits(at_level), "seconds": seconds, **figures})
        summary[name] = points
    return summary


def metrics_of(task: Task, classes: Sequence[int] | None) -> dict[str, dict[str, Metric]]:
    """Return the metrics of both kinds of states of a row: "relative" and "absolute". classes: see `label_classes`."""
    return {"relative": task.metrics(), "absolute": task.metrics_of_labels(classes)}


def _metrics(metrics: dict[str, Metric], rows: Sequence[Row], kind: str, *, bootstrap: int, seed: int) -> dict[str, Any] | None:
    judged = [(row.group, states) for row in rows if (states := getattr(row.measured, kind)) is not None]
    if not judged:
        return None
    samples = cluster_samples([group for group, _ in judged], count=bootstrap, seed=seed)
    figures = {}
    for name, metric in metrics.items():  # one for all: to make a metric takes longer than to pool a few clips
        of_metric = [states[name] for _, states in judged]
        drawn = resampled(metric, of_metric, samples)
        figures[name] = {"value": or_none(pooled(metric, of_metric)), "ci95": interval95(drawn)}
    return figures


def _bits(rows: Sequence[Row]) -> dict[str, float | None]:
    coded = [(row, row.measured.bits) for row in rows if row.measured.bits is not None]
    if not coded:
        return dict.fromkeys(("bits_per_pixel", "kbps", "kilobytes", "file_kilobytes"))
    means = {
        "bits_per_pixel": [units.bits_per_pixel(b, num_frames=r.num_frames, height=r.height, width=r.width) for r, b in coded],
        "kbps": [units.kbps(b, num_frames=r.num_frames, fps=r.fps) for r, b in coded],
        "kilobytes": [b / 8000 / r.num_frames for r, b in coded],
        "file_kilobytes": [(r.measured.file_bits or b) / 8000 / r.num_frames for r, b in coded],
    }
    return {name: float(np.mean(values)) for name, values in means.items()}


def loss_at(
    point: dict[str, Any], uncoded: dict[str, Any], metric: str, *, higher_is_better: bool
) -> tuple[float, tuple[float, float] | None] | None:
    """By how much the metric is worse at a point than on the uncoded pictures, with its interval.

    None where it is not defined on either: a detector that finds nothing, the infinite PSNR of no difference.
    """
    figure, best = point["relative"][metric], uncoded["relative"][metric]["value"]
    if figure["value"] is None or best is None:
        return None
    sign = 1 if higher_is_better else -1
    lost = sign * (best - figure["value"])
    if figure["ci95"] is None:
        return lost, None
    ends = [sign * (best - end) for end in figure["ci95"]]
    return lost, (min(ends), max(ends))


def audit(
    points: Sequence[dict[str, Any]],
    uncoded: dict[str, Any],
    metric: str,
    *,
    higher_is_better: bool,
    at: float,
    lose_at_most: float,
) -> dict[str, Any]:
    """Answer what an engineer asks: what do I lose at the level `at`, which level loses at most so much, and what does it cost?

    points: of the codec's levels, from the finest to the coarsest. `enough`: the coarsest level such that it and every finer one
    lose at most `lose_at_most`, by the upper end of the interval where there is one; null when even the finest loses more.
    `bandwidth_ratio`: its bits over those of `at`.
    """
    mine = next(point for point in points if point["level"] == at)
    enough = None
    for point in points:
        lost = loss_at(point, uncoded, metric, higher_is_better=higher_is_better)
        if lost is None or (lost[1][1] if lost[1] else lost[0]) > lose_at_most:
            break
        enough = point
    lost = loss_at(mine, uncoded, metric, higher_is_better=higher_is_better)
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
    """Levels that are better than the next finer one by more than both intervals explain. points: from the finest."""
    odd = []
    for finer, coarser in itertools.pairwise(points):
        ends = [point["relative"][metric]["ci95"] for point in (finer, coarser)]
        if None not in ends:
            lower, upper = ends if higher_is_better else reversed(ends)
            if upper[0] > lower[1]:
                odd.append(coarser["level"])
    return odd
