"""From rows to the figures of a report: rate-matched and strict-bandwidth, per controller."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dvcc.evaluation.control.clips import ClipName, TestSet
from dvcc.evaluation.control.rows import Measured, Row
from dvcc.evaluation.control.table import Curves, Item, Table, mean_of, met
from dvcc.evaluation.statistics import BDRate, bd_metric, bd_rate, cluster_samples, interval95, or_none
from dvcc.tasks.base import Task
from dvcc.tasks.judging import pooled
from dvcc.tasks.metric import Metric, State

TOLERANCES = (0.0, 0.05, 0.1)
CORRECTED, BOUND = "abr2_corrected", "boxes"
NOT_WORSE = 2.0
"""Percent more bits than the baseline up to which a clip is not worse."""


def summarise(
    measured: Sequence[Measured],
    task: Task,
    *,
    clips: Sequence[ClipName],
    baseline: str,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Per controller: the rate-matched and the strict-bandwidth figures.

    `metric`, those of `Task.beside` by name, `achieved_kbps` and `bits_per_pixel` per target (see `Table` for sets of clips);
    `bd_rate_percent` with `bd_rate_ci95` (null with fewer than three groups) and `bd_metric` against the baseline (positive is
    better, whichever way the metric goes);
    `bd_basis`: what that stands on, `points` of the shorter curve, `overlap` of the metric's range, `monotone_share` of the two
    curves and of their resamples, and `reason`, `reason_of_loss` where there is no figure;
    `bd_rate_of_loss_percent` with `bd_rate_of_loss_ci95`, the same at equal task loss: a metric counts decisions and is noisy
    over few clips, the loss is not; `better_share`, `not_worse_share`: of the clips, taken one by one, that need fewer bits than
    the baseline, and at most 2 % more; `share_of_bound` with `share_of_bound_ci95`: BD-rate over that of the judge's own boxes,
    paired; `kinds`: groups, BD-rate and interval by kind of scene;
    `met_share` and `strict_metric` per tolerance; `strict_gain_percent` with
    `strict_gain_ci95`: by how many percent the strict metric at tolerance 0, mean over targets, is better than that of corrected
    two-pass ABR (null without it); `rate_ratio`: least, median and largest achieved over target; `num_encodes`: mean.
    """
    table = Table(measured, task, clips)
    samples = [[clips[i] for i in sample] for sample in _samples(clips, bootstrap, seed)]
    anchor, anchors = table.curves(baseline, clips), [table.curves(baseline, sample) for sample in samples]
    resampled = {
        name: [_bd(a, table.curves(name, s)) for a, s in zip(anchors, samples, strict=True)] for name in table.controllers
    }
    kinds = _by_kind(table, baseline, bootstrap, seed)
    bounds = [of_metric.percent for of_metric, _ in resampled.get(BOUND, [])]
    bound = _bd(anchor, table.curves(BOUND, clips))[0].percent
    summary = {}
    for name in table.controllers:
        rows = [row for row, state, _ in measured if row.controller == name and state is not None]
        reached = [row for row in rows if row.within_reach]
        whole, is_baseline = _bd(anchor, table.curves(name, clips)), name == baseline
        percents = [of_metric.percent for of_metric, _ in resampled[name]]
        summary[name] = {
            **(_OF_ITSELF if is_baseline else _bd_rates(whole, resampled[name])),
            "bd_basis": _basis(whole, [of_metric for of_metric, _ in resampled[name]]),
            "bd_metric": 0.0 if is_baseline else or_none(bd_metric(*anchor.of_metric, *table.curves(name, clips).of_metric)),
            **({} if is_baseline else _by_clip(table, name, baseline)),
            **_share_of_bound(whole[0].percent, percents, bound, bounds),
            "kinds": kinds[name],
            **_per_target(table, name, task),
            "met_share": {f"{t:g}": or_none(_mean([met(row, t) for row in reached])) for t in TOLERANCES},
            **_strict(table, name, samples),
            "rate_ratio": _quantiles([row.achieved_kbps / row.target_kbps for row in reached]),
            "num_encodes": or_none(_mean([row.num_encodes for row in rows])),
            "unreachable": sum(row.status == "unreachable" for row, _, _ in measured if row.controller == name),
        }
    return summary


