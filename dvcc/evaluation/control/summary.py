"""From rows to the figures of a report: rate-matched and strict-bandwidth, per controller."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torchmetrics import Metric

from dvcc.evaluation.statistics import bd_metric, bd_rate, bd_rate_percent, cluster_samples, interval95, or_none
from dvcc.tasks.base import Task
from dvcc.tasks.judging import State, measure_frames, merged, pooled

if TYPE_CHECKING:
    from dvcc.evaluation.control.clips import Judged, TestSet
    from dvcc.evaluation.control.run import Row

TOLERANCES = (0.0, 0.05, 0.1)
BASELINE, CORRECTED = "abr2", "abr2_corrected"

Item = tuple["Row", State]
Curve = tuple[list[float], list[float]]  # bits per pixel, and what rises with them


def summarise(
    rows: Sequence[Row],
    states: Sequence[State | None],
    task: Task,
    *,
    clips: Sequence[tuple[str, int]],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Per controller: the rate-matched and the strict-bandwidth figures.

    `metric`, `achieved_kbps` and `bits_per_pixel` per target (means over clips, the metric pooled over the set);
    `bd_rate_percent` with `bd_rate_ci95` (null with fewer than three videos) and `bd_metric` against two-pass ABR (positive is
    better, whichever way the metric goes);
    `bd_basis`: what that stands on, `points` of the shorter curve, `overlap` of the metric's range, `monotone_share` of the two
    curves and of their resamples, and `reason`, `reason_of_loss` where there is no figure;
    `bd_rate_of_loss_percent` with `bd_rate_of_loss_ci95`, the same at equal task loss, mean over clips: a metric counts decisions
    and is noisy over few clips, the loss is not; `met_share` and `strict_metric` per tolerance; `strict_gain_percent` with
    `strict_gain_ci95`: by how many percent the strict metric at tolerance 0, mean over targets, is better than that of corrected
    two-pass ABR (null without it); `rate_ratio`: least, median and largest achieved over target; `num_encodes` and
    `seconds_per_frame`, means.
    """
    names = list(dict.fromkeys(row.controller for row in rows))
    metric = task.metric()  # one for all: to make one takes longer than to pool a few clips
    sign = 1 if metric.higher_is_better else -1
    num_targets = 1 + max(row.target_index for row in rows)
    table: dict[tuple[str, int, tuple[str, int]], Item] = {
        (row.controller, row.target_index, (row.video, row.start)): (row, state)
        for row, state in zip(rows, states, strict=True)
        if state is not None
    }

    def items(name: str, target: int, chosen: Sequence[tuple[str, int]]) -> list[Item]:
        return [table[name, target, clip] for clip in chosen if (name, target, clip) in table]

    def curves(name: str, chosen: Sequence[tuple[str, int]]) -> list[Curve]:
        per_target = [found for target in range(num_targets) if (found := items(name, target, chosen))]
        rates = [_mean(row.bits_per_pixel for row, _ in found) for found in per_target]
        figures = [sign * pooled(metric, [state for _, state in found]) for found in per_target]
        return [(rates, figures), (rates, [-_mean(row.loss for row, _ in found) for found in per_target])]

    def bd_rates(name: str, chosen: Sequence[tuple[str, int]], anchors: list[Curve]) -> list[float]:
        """At equal metric and at equal loss."""
        return [bd_rate_percent(*theirs, *ours) for theirs, ours in zip(anchors, curves(name, chosen), strict=True)]

    def strict_at(name: str, target: int, chosen: Sequence[tuple[str, int]]) -> float | None:
        return _strict(items(name, target, chosen), 0.0, task, metric)

    def strict_gain(name: str, chosen: Sequence[tuple[str, int]]) -> float:
        """Percent over corrected ABR."""
        ours, theirs = (
            _mean(found for target in range(num_targets) if (found := strict_at(one, target, chosen)) is not None)
            for one in (name, CORRECTED)
        )
        return sign * 100 * (ours / theirs - 1) if theirs > 0 else float("nan")

    samples = [[clips[i] for i in sample] for sample in cluster_samples([c[0] for c in clips], count=bootstrap, seed=seed)]
    anchor, anchors = curves(BASELINE, clips), [curves(BASELINE, sample) for sample in samples]
    summary = {}
    for name in names:
        whole = [0.0, 0.0] if name == BASELINE else bd_rates(name, clips, anchor)
        bases = [bd_rate(*theirs, *own) for theirs, own in zip(anchor, curves(name, clips), strict=True)]
        monotone = [
            bd_rate(*theirs[0], *curves(name, sample)[0]).monotone for sample, theirs in zip(samples, anchors, strict=True)
        ]
        resampled = [] if name == BASELINE else [bd_rates(name, *both) for both in zip(samples, anchors, strict=True)]
        found = [items(name, target, clips) for target in range(num_targets)]
        strict = [] if name == CORRECTED else [strict_gain(name, sample) for sample in samples]
        everything = [row for per_target in found for row, _ in per_target]
        ratios = [row.achieved_kbps / row.target_kbps for row in everything]
        summary[name] = {
            "bd_rate_percent": or_none(whole[0]),
            "bd_rate_ci95": interval95([of_metric for of_metric, _ in resampled]),
            "bd_rate_of_loss_percent": or_none(whole[1]),
            "bd_rate_of_loss_ci95": interval95([of_loss for _, of_loss in resampled]),
            "bd_basis": {
                "points": bases[0].points,
                "overlap": bases[0].overlap,
                "monotone_share": sum([bases[0].monotone, *monotone]) / (2 * (1 + len(monotone))),
                "reason": bases[0].reason,
                "reason_of_loss": bases[1].reason,
            },
            "bd_metric": 0.0 if name == BASELINE else or_none(bd_metric(*anchor[0], *curves(name, clips)[0])),
            "metric": [or_none(pooled(metric, [s for _, s in per_target])) for per_target in found],
            "target_kbps": [or_none(_mean(row.target_kbps for row, _ in per_target)) for per_target in found],
            "achieved_kbps": [or_none(_mean(row.achieved_kbps for row, _ in per_target)) for per_target in found],
            "bits_per_pixel": [or_none(_mean(row.bits_per_pixel for row, _ in per_target)) for per_target in found],
            "met_share": {f"{t:g}": _mean(_met(row, t) for row in everything) for t in TOLERANCES},
            "strict_metric": {f"{t:g}": [_strict(per_target, t, task, metric) for per_target in found] for t in TOLERANCES},
            "strict_gain_percent": or_none(strict_gain(name, clips)) if name != CORRECTED else None,
            "strict_gain_ci95": interval95(strict),
            "rate_ratio": [float(q) for q in np.percentile(ratios, [0, 50, 100])] if ratios else None,
            "num_encodes": _mean(row.num_encodes for row in everything),
            "seconds_per_frame": _mean(row.seconds_per_frame for row in everything),
            "unreachable": sum(row.status == "unreachable" for row in rows if row.controller == name),
        }
    return summary


