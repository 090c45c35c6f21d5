"""A control learns at the bits of x264's own map, on a task with an upper side."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dvcc.codecs import X264
from dvcc.config.parse import parse
from dvcc.control import module
from dvcc.control import training as control
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.eyes import make_eyes
from dvcc.control.eyes.base import Look
from dvcc.control.eyes.nanodet_plus_m import NanoDetEyes
from dvcc.control.eyes.painting import load_rule
from dvcc.control.network import ControlNetwork, load_network
from dvcc.control.objective import Baseline, at_equal_bits, objective
from dvcc.control.planes import ClipPlanes
from dvcc.errors import ConfigError
from dvcc.media.format import ClipSource
from dvcc.networks.detectors.base import Boxes
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.surrogate import load_surrogate
from dvcc.surrogate import training as surrogate
from dvcc.surrogate.store import SampleStore
from dvcc.tasks import ReconstructionTask, build_task
from dvcc.units import bits_per_pixel_to_kbps
from tests.training.conftest import configure, losses, samples_of


def test_offsets_learn_to_beat_x264_where_the_task_is(tiny, trained, tmp_path, monkeypatch):
    """A task that cares for the upper half only: its loss must fall below that of x264's own map at equal bits. (Not the left
    half: half of what the control sees is mirrored.)"""

    class UpperHalf(ReconstructionTask):
        def degradation(self, prediction, reference):
            return super().degradation(prediction, reference) * (torch.arange(prediction.shape[-2]) < 32)[:, None]

    monkeypatch.setattr(control, "build_task", lambda config: UpperHalf())
    words = ["task=reconstruction", f"surrogate={trained}", "control.blur_sigma=0"]
    words += ["trainer.max_steps=60", "learning_rate=0.01"]
    path = control.run(configure("control", [*tiny, "data.crops_per_clip=1"], tmp_path, *words))
    network, config = load_network(path.with_suffix(".safetensors"))
    assert config["control"] == network.config and network.config["blur_sigma"] == 0
    relative, excess = (list(losses(tmp_path, term=term).values()) for term in ("task", "log_bits_excess"))
    assert sum(relative[:5]) / 5 == pytest.approx(1, abs=0.05) and sum(relative[-10:]) / 10 < 0.975  # of a loss in decades
    assert abs(sum(excess[-10:]) / 10) < 0.1
    config = parse("train", ["control", *words[:1], *tiny])[1]
    sample = default_collate([samples_of(config, baselines=3)[0]])
    offsets = network.offsets(sample["frames"], torch.tensor([-2.0]))
    assert offsets[..., :2, :].mean() < offsets[..., 2:, :].mean() - 1


def test_a_control_with_eyes_learns_and_is_deployed_with_them(tiny, trained, tmp_path, monkeypatch):
    """Two clips by heart in 30 steps; what is deployed decides what the network decides of the planes that it learned from."""

    class UpperHalf(ReconstructionTask):
        def degradation(self, prediction, reference):
            return super().degradation(prediction, reference) * (torch.arange(prediction.shape[-2]) < 32)[:, None]

    monkeypatch.setattr(control, "build_task", lambda config: UpperHalf())
    words = ["task=reconstruction", f"surrogate={trained}", "data.crops_per_clip=1", "data.max_clips=2"]
    words += ["eyes.name=nanodet_plus_m", "eyes.every=1", "trainer.max_steps=30", "learning_rate=0.01"]
    config = configure("control", tiny, tmp_path, *words)
    path = control.run(config)
    relative = list(losses(tmp_path, term="task").values())
    assert sum(relative[:3]) / 3 == pytest.approx(1, abs=0.05) and sum(relative[-5:]) / 5 < sum(relative[:3]) / 3 - 0.01
    network, _ = load_network(path.with_suffix(".safetensors"))
    eyes = network.config["eyes"]
    assert eyes["name"] == "nanodet_plus_m" and (tmp_path / eyes["file"]).is_file()
    samples = samples_of(config, baselines=module.BASELINES)
    base = torch.cat([s["baseline_kbps"] / s["fps"] / s["frames"][0, 0].numel() * 1000 for s in (samples[0], samples[1])])
    assert network.config["rates"] == pytest.approx([float(base.min()), float(base.max())])
    network.prior.coefficients[1:] = 0  # a stream does not know the frames to come
    clip, deployed = samples.clips[0], deploy(network)
    planes = ClipPlanes(deployed.eyes, samples)
    planes.eyes.look = None  # they were looked at before the training
    log_bpp = torch.tensor([float(base.log().mean())])
    kbps = bits_per_pixel_to_kbps(float(log_bpp.exp()), fps=clip.fps, height=clip.height, width=clip.width)
    expected = network.offsets(clip.frames[None], log_bpp, planes=planes.of(torch.tensor([0])))[0].detach().numpy()
    del planes.eyes.look
    given = LearnedOffsets(deployed, ClipSource(clip), kbps, X264(gop=config.codec.gop)).generate(ClipSource(clip).frames())
    np.testing.assert_allclose([offsets for _, offsets in given], expected, atol=0.8)  # rounded, and chroma not interpolated
    assert np.abs(expected).max() > 1
    with pytest.raises(ConfigError, match="no eyes 'yolo'"):
        control.run(configure("control", tiny, tmp_path / "other", *words, "eyes.name=yolo"))


def test_a_control_on_the_rule_starts_from_it(tiny, trained, tmp_path, monkeypatch):
    words = ["task=reconstruction", f"surrogate={trained}", "control.rule=true"]
    with pytest.raises(ConfigError, match=r"control\.rule=true adds to the boxes of nanodet_plus_m_416\.onnx: set eyes\.name"):
        control.run(configure("control", tiny, tmp_path, *words, "eyes.name=efficientvit_b0"))
    corner = Boxes(np.array([[0, 0, 0.5, 0.5]], np.float32), np.array([0]), np.array([0.3], np.float32))
    monkeypatch.setattr(NanoDetEyes, "look", lambda *_: Look(corner, [np.zeros((1, 2, 3), np.float32)] * 4))
    config = configure("control", [*tiny, "data.crops_per_clip=1"], tmp_path, *words, "eyes.name=nanodet_plus_m")
    samples = samples_of(config, baselines=3)
    samples.store = SampleStore(None)  # what these eyes see is for no other test
    eyes, _ = make_eyes("nanodet_plus_m", features="none", every=1, folder=tmp_path)
    rule = load_rule()
    network = ControlNetwork(width=8, extra_planes=eyes.num_planes, eyes=eyes.settings, rule=asdict(rule))
    task = build_task("reconstruction", model="ssim")
    planes = ClipPlanes(eyes, samples)
    how = {"rates_per_clip": config.rates_per_clip, "learning_rate": config.learning_rate}
    control_module = module.ControlModule(network, module.Teachers(load_surrogate(trained)[0]), task, samples, planes, **how)
    _, _, delta = control_module.step(default_collate([{"clip": torch.tensor(0), "frames": samples[0]["frames"]}]))
    inside = round(rule.background - rule.strength / 2)  # of a score half way from unsure to sure
    assert (delta[..., :2, :3] == inside).all() and (delta[..., 2:, :] == rule.background).all()
    torch.nn.init.normal_(network.head.weight)
    _, _, learned = control_module.step(default_collate([{"clip": torch.tensor(0), "frames": samples[0]["frames"]}]))
    assert (learned - delta).abs().max() > 1


class Lines:
    """A codec whose loss and log bits are straight lines in the mean QP."""

    def __call__(self, qp):
        mean_qp = qp.mean((1, 2, 3))
        return 0.1 + 0.02 * mean_qp, 9 - 0.12 * mean_qp


def base_of(qp):
    loss, log_bits = Lines()(qp)
    return Baseline(qp, torch.zeros(len(qp)), loss, log_bits)


def test_offsets_are_judged_at_the_bits_of_their_base():
    """The shift and the price are known where the codec is a straight line."""
    base = base_of(torch.tensor([26.0, 33.0]).view(2, 1, 1, 1).expand(2, 3, 4, 6))
    shift, price = at_equal_bits(base.qp - 3, base, Lines())
    torch.testing.assert_close(shift.flatten(), torch.full((2,), 3.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(price, (0.02 / 0.12) / base.loss, rtol=1e-3, atol=1e-4)


def test_bits_spent_evenly_are_worth_nothing():
    """A common offset is taken back, and along it the gradient of the loss is that of the price: none."""
    base = base_of(torch.full((1, 3, 4, 6), 30.0))
    delta = torch.full((1, 3, 4, 6), 2.0, requires_grad=True)
    terms = objective(delta, base, Lines())
    assert terms.excess.abs().max() < 1e-3 and terms.relative_loss.item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(terms.total, terms.relative_loss + terms.price * terms.excess)
    terms.total.sum().backward()
    assert delta.grad.sum().abs() < 1e-3 * (0.02 / base.loss).item()


def test_x264s_own_maps_are_known_at_rising_rates(tiny, trained, tmp_path):
    words = ["task=reconstruction", f"surrogate={trained}"]
    config = configure("control", [*tiny, "data.crops_per_clip=1"], tmp_path, *words)
    samples = samples_of(config, baselines=3)
    task = build_task("reconstruction", model="ssim")
    parts = ControlNetwork(width=8), module.Teachers(load_surrogate(trained)[0]), task, samples
    control_module = module.ControlModule(*parts, rates_per_clip=4, learning_rate=1e-3)
    base = control_module.clip_cache(0).baseline
    assert (base.log_bpp.diff() > 0).all() and (base.qp.float().mean((1, 2, 3)).diff() < 0).all()  # more bits, finer
    assert (base.log_bits.diff() > 0).all() and (base.loss.diff() < 0).all()
    terms, _, delta = control_module.step(default_collate([{"clip": torch.tensor(0), "frames": samples[0]["frames"]}]))
    assert terms.total.shape == (4,) and delta.shape == (4, *base.qp.shape[1:]) and not delta.any()  # untrained
    assert terms.excess.abs().max() < 1e-3


def test_a_control_that_is_made_of_a_ladder_needs_a_surrogate_that_reads_one(tiny, tmp_path):
    path = surrogate.run(configure("surrogate", tiny, tmp_path / "s", "surrogate.name=network", "trainer.max_steps=1"))
    words = ["task=reconstruction", f"surrogate={path}"]
    for setting in ("teacher.ladder=1", "control.analysis=true"):
        with pytest.raises(ConfigError, match=r"reads no ladder.*set recipe=surrogate, or train surrogate\.name=anchored"):
            control.run(configure("control", tiny, tmp_path, *words, setting))
