"""Does what a network loses against its own answers agree with what it loses against the labels? By rank correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from dvcc.evaluation.benchmark.paper.result import Result
from dvcc.evaluation.benchmark.rows import UNCODED


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlations of one study, each (1 + B,) as of `Result.at`.

    over_levels: of each network, over the codec's levels. over_networks: over networks, mean of the levels; None for fewer than
    three. over_all: of all pairs of network and level."""

    over_levels: dict[str, np.ndarray]
    over_networks: np.ndarray | None
    over_all: np.ndarray


def agreement(result: Result) -> Agreement | None:
    """Return it for a study with labels, else None.

    Of an absolute figure counts how far it is from the uncoded one (as a share where more is better), since networks begin at
    different scores.
    """
    names = [name for name in result.networks if result.has(name, "absolute")]
    if not names:
        return None
    own = np.stack([np.stack([result.at(name, level) for level in result.coded]) for name in names])
    true = np.stack([np.stack([result.at(name, level, "absolute") for level in result.coded]) for name in names])
    uncoded = np.stack([result.at(name, UNCODED, "absolute") for name in names])[:, None]
    lost = true / np.where(uncoded == 0, np.nan, uncoded) if result.higher_is_better else true - uncoded
    draws = range(own.shape[2])
    over_levels = {name: np.array([spearman(own[i, :, b], lost[i, :, b]) for b in draws]) for i, name in enumerate(names)}
    over_all = np.array([spearman(own[..., b].ravel(), lost[..., b].ravel()) for b in draws])
    if len(names) < 3:
        return Agreement(over_levels, None, over_all)
    by_level = np.array([[spearman(own[:, k, b], lost[:, k, b]) for k in range(own.shape[1])] for b in draws])
    finite = np.isfinite(by_level)
    counts = finite.sum(1)
    mean = np.where(counts > 0, np.where(finite, by_level, 0).sum(1) / np.maximum(counts, 1), np.nan)
    return Agreement(over_levels, mean, over_all)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation of two series of one length; equal values share a rank.

    NaN where a side does not vary, or for fewer than three pairs that are known.
    """
    pairs = np.isfinite(a) & np.isfinite(b)
    a, b = rankdata(a[pairs]), rankdata(b[pairs])
    if len(a) < 3 or not (a.std() and b.std()):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
