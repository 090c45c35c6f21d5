"""What is said of known curves."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dvcc.evaluation.compare.encoding import Measured
from dvcc.evaluation.compare.verdict import compare, headline, remarks
from dvcc.tasks import build_task
from tests.evaluation.compare.conftest import NAMES, TARGETS


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("dvcc.evaluation.compare.verdict._RESAMPLES", 60)


TASK = build_task("reconstruction", model="psnr")


def side(
    controller: str, gain: float, *, blocks: int = 8, spread: float = 0.0, rate: float = 1.0, seed: int = 0
) -> list[Measured]:
    """PSNR is 10 * log10(kbps) + gain in every block, give or take `spread`."""
    rng, verdicts = np.random.default_rng(seed), []
    for target in TARGETS:
        bits = np.full(blocks * 4, rate * target * 1000 / 25, np.int64)
        psnr = 10 * np.log10(rate * target) + gain + spread * rng.normal(size=blocks)
        states = [
            {"squared_error": torch.tensor(100 * 10 ** (-value / 10)).double(), "count": torch.tensor(100.0).double()}
            for value in psnr
        ]
        verdicts.append(Measured(controller, target, Path("none.mp4"), bits, Fraction(25), 2, 1.0, states, states))
    return verdicts


def sentences_of(baseline, control, task=TASK) -> tuple:
    verdict = compare(baseline, control, task, target_kbps=80.0, block=4)
    return verdict, headline(verdict, task, NAMES), remarks(verdict, [*baseline, *control], task, NAMES, 80.0)


def test_a_steady_gain_is_found_and_said_to_be_better():
    verdict, sentence, notes = sentences_of(side("abr2", 0), side("control", 1))
    assert verdict.at_target == pytest.approx(1) and verdict.equal_rate == pytest.approx(1, abs=1e-6)
    assert verdict.bd_rate == pytest.approx(100 * (10**-0.1 - 1), abs=0.5)
    assert "PSNR (dB) is 1.000 higher" in sentence and sentence.endswith("better than two-pass ABR here.")
    assert any("-20.6 % bits" in note for note in notes) and "not significant" not in " ".join(notes)
    assert "(BD-rate; 4 points, " in " ".join(notes) and "100% of the curves monotone, 95 % interval" in " ".join(notes)


def test_a_loss_is_said_to_be_worse():
    _, sentence, _ = sentences_of(side("abr2", 1), side("control", 0))
    assert "1.000 lower" in sentence and sentence.endswith("worse than two-pass ABR here.")


def test_without_a_bd_rate_it_is_said_why():
    """Curves that share less than a third of the metric's range."""
    verdict, _, notes = sentences_of(side("abr2", 0), side("control", 4))
    assert np.isnan(verdict.bd_rate) and verdict.bd_overlap < 1 / 3
    assert any(note.startswith("There is no BD-rate: the curves share ") and "(4 points, " in note for note in notes)


def test_more_bits_are_no_gain():
    """On the same curve further up: the figure at the target is higher, at equal bitrate it is not."""
    verdict, _, notes = sentences_of(side("abr2", 0), side("control", 0, rate=1.2))
    assert verdict.at_target > 0.7 and verdict.equal_rate == pytest.approx(0, abs=1e-6)
    assert notes[0].startswith("Of 80 kbit/s asked for, learned control took 96.0 (+20%)")


def test_chance_is_called_chance():
    _, sentence, _ = sentences_of(side("abr2", 0, spread=2, seed=1), side("control", 0.1, spread=2, seed=2))
    assert "no significant difference" in sentence


def test_few_gops_have_no_interval():
    verdict, sentence, _ = sentences_of(side("abr2", 0, blocks=3), side("control", 1, blocks=3))
    assert verdict.equal_rate_interval is None and "too few GOPs (3)" in sentence


def test_curves_that_share_no_rate_are_not_compared():
    verdict, sentence, _ = sentences_of(side("abr2", 0), side("control", 0, rate=9.0))
    assert verdict.common_kbps is None and "no bitrate in common" in sentence


def test_of_a_metric_where_less_is_better_higher_is_worse():
    less = SimpleNamespace(metric_name="error", metric=lambda: replace_direction(TASK.metric()))
    verdict, sentence, _ = sentences_of(side("abr2", 0), side("control", 1), less)
    assert verdict.equal_rate == pytest.approx(1, abs=1e-6) and sentence.endswith("worse than two-pass ABR here.")


def replace_direction(metric):
    metric.__dict__["higher_is_better"] = False
    return metric


def test_blocks_are_resampled_with_their_bits():
    baseline = side("abr2", 0)
    for m in baseline:
        m.bits_per_frame = m.bits_per_frame * np.r_[np.full(16, 2), np.full(16, 1)]
    verdict = compare(baseline, side("control", 0, rate=1.5), TASK, target_kbps=80.0, block=4)
    low, high = verdict.equal_rate_interval
    assert high - low > 0.1