def seed_spread(summary: dict[str, Any], runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What another seed of the same training would have given: of every learned controller that has siblings, `seeds`, and
    `bd_rates`, the least and the largest BD-rate of them all in percent (null where fewer than two have one).

    runs: the settings that each controller was trained with; those are siblings that differ in their seeds alone.
    """
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        same = {key: value for key, value in run.items() if key not in ("seed", "out", "resume")}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(name)
    spreads: dict[str, dict[str, Any]] = {}
    for names in groups.values():
        seeds = sorted({int(runs[name].get("seed", 0)) for name in names})
        found = [value for name in names if (value := summary[name]["bd_rate_percent"]) is not None]
        ends = [min(found), max(found)] if len(found) > 1 else None
        spreads |= {name: {"seeds": seeds, "bd_rates": ends} for name in names if len(seeds) > 1}
    return spreads


def summarise_labels(
    rows: Sequence[Row],
    truths: Sequence[State | None],
    judged: Sequence[Judged],
    task: Task,
    tests: TestSet,
    *,
    clips: Sequence[tuple[str, int]],
    bootstrap: int,
    seed: int,
) -> dict[str, Any] | None:
    """The metric against the labels of a data set: of the uncoded clips (`uncoded`), and by controller `metric` and
    `bits_per_pixel` per target, `bd_rate_percent` and `bd_rate_ci95` against two-pass ABR. None without labels."""
    labelled = [j for j in judged if j.labels is not None]
    if not labelled:
        return None
    metric = tests.metric(task)
    sign = 1 if metric.higher_is_better else -1
    num_targets = 1 + max(row.target_index for row in rows)
    table = {
        (row.controller, row.target_index, (row.video, row.start)): (row, state)
        for row, state in zip(rows, truths, strict=True)
        if state is not None
    }

    def curve(name: str, chosen: Sequence[tuple[str, int]]) -> Curve:
        per_target = [[table[key] for clip in chosen if (key := (name, target, clip)) in table] for target in range(num_targets)]
        found = [items for items in per_target if items]
        rates = [_mean(row.bits_per_pixel for row, _ in items) for items in found]
        return rates, [sign * pooled(metric, [state for _, state in items]) for items in found]

    samples = [[clips[i] for i in sample] for sample in cluster_samples([c[0] for c in clips], count=bootstrap, seed=seed)]
    anchor, anchors = curve(BASELINE, clips), [curve(BASELINE, sample) for sample in samples]
    controllers = {}
    for name in dict.fromkeys(row.controller for row in rows):
        rates, values = curve(name, clips)
        resampled = [bd_rate_percent(*theirs, *curve(name, sample)) for sample, theirs in zip(samples, anchors, strict=True)]
        controllers[name] = {
            "bits_per_pixel": [or_none(rate) for rate in rates],
            "metric": [or_none(sign * value) for value in values],
            "bd_rate_percent": 0.0 if name == BASELINE else or_none(bd_rate_percent(*anchor, rates, values)),
            "bd_rate_ci95": None if name == BASELINE else interval95(resampled),
        }
    uncoded = [measure_frames(task, j.clip.frames, j.labels, tests.metric(task)) for j in labelled if j.labels is not None]
    return {
        "data": tests.config.name,
        "clips": len(labelled),
        "uncoded": or_none(pooled(metric, uncoded)),
        "controllers": controllers,
    }


def _strict(items: Sequence[Item], tolerance: float, task: Task, metric: Metric) -> float | None:
    """The metric over the clips that met the target and that of a lost answer (`Task.lost`) over the others, by their shares.
    Clips that met it but have nothing to find, for which the metric is not defined, count as none. None when all are such."""
    met, over = ([state for row, state in items if _met(row, tolerance) is wanted] for wanted in (True, False))
    kept = pooled(metric, met)
    shares = [(len(met), kept)] if np.isfinite(kept) else []
    if over:
        shares.append((len(over), task.lost(merged(metric, over))))
    return sum(count * value for count, value in shares) / sum(count for count, _ in shares) if shares else None


def _met(row: Row, tolerance: float) -> bool:
    return row.achieved_kbps <= row.target_kbps * (1 + tolerance)


def _mean(values: Any) -> float:
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