def summarise_pairs(
    measured: Sequence[Measured],
    task: Task,
    *,
    clips: Sequence[ClipName],
    rivals: Sequence[str],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Per rival and controller: BD-rates against the rival, their intervals and shares of clips, as of `summarise`.

    Both have coded the same clips, so what is hard in a clip is so for both: these intervals are narrower than a difference of
    two figures against the baseline.
    """
    if not rivals:
        return {}
    table = Table(measured, task, clips)
    samples = [clips, *([clips[i] for i in sample] for sample in _samples(clips, bootstrap, seed))]
    curves = {name: [table.curves(name, sample) for sample in samples] for name in table.controllers}
    pairs: dict[str, Any] = {}
    for rival in rivals:
        pairs[rival] = {}
        for name in [name for name in table.controllers if name != rival]:
            whole, *resampled = (_bd(*both) for both in zip(curves[rival], curves[name], strict=True))
            pairs[rival][name] = {**_bd_rates(whole, resampled), **_by_clip(table, name, rival)}
    return pairs


def figures_of(task: Task, states: Sequence[State]) -> dict[str, float]:
    """Return the metric of a set of clips, and those beside it, by name."""
    weights = [task.weight(state) for state in states]
    figures = {name: pooled(task.metrics()[name], states) for name in (task.metric_name, *task.beside)}
    if None not in weights and any(weights):
        values = [pooled(task.metric(), [state]) for state in states]
        counted = [(value, weight) for value, weight in zip(values, weights, strict=True) if weight]
        figures[task.metric_name] = float(np.average([v for v, _ in counted], weights=[w for _, w in counted]))
    return figures


def _samples(clips: Sequence[ClipName], bootstrap: int, seed: int) -> list[list[int]]:
    return cluster_samples([clip.group for clip in clips], count=bootstrap, seed=seed)


def _bd(anchor: Curves, ours: Curves) -> tuple[BDRate, BDRate]:
    """At equal metric and at equal loss."""
    return bd_rate(*anchor.of_metric, *ours.of_metric), bd_rate(*anchor.of_loss, *ours.of_loss)


_OF_ITSELF = {"bd_rate_percent": 0.0, "bd_rate_ci95": None, "bd_rate_of_loss_percent": 0.0, "bd_rate_of_loss_ci95": None}


def _bd_rates(whole: tuple[BDRate, BDRate], resampled: Sequence[tuple[BDRate, BDRate]]) -> dict[str, Any]:
    """Return the percent and the interval at equal metric and at equal loss."""
    figures: dict[str, Any] = {}
    for at, kind in enumerate(("bd_rate", "bd_rate_of_loss")):
        figures[f"{kind}_percent"] = or_none(whole[at].percent)
        figures[f"{kind}_ci95"] = interval95([one[at].percent for one in resampled])
    return figures


def _basis(whole: tuple[BDRate, BDRate], resampled: Sequence[BDRate]) -> dict[str, Any]:
    of_metric, of_loss = whole
    return {
        "points": of_metric.points,
        "overlap": of_metric.overlap,
        "monotone_share": sum(basis.monotone for basis in (of_metric, *resampled)) / (2 * (1 + len(resampled))),
        "reason": of_metric.reason,
        "reason_of_loss": of_loss.reason,
    }


def _by_clip(table: Table, name: str, baseline: str) -> dict[str, Any]:
    differences = [d for clip in table.clips if (d := table.clip_difference(name, baseline, clip)) is not None]
    shares = {"better_share": [d < 0 for d in differences], "not_worse_share": [d <= NOT_WORSE for d in differences]}
    return {name: or_none(_mean(values)) for name, values in shares.items()}


def _share_of_bound(percent: float, percents: list[float], bound: float, bounds: list[float]) -> dict[str, Any]:
    """Return the share of the gain of the judge's own boxes, in percent."""
    shares = [100 * ours / best for ours, best in zip(percents, bounds, strict=False) if best]
    return {"share_of_bound": or_none(100 * percent / bound if bound else np.nan), "share_of_bound_ci95": interval95(shares)}


def _by_kind(table: Table, baseline: str, bootstrap: int, seed: int) -> dict[str, dict[str, Any]]:
    """By controller, and by kind of scene."""
    kinds: dict[str, dict[str, Any]] = {name: {} for name in table.controllers}
    for kind in sorted({clip.kind for clip in table.clips} - {""}):
        clips = [clip for clip in table.clips if clip.kind == kind]
        groups = len({clip.group for clip in clips})
        samples = [clips, *([clips[i] for i in sample] for sample in _samples(clips, bootstrap, seed))]
        anchors = [table.curves(baseline, sample).of_metric for sample in samples]
        for name in table.controllers:
            if name != baseline:
                whole, *resampled = (
                    bd_rate(*anchor, *table.curves(name, sample).of_metric).percent
                    for anchor, sample in zip(anchors, samples, strict=True)
                )
                kinds[name][kind] = {
                    "groups": groups,
                    "bd_rate_percent": or_none(whole),
                    "bd_rate_ci95": interval95(resampled),
                }
    return kinds


def _per_target(table: Table, name: str, task: Task) -> dict[str, Any]:
    """Means over all clips at every target."""
    columns: dict[str, Callable[[Row], float]] = {
        "target_kbps": lambda row: row.target_kbps,
        "achieved_kbps": lambda row: row.achieved_kbps,
        "bits_per_pixel": lambda row: row.bits_per_pixel,
    }
    per_column = {"metric": table.per_target(name, table.clips, table.figure)}
    for column, value in columns.items():
        per_column[column] = table.per_target(name, table.clips, partial(mean_of, value=value))
    for other in task.beside:
        per_column[other] = table.per_target(name, table.clips, partial(_pooled, metric=task.metrics()[other]))
    return {column: [or_none(value) for value in values] for column, values in per_column.items()}


def _pooled(items: Sequence[Item], *, metric: Metric) -> float:
    return pooled(metric, [state for _, state in items])


def _strict(table: Table, name: str, samples: Sequence[Sequence[ClipName]]) -> dict[str, Any]:
    def mean_over_targets(controller: str, clips: Sequence[ClipName]) -> float:
        strict = [table.strict(controller, clips, target, 0.0) for target in range(table.num_targets)]
        return _mean([value for value in strict if np.isfinite(value)])

    def gain(clips: Sequence[ClipName]) -> float:
        """Percent over corrected ABR."""
        ours, theirs = mean_over_targets(name, clips), mean_over_targets(CORRECTED, clips)
        return table.sign * 100 * (ours / theirs - 1) if theirs > 0 else float("nan")

    compared = CORRECTED in table.controllers and name != CORRECTED
    per_tolerance = {
        f"{t:g}": [or_none(table.strict(name, table.clips, target, t)) for target in range(table.num_targets)] for t in TOLERANCES
    }
    return {
        "strict_metric": per_tolerance,
        "strict_gain_percent": or_none(gain(table.clips)) if compared else None,
        "strict_gain_ci95": interval95([gain(sample) for sample in samples]) if compared else None,
    }


def seed_spread(summary: dict[str, Any], runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what another seed of the same training would have given, of every learned controller that has siblings.

    `seeds`, and `bd_rates`: the least and the largest BD-rate of them all in percent (null where fewer than two have one).

    runs: the settings that each controller was trained with; those are siblings that differ in their seeds alone.
    """
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        same = {key: value for key, value in run.items() if key not in ("seed", "out", "resume")}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(name)
    spreads: dict[str, dict[str, Any]] = {}
    for names in groups.values():
        seeds = sorted({int(runs[name].get("seed", 0)) for name in names})
        bd_rates = [value for name in names if (value := summary[name]["bd_rate_percent"]) is not None]
        ends = [min(bd_rates), max(bd_rates)] if len(bd_rates) > 1 else None
        spreads |= {name: {"seeds": seeds, "bd_rates": ends} for name in names if len(seeds) > 1}
    return spreads


def summarise_labels(
    measured: Sequence[Measured],
    uncoded: Sequence[State | None],
    task: Task,
    tests: TestSet,
    *,
    clips: Sequence[ClipName],
    baseline: str,
    bootstrap: int,
    seed: int,
) -> dict[str, Any] | None:
    """Return the metric against the labels of a data set, of the `uncoded` clips and by controller.

    By controller: `metric` and `bits_per_pixel` per target, `bd_rate_percent` and `bd_rate_ci95` against the baseline. None
    without labels.
    """
    labelled = [state for state in uncoded if state is not None]
    if not labelled:
        return None
    table = Table(measured, task, clips, metric=tests.metric(task))
    samples = [[clips[i] for i in sample] for sample in _samples(clips, bootstrap, seed)]
    anchor, anchors = table.curves(baseline, clips), [table.curves(baseline, sample) for sample in samples]
    controllers = {}
    for name in table.controllers:
        rates, values = table.curves(name, clips).of_metric
        resampled = [_bd(theirs, table.curves(name, sample))[0].percent for theirs, sample in zip(anchors, samples, strict=True)]
        whole = bd_rate(*anchor.of_metric, rates, values).percent
        controllers[name] = {
            "bits_per_pixel": [or_none(rate) for rate in rates],
            "metric": [or_none(table.sign * value) for value in values],
            "bd_rate_percent": 0.0 if name == baseline else or_none(whole),
            "bd_rate_ci95": None if name == baseline else interval95(resampled),
        }
    return {
        "data": tests.name,
        "clips": len(labelled),
        "uncoded": or_none(pooled(table.metric, labelled)),
        "controllers": controllers,
    }


def _quantiles(values: Sequence[float]) -> list[float] | None:
    """Least, median, largest."""
    return [float(q) for q in np.percentile(values, [0, 50, 100])] if values else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
