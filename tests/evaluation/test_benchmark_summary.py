"""What an auditor is told, on curves whose answer is known."""

import pytest

from dvcc.evaluation.benchmark.summary import audit, not_monotone


def point(level, value, *, interval=None, kilobytes=1.0):
    return {"level": level, "relative": {"top-1": {"value": value, "ci95": interval}}, "kilobytes": kilobytes}


UNCODED, NO_ERROR = point("uncoded", 1.0), point("uncoded", 0.0)
CURVE = [point(95, 0.99, kilobytes=8.0), point(80, 0.96, kilobytes=4.0), point(50, 0.97, kilobytes=2.0), point(10, 0.5)]


def test_enough_is_the_coarsest_level_above_which_no_finer_one_loses_more():
    answer = audit(CURVE, UNCODED, "top-1", higher_is_better=True, at=50, lose_at_most=0.035)
    assert (answer["enough"], answer["bandwidth_ratio"]) == (95, 4.0)  # 80 loses 0.04, so 50 may be luck
    assert answer["lost"] == pytest.approx(0.03)
    assert audit(CURVE, UNCODED, "top-1", higher_is_better=True, at=95, lose_at_most=0.05)["enough"] == 50


def test_enough_goes_by_the_bad_end_of_the_interval():
    curve = [point(95, 0.99, interval=(0.985, 1.0)), point(80, 0.97, interval=(0.9, 1.0))]
    assert audit(curve, UNCODED, "top-1", higher_is_better=True, at=80, lose_at_most=0.05)["enough"] == 95
    assert audit(curve, UNCODED, "top-1", higher_is_better=True, at=80, lose_at_most=0.05)["lost_ci95"] == pytest.approx(
        (0.0, 0.1)
    )


def test_nothing_is_enough_when_the_finest_level_loses_more():
    answer = audit(CURVE, UNCODED, "top-1", higher_is_better=True, at=10, lose_at_most=0.001)
    assert answer["enough"] is None and answer["bandwidth_ratio"] is None


def test_an_error_is_its_own_loss():
    curve = [{**point(10, 0.1)}, {**point(30, 0.9)}]
    answer = audit(curve, NO_ERROR, "top-1", higher_is_better=False, at=30, lose_at_most=0.5)
    assert (answer["lost"], answer["enough"]) == (0.9, 10)


def test_a_figure_that_is_not_defined_is_not_invented():
    answer = audit([point(10, None)], UNCODED, "top-1", higher_is_better=True, at=10, lose_at_most=0.5)
    assert answer["lost"] is None and answer["enough"] is None


def test_monotone_means_within_the_intervals():
    curve = [point(95, 0.9, interval=(0.88, 0.92)), point(80, 0.91, interval=(0.9, 0.93)), point(50, 0.99, interval=(0.97, 1.0))]
    assert not_monotone(curve, "top-1", higher_is_better=True) == [50]
    assert not_monotone(curve[::-1], "top-1", higher_is_better=False) == [80]


def test_a_metric_without_a_best_value_has_no_loss():
    """The PSNR of no difference is infinite: 30 dB are not a loss of -29."""
    answer = audit(
        [point(10, 30.0), point(30, 20.0)], point("uncoded", None), "top-1", higher_is_better=True, at=10, lose_at_most=0.5
    )
    assert answer["lost"] is None and answer["enough"] is None
