"""Offset and analysed mode: learned at the bits of x264's own map, on a task with an upper side."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import default_collate

from dvcc.codecs import X264
from dvcc.config.parse import parse
from dvcc.control import ControlNetwork, load_control, offset_module
from dvcc.control import training as control
from dvcc.errors import ConfigError
from dvcc.surrogate import load_surrogate, mean_qp
from dvcc.tasks import ReconstructionTask, build_task
from dvcc.training.run import build_samples
from tests.training.conftest import configure, losses


@pytest.mark.parametrize("mode", ["offset", "analysed"])
def test_offsets_learn_to_beat_x264_where_the_task_is(mode, tiny, trained, tmp_path, monkeypatch):
    """A task that cares for the upper half only: its loss must fall below that of x264's own map at equal bits. (Not the left
    half: half of what the control sees is mirrored.)"""

    class UpperHalf(ReconstructionTask):
        def degradation(self, prediction, reference):
            return super().degradation(prediction, reference) * (torch.arange(prediction.shape[-2]) < 32)[:, None]

    monkeypatch.setattr(control, "build_task", lambda name, **settings: UpperHalf())
    words = ["task=reconstruction", f"surrogate={trained}", f"control.mode={mode}", "control.smoothness=0"]
    words += ["trainer.max_steps=60", "learning_rate=0.01"]
    path = control.run(configure("control", [*tiny, "data.augment=1"], tmp_path, *words))
    network, config = load_control(path)
    assert network.mode == mode and config["control"]["mode"] == mode
    relative, excess = (list(losses(tmp_path, term=term).values()) for term in ("task", "log_bits_excess"))
    assert sum(relative[:5]) / 5 == pytest.approx(1, abs=0.05) and sum(relative[-10:]) / 10 < 0.975  # of a loss in decades
    assert abs(sum(excess[-10:]) / 10) < 0.1
    data = parse("train.py", ["control", *words[:1], *tiny])[1].data
    sample = default_collate([build_samples(data, X264(), seed=0, with_maps=False, baselines=3)[0]])
    offsets = network.offsets(sample["frames"], torch.tensor([-2.0]), sample["baseline_qp"][:, 1].float())
    assert offsets[..., :2, :].mean() < offsets[..., 2:, :].mean() - 1


def test_offsets_are_judged_at_the_bits_of_their_base(tiny, trained, tmp_path, monkeypatch):
    """With a surrogate whose loss and log bits are straight lines in the mean QP, the shift and the price are known."""
    words = ["task=reconstruction", f"surrogate={trained}", "control.mode=offset"]
    config = configure("control", [*tiny, "data.augment=1"], tmp_path, *words)
    samples = build_samples(config.data, X264(), seed=0, with_maps=False, baselines=3)
    network, task = ControlNetwork(width=8, mode="offset"), build_task("reconstruction", model="ssim")
    module = offset_module.OffsetModule(network, load_surrogate(trained)[0], task, config, samples)

    def lines(batch, qp):
        level = mean_qp(qp).mean((1, 2, 3))
        return 0.1 + 0.02 * level, 9 - 0.12 * level

    monkeypatch.setattr(module, "off_the_ladder", lines)
    module.known(0)
    base = module._baselines[0]
    level = base.qp.float().mean((1, 2, 3))
    torch.testing.assert_close(base.loss, 0.1 + 0.02 * level)
    assert (base.log_bpp.diff() > 0).all() and (level.diff() < 0).all()  # more bits, finer
    shift, price = module.at_equal_bits({}, base.qp.float() - 3, base)
    torch.testing.assert_close(shift.flatten(), torch.full((3,), 3.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(price, (0.02 / 0.12) / base.loss, rtol=1e-3, atol=1e-4)


def test_a_rounding_error_of_the_bits_is_no_reason(tiny, trained, tmp_path):
    """At equal bits the sign of the excess is chance: no term may push along it."""
    words = ["task=reconstruction", f"surrogate={trained}", "control.mode=offset", "objective.deviation_weight=100"]
    config = configure("control", [*tiny, "data.augment=1"], tmp_path, *words)
    samples = build_samples(config.data, X264(), seed=0, with_maps=False, baselines=3)
    task = build_task("reconstruction", model="ssim")
    module = offset_module.OffsetModule(ControlNetwork(width=8, mode="offset"), load_surrogate(trained)[0], task, config, samples)
    terms = module.step(default_collate([{"clip": torch.tensor(0), "frames": samples[0]["frames"]}])).terms
    assert terms.excess.abs().max() < 1e-3
    torch.testing.assert_close(terms.total, terms.task + terms.multiplier * terms.excess)


def test_offsets_need_a_judged_ladder(tiny, trained, tmp_path):
    words = ["task=reconstruction", f"surrogate={trained}", "control.mode=offset", "objective.judge=frames"]
    with pytest.raises(ConfigError, match=r"control\.mode=offset.*objective\.judge=ladder"):
        control.run(configure("control", tiny, tmp_path, *words))
    with pytest.raises(ConfigError, match="absolute, analysed or offset, got 'both'"):
        configure("control", tiny, tmp_path, "control.mode=both")
