"""Figures against independent computations."""

import numpy as np
import pytest

from dvcc.evaluation.statistics import bd_metric, bd_rate, cluster_samples, interval95

RATES = [10.0, 20.0, 40.0, 80.0, 160.0]
QUALITY = [30.0, 33.0, 36.0, 39.0, 42.0]


def test_the_same_curve_at_other_rates_is_its_factor():
    assert bd_rate(RATES, QUALITY, [0.8 * r for r in RATES], QUALITY).percent == pytest.approx(-20, abs=0.1)
    assert bd_rate(RATES, QUALITY, [1.5 * r for r in RATES], QUALITY).percent == pytest.approx(50, abs=0.1)
    assert bd_rate(RATES, QUALITY, RATES, QUALITY).percent == pytest.approx(0, abs=1e-9)


def test_order_of_points_does_not_matter():
    order = [3, 0, 4, 1, 2]
    shuffled = [RATES[i] for i in order], [QUALITY[i] for i in order]
    assert bd_rate(*shuffled, [0.8 * r for r in RATES], QUALITY).percent == pytest.approx(-20, abs=0.1)


def test_a_dip_does_not_break_it_and_no_overlap_is_nan():
    dented = [30.0, 33.0, 32.9, 39.0, 42.0]
    assert np.isfinite(bd_rate(RATES, QUALITY, RATES, dented).percent)
    assert np.isnan(bd_rate(RATES, QUALITY, RATES, [q + 50 for q in QUALITY]).percent)
    assert np.isnan(bd_rate(RATES, QUALITY, RATES, [30.0] * 5).percent)
    assert bd_rate(RATES, QUALITY, RATES, dented).monotone == 1 and bd_rate(RATES, QUALITY, RATES, dented).points == 4
    for rates, quality in (([], []), ([10.0], [30.0])):
        assert np.isnan(bd_rate(RATES, QUALITY, rates, quality).percent) and np.isnan(bd_metric(RATES, QUALITY, rates, quality))


def test_a_bd_rate_needs_four_points_and_a_third_of_the_range_and_says_what_it_lacks():
    whole = bd_rate(RATES, QUALITY, [0.8 * r for r in RATES], QUALITY)
    assert (whole.points, whole.overlap, whole.monotone, whole.reason) == (5, 1.0, 2, "")
    few = bd_rate(RATES[:3], QUALITY[:3], RATES, QUALITY)
    assert np.isnan(few.percent) and few.reason == "3 of the 4 rising points that it needs"
    # 12 wide each: at 5 apart they share 7 of 17, at 7 apart 5 of 19.
    for apart, enough in ((5, True), (7, False)):
        basis = bd_rate(RATES, QUALITY, RATES, [q + apart for q in QUALITY])
        assert basis.overlap == pytest.approx((12 - apart) / (12 + apart)) and np.isfinite(basis.percent) == enough
    assert basis.reason == "the curves share 26% of the metric's range, and it needs 33%"


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
