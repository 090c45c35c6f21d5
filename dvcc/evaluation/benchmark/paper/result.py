"""What a study says, as curves: every metric of every network at every level, over the whole set and over resamples of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dvcc.evaluation.benchmark.paper.studies import Study
from dvcc.evaluation.benchmark.rows import Row
from dvcc.evaluation.benchmark.summary import TOGETHER, metrics_of
from dvcc.evaluation.resampling import resampled
from dvcc.evaluation.statistics import cluster_samples, interval95
from dvcc.tasks import Task

Level = float | str
Curves = dict[tuple[str, str, str], np.ndarray]
"""By network, kind ("relative" or "absolute") and metric: float (1 + B, levels), the set itself first, then B resamples of it."""


@dataclass(frozen=True)
class Result:
    """Of one study.

    levels: uncoded, noise, then the codec's from the finest. metrics: of each network those that the paper draws, the principal
    one first. kilobytes: of a frame with its container, mean over examples, by level. examples, groups: how many there were.
    missing: why a network of the study is not among them.
    """

    study: Study
    levels: tuple[Level, ...]
    curves: Curves
    metrics: Mapping[str, tuple[str, ...]]
    higher_is_better: bool
    kilobytes: Mapping[Level, float]
    examples: int
    groups: int
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def networks(self) -> tuple[str, ...]:
        """Those that were measured."""
        return tuple(self.metrics)

    def at(self, network: str, level: Level, kind: str = "relative", metric: str | None = None) -> np.ndarray:
        """Return (1 + B,): a metric (None: the principal one) at a level. Raises `KeyError` for what was not measured."""
        curve = self.curves[network, kind, metric or self.metrics[network][0]]
        if level not in self.levels:
            raise KeyError(level)
        return curve[:, self.levels.index(level)]

    def has(self, network: str, kind: str) -> bool:
        """Whether there are figures of a kind."""
        return (network, kind, self.metrics[network][0]) in self.curves

    @property
    def coded(self) -> tuple[float, ...]:
        """The codec's levels, from the finest."""
        return tuple(level for level in self.levels if not isinstance(level, str))


def make_curves(
    rows: Sequence[Row],
    networks: Mapping[str, Task],
    task_name: str,
    levels: Sequence[Level],
    *,
    labelled: Mapping[str, Sequence[int] | None],
    blocks: bool,
    bootstrap: int,
    seed: int,
) -> tuple[Curves, dict[str, tuple[str, ...]]]:
    """Return curves, and the metrics of every network. blocks: resample examples instead of groups."""
    curves: Curves = {}
    shown: dict[str, tuple[str, ...]] = {}
    for name, task in networks.items():
        of_network = [row for row in rows if row.network == name]
        by_level = {level: [row for row in of_network if row.level == level] for level in levels}
        clusters = [row.example if blocks else row.group for row in by_level[levels[0]]]
        samples = [[*range(len(clusters))], *cluster_samples(clusters, count=bootstrap, seed=seed)]
        kinds = metrics_of(task, labelled.get(name))
        shown[name] = TOGETHER.get(task_name, (task.metric_name,))
        for kind, metrics in kinds.items():
            if any(getattr(row.measured, kind) is None for row in of_network):
                continue
            for metric in shown[name]:
                columns = []
                for level in levels:
                    states = [getattr(row.measured, kind)[metric] for row in by_level[level]]
                    columns.append(resampled(metrics[metric], states, samples))
                curves[name, kind, metric] = np.array(columns, float).T
    return curves, shown


def figure(draws: np.ndarray, form: str = ".2f") -> str:
    """Return a value, and its interval where there is one."""
    value = format(draws[0], form) if np.isfinite(draws[0]) else "-"
    interval = interval95(draws[1:].tolist())
    return value if interval is None else f"{value} [{interval[0]:{form}}, {interval[1]:{form}}]"
