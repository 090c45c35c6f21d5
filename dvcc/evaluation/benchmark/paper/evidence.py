"""How a sentence of the paper becomes a test of measured curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dvcc.evaluation.benchmark.paper.result import Level, Result, figure

Evidence = Mapping[str, Result]
"""The studies that were measured, by name."""


@dataclass(frozen=True)
class Finding:
    """What was measured of one network (or pair of them), in words, and whether it is as the claim says; None: undecided."""

    subject: str
    words: str
    holds: bool | None


Test = Callable[[Evidence], list[Finding]]
"""Raises `KeyError` where a study, a network or a level was not measured."""


def at_level(
    study: str, level: Level, holds: Callable[[float], bool], *, kind: str = "relative", metric: str | None = None, of: str = ""
) -> Test:
    """Return a test of every network's figure at one level. of: networks to be tested, separated by spaces; "" for all."""

    def test(evidence: Evidence) -> list[Finding]:
        result = evidence[study]
        names = of.split() or [
            name for name in result.networks if (name, kind, metric or result.metrics[name][0]) in result.curves
        ]
        draws = {name: result.at(name, level, kind, metric) for name in names}
        return [Finding(name, figure(values), _decided(holds, values[0])) for name, values in draws.items()]

    return test


def kept_of_labels(study: str, level: Level, holds: Callable[[float], bool]) -> Test:
    """Return a test of what remains at a level of each network's score against the labels, as a share of the uncoded one."""

    def test(evidence: Evidence) -> list[Finding]:
        result = evidence[study]
        found = []
        for name in result.networks:
            if result.has(name, "absolute"):
                uncoded, coded = (result.at(name, where, "absolute") for where in ("uncoded", level))
                with np.errstate(invalid="ignore", divide="ignore"):
                    words = f"{figure(uncoded)} to {figure(coded)}"
                    found.append(Finding(name, words, _decided(holds, float(coded[0] / uncoded[0]))))
        return found

    return test


def falling(study: str) -> Test:
    """Return a test that every network is worse at each coarser level, but for what the intervals of both cover."""

    def test(evidence: Evidence) -> list[Finding]:
        result = evidence[study]
        sign = 1 if result.higher_is_better else -1
        found = []
        for name in result.networks:
            curve = sign * np.stack([result.at(name, level) for level in result.coded], 1)
            rising = []
            for i, level in enumerate(result.coded[1:]):
                step = curve[:, i + 1] - curve[:, i]
                clear = np.nanpercentile(step[1:], 2.5) > 0 if len(step) > 1 else step[0] > 0
                rising += [f"{level:g}"] if clear else []
            found.append(Finding(name, f"rises at {', '.join(rising)}" if rising else "falls, within the intervals", not rising))
        return found

    return test


def differing(study: str, levels: tuple[Level, ...], low: str, high: str, *, metric: str | None = None) -> Test:
    """Return a test that `high` is better than `low` in the mean over levels.

    It is undecided where the interval of the difference has 0 in it.
    """

    def test(evidence: Evidence) -> list[Finding]:
        result = evidence[study]
        sides = [np.mean([result.at(name, level, metric=metric) for level in levels], axis=0) for name in (high, low)]
        difference = (sides[0] - sides[1]) * (1 if result.higher_is_better else -1)
        return [Finding(f"{high} less {low}", figure(difference, "+.3f"), _sign(difference))]

    return test


def alike(study: str, levels: tuple[Level, ...], low: str, high: str) -> Test:
    """Return a test that the interval of the difference that `differing` measures has 0 in it."""
    test = differing(study, levels, low, high)
    return lambda evidence: [Finding(one.subject, one.words, one.holds is None) for one in test(evidence)]


def below_in_the_mean(low: str, high: str, levels: tuple[Level, ...], *, at: tuple[str, str]) -> Test:
    """Return a test that the mean figure of study `low` over levels lies below that of study `high`. at: words for both."""

    def test(evidence: Evidence) -> list[Finding]:
        means = []
        for name in (low, high):
            result = evidence[name]
            curves = [np.mean([result.at(network, level) for level in levels], axis=0)[0] for network in result.networks]
            means.append(float(np.mean(curves)))
        words = f"{at[0]} {means[0]:.2f}, {at[1]} {means[1]:.2f}"
        return [Finding("mean", words, means[0] < means[1])]

    return test


def linear(study: str, start: float) -> Test:
    """Return a test that a figure grows in proportion to the level from `start` on: R squared of 0.95 or more."""

    def test(evidence: Evidence) -> list[Finding]:
        result = evidence[study]
        levels = np.array([level for level in result.coded if level >= start])
        found = []
        for name in result.networks:
            values = np.array([result.at(name, float(level))[0] for level in levels])
            slope, offset = np.polyfit(levels, values, 1)
            left = ((values - slope * levels - offset) ** 2).sum()
            whole = ((values - values.mean()) ** 2).sum()
            explained = 1 - left / whole if whole > 0 else 0.0
            found.append(Finding(name, f"R² {explained:.2f}, {slope:.2f} a QP", bool(explained >= 0.95 and slope > 0)))
        return found

    return test


def all_of(*tests: Test) -> Test:
    """Return a test with the findings of several."""
    return lambda evidence: [finding for test in tests for finding in test(evidence)]


def _decided(holds: Callable[[float], bool], value: float) -> bool | None:
    return bool(holds(float(value))) if np.isfinite(value) else None


def _sign(difference: np.ndarray) -> bool | None:
    if len(difference) == 1:
        return None
    low, high = np.nanpercentile(difference[1:], [2.5, 97.5])
    return True if low > 0 else False if high < 0 else None
