"""What a comparison on one stretch of video says, with an interval, in figures and in plain lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dvcc import units
from dvcc._words import counted
from dvcc.evaluation.compare.encoding import Measured
from dvcc.evaluation.statistics import BDRate, bd_metric, bd_rate, cluster_samples, interval95
from dvcc.tasks import Task
from dvcc.tasks.judging import pooled

_LEAST_VERDICT = 2  # GOPs: of one, nothing is said
_LEAST_BLOCKS = 5  # resampling fewer says little
_RESAMPLES = 200
_MISSED = 0.05

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Verdict:
    """Control less baseline, in units of the metric, as it is (not turned so that more is better).

    at_target: at what both took of the target; equal_rate: averaged over the bitrates that both reach, NaN if there are none in
    common; bd_rate: percent of the baseline's bits at equal metric, NaN where it stands on too little. bd_points, bd_overlap,
    bd_reason: as in `BDRate`; bd_monotone_share: of the curves of all resamples. Intervals are of 95 %, over resampled GOPs of
    this stretch, None where there are too few.
    """

    at_target: float
    at_target_interval: Interval
    equal_rate: float
    equal_rate_interval: Interval
    bd_rate: float
    bd_rate_interval: Interval
    bd_points: int
    bd_overlap: float
    bd_monotone_share: float
    bd_reason: str
    blocks: int
    common_kbps: tuple[float, float] | None


def compare(baseline: Sequence[Measured], control: Sequence[Measured], task: Task, *, target_kbps: float, block: int) -> Verdict:
    """Return the verdict of encodes by two controllers, in the same order of targets.

    block: frames of a block of states.
    """
    blocks = len(baseline[0].states)
    place = [m.target_kbps for m in baseline].index(target_kbps)
    sign = 1 if task.metric().higher_is_better else -1

    def figures(drawn: Sequence[int]) -> tuple[float, float, BDRate]:
        curves = [_curve(side, task, drawn, block) for side in (baseline, control)]
        (rates, metric), (own_rates, own_metric) = curves
        turned = [sign * value for value in metric], [sign * value for value in own_metric]
        return (
            own_metric[place] - metric[place],
            bd_metric(rates, metric, own_rates, own_metric),
            bd_rate(rates, turned[0], own_rates, turned[1]),
        )

    samples = cluster_samples([str(i) for i in range(blocks)], count=_RESAMPLES, seed=0) if blocks >= _LEAST_BLOCKS else []
    resampled = [figures(drawn) for drawn in samples]
    columns = list(zip(*((a, b, basis.percent) for a, b, basis in resampled), strict=True)) or [(), (), ()]
    intervals = [interval95(column) for column in columns]
    at_target, equal_rate, whole = figures(range(blocks))
    monotone = [basis.monotone for *_, basis in (*resampled, (0, 0, whole))]
    ends = [[m.bitrate_kbps for m in side] for side in (baseline, control)]
    low, high = max(map(min, ends)), min(map(max, ends))
    common = (low, high) if low < high else None
    return Verdict(
        at_target=at_target,
        at_target_interval=intervals[0],
        equal_rate=equal_rate,
        equal_rate_interval=intervals[1],
        bd_rate=whole.percent,
        bd_rate_interval=intervals[2],
        bd_points=whole.points,
        bd_overlap=whole.overlap,
        bd_monotone_share=sum(monotone) / (2 * len(monotone)),
        bd_reason=whole.reason,
        blocks=blocks,
        common_kbps=common,
    )


def _curve(side: Sequence[Measured], task: Task, drawn: Sequence[int], block: int) -> tuple[list[float], list[float]]:
    """kbit/s and metric of every target, of the blocks `drawn`."""
    rates, metrics = [], []
    for m in side:
        bits = np.add.reduceat(m.bits_per_frame, np.arange(0, m.num_frames, block))
        frames = np.diff([*range(0, m.num_frames, block), m.num_frames])
        chosen = [min(i, len(bits) - 1) for i in drawn]
        rates.append(units.kbps(float(bits[chosen].sum()), num_frames=int(frames[chosen].sum()), fps=m.fps))
        metrics.append(pooled(task.metric(), [m.states[i] for i in drawn]))
    return rates, metrics


def headline(verdict: Verdict, task: Task, names: Mapping[str, str]) -> str:
    """Return the one text to read."""
    name, value, interval = task.metric_name, verdict.equal_rate, verdict.equal_rate_interval
    baseline, control = names["abr2"], names["control"]
    if verdict.blocks < _LEAST_VERDICT:
        return (
            f"No verdict: the stretch has {counted(verdict.blocks, 'GOP')}, and it takes {_LEAST_VERDICT}: give more --seconds."
        )
    if not math.isfinite(value):
        return f"The {control} and {baseline} reach no bitrate in common, so {name} cannot be compared at equal bitrate."
    assert verdict.common_kbps is not None  # bd_metric is finite
    low, high = verdict.common_kbps
    text = f"At equal bitrate, averaged over {low:.0f} to {high:.0f} kbit/s, {name} is {_more_or_less(value)} with the {control}"
    if interval is None:
        return (
            f"{text}; this stretch has too few GOPs ({verdict.blocks}), or too different ones, to say how much of that is chance."
        )
    text += f" (95 % interval over the {verdict.blocks} GOPs of this stretch: {signed(interval[0])} to {signed(interval[1])})"
    if interval[0] <= 0 <= interval[1]:
        return f"{text}: no significant difference to {baseline}."
    better = (value > 0) == bool(task.metric().higher_is_better)
    return f"{text}: {'better' if better else 'worse'} than {baseline} here."


def remarks(
    verdict: Verdict, measured: Sequence[Measured], task: Task, names: Mapping[str, str], target_kbps: float
) -> list[str]:
    """Return what else has to be said: of misses, of the bits at equal metric, of what the figures are not."""
    lines = []
    missed = [m for m in measured if m.target_kbps == target_kbps and abs(m.bitrate_kbps / target_kbps - 1) > _MISSED]
    for m in missed:
        lines.append(
            f"Of {target_kbps:g} kbit/s asked for, {names[m.controller]} took {m.bitrate_kbps:.1f} "
            f"({m.bitrate_kbps / target_kbps - 1:+.0%}): compare at equal bitrate, by the curve."
        )
    basis = (
        f"{verdict.bd_points} points, {verdict.bd_overlap:.0%} overlap, {verdict.bd_monotone_share:.0%} of the curves monotone"
    )
    if math.isfinite(verdict.bd_rate):
        interval, doubt = verdict.bd_rate_interval, ""
        if interval is not None:
            doubt = f", 95 % interval {interval[0]:+.0f} to {interval[1]:+.0f} %"
            doubt += ", which is not significant" if interval[0] <= 0 <= interval[1] else ""
        elif verdict.blocks >= _LEAST_BLOCKS:
            doubt = ", no interval, as many resamples have no BD-rate, and little weight in this"
        lines.append(
            f"For equal {task.metric_name} the {names['control']} takes {verdict.bd_rate:+.1f} % bits (BD-rate; {basis}{doubt})."
        )
    elif verdict.blocks >= _LEAST_VERDICT:
        lines.append(f"There is no BD-rate: {verdict.bd_reason} ({basis}).")
    lines.append(
        "All of it is about this one stretch of one video. It says nothing of other videos, and neighbouring GOPs look alike, "
        "so the intervals are rather too narrow."
    )
    return lines


def _more_or_less(value: float) -> str:
    return f"{signed(abs(value))[1:]} {'higher' if value > 0 else 'lower'}"


def signed(value: float) -> str:
    """With a sign, and as many places as a metric needs."""
    return f"{value:+.3f}" if abs(value) < 10 else f"{value:+.1f}"
