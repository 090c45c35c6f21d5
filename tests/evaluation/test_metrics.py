"""Figures against independent computations."""

import numpy as np
import pytest

from dvcc.evaluation.statistics import bd_metric, bd_rate_percent, cluster_samples, interval95

RATES = [10.0, 20.0, 40.0, 80.0, 160.0]
QUALITY = [30.0, 33.0, 36.0, 39.0, 42.0]


def test_the_same_curve_at_other_rates_is_its_factor():
    assert bd_rate_percent(RATES, QUALITY, [0.8 * r for r in RATES], QUALITY) == pytest.approx(-20, abs=0.1)
    assert bd_rate_percent(RATES, QUALITY, [1.5 * r for r in RATES], QUALITY) == pytest.approx(50, abs=0.1)
    assert bd_rate_percent(RATES, QUALITY, RATES, QUALITY) == pytest.approx(0, abs=1e-9)


def test_order_of_points_does_not_matter():
    order = [3, 0, 4, 1, 2]
    shuffled = [RATES[i] for i in order], [QUALITY[i] for i in order]
    assert bd_rate_percent(*shuffled, [0.8 * r for r in RATES], QUALITY) == pytest.approx(-20, abs=0.1)


def test_a_dip_does_not_break_it_and_no_overlap_is_nan():
    dented = [30.0, 33.0, 32.9, 39.0, 42.0]
    assert np.isfinite(bd_rate_percent(RATES, QUALITY, RATES, dented))
    assert np.isnan(bd_rate_percent(RATES, QUALITY, RATES, [q + 50 for q in QUALITY]))
    assert np.isnan(bd_rate_percent(RATES, QUALITY, RATES, [30.0] * 5))
    for rates, quality in (([], []), ([10.0], [30.0])):
        assert np.isnan(bd_rate_percent(RATES, QUALITY, rates, quality)) and np.isnan(bd_metric(RATES, QUALITY, rates, quality))


def test_bd_metric_is_the_mean_gap_at_equal_rate():
    assert bd_metric(RATES, QUALITY, RATES, [q + 1.5 for q in QUALITY]) == pytest.approx(1.5)
    shifted = [r / 2 for r in RATES]  # one octave cheaper, and an octave is worth 3
    assert bd_metric(RATES, QUALITY, shifted, QUALITY) == pytest.approx(3.0, abs=0.05)


def test_bootstrap_draws_whole_videos():
    clusters = ["a", "a", "b", "c", "c", "c"]
    samples = cluster_samples(clusters, count=50, seed=0)
    assert len(samples) == 50
    for sample in samples:
        for name, members in (("a", [0, 1]), ("b", [2]), ("c", [3, 4, 5])):
            counts = {sample.count(member) for member in members}
            assert len(counts) == 1, name
    assert cluster_samples(clusters, count=5, seed=0) == samples[:5]
    assert cluster_samples(["a", "a", "b"], count=50, seed=0) == []
    assert len(cluster_samples(["a", "c", "b"], count=50, seed=0)) == 50


def test_an_interval_needs_values():
    low, high = interval95(list(np.arange(1000.0)))
    assert low == pytest.approx(25, abs=1) and high == pytest.approx(974, abs=1)
    assert interval95([1.0, float("nan")]) is None
    assert interval95([1.0] * 80 + [float("nan")] * 20) is None and interval95([1.0] * 98 + [float("nan")] * 2) is not None
