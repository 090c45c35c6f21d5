"""A control learns from what detectors see of the uncoded clip, with no encode and no surrogate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvcc.codecs import X264
from dvcc.control import training as control
from dvcc.control.boxes import BoxTeacher
from dvcc.control.deployed.runtime import load_control
from dvcc.control.eyes.painting import load_rule
from dvcc.control.network import load_network, mean_so_far
from dvcc.control.objective import difference
from dvcc.errors import ConfigError
from dvcc.media.format import ClipSource
from dvcc.networks.detectors.base import Boxes
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.tasks import DetectionTask, build_task
from dvcc.units import bits_per_pixel_to_kbps
from tests.training.conftest import configure, losses, samples_of

ALONE = ["task=detection", "task.model=student", "teacher.surrogate=0", "teacher.boxes=1", "control.averaged=false"]


def corner(share: float):
    """A detector that sees one object in the upper left of every frame, over so much of both sides."""

    def objects(self, frames):
        box = Boxes(torch.tensor([[0, 0, share, share]]), torch.zeros(1, dtype=torch.int64), torch.ones(1))
        return [box] * len(frames)

    return objects


@pytest.fixture
def samples(tiny, tmp_path):
    words = [*ALONE, f"data.cache={tmp_path}/cache"]  # what these detectors see is for no other test
    return samples_of(configure("control", tiny, tmp_path, *words))


def test_what_one_of_two_sees_is_worth_half(samples, monkeypatch):
    rule = load_rule()
    seeing = [build_task("detection", model="student") for _ in range(2)]
    for detector, share in zip(seeing, (0.25, 0.5), strict=True):
        monkeypatch.setattr(detector, "objects", corner(share).__get__(detector))
    monkeypatch.setattr("dvcc.control.boxes.task_key", id)  # these two are not the same network
    teacher = BoxTeacher(seeing, samples, rule, gop=8)
    offsets = teacher.offsets(0)
    rows, columns = offsets.shape[1:]
    assert (offsets[:, 0, 0] == rule.background - rule.strength).all()
    assert (offsets[:, rows // 2 - 1, columns // 2 - 1] == rule.background - rule.strength / 2).all()
    assert (offsets[:, -1, -1] == rule.background).all()
    decided = offsets[None].float()
    assert difference(decided + 5, decided).item() == pytest.approx(0, abs=1e-5)  # x264 takes the 5 back
    moved = decided.clone()
    moved[..., 0, 0] += 3
    cells = rows * columns
    assert difference(moved, decided).item() == pytest.approx(9 * (1 / cells - 1 / cells**2), rel=1e-4)
    monkeypatch.setattr(seeing[0], "objects", None)  # what it saw is stored by now
    assert torch.equal(BoxTeacher(seeing, samples, rule, gop=8).offsets(0), offsets)


def test_a_control_learns_where_a_detector_sees_objects(tiny, tmp_path, monkeypatch):
    """Without an encode; the upper left is finer by the end, in the deployed control too, frame by frame."""
    monkeypatch.setattr(DetectionTask, "objects", corner(0.5))
    monkeypatch.setattr(X264, "encode", None)
    words = [*ALONE, "control.blur_sigma=0", "trainer.max_steps=40", "learning_rate=0.01", "rates_per_clip=1"]
    words.append(f"data.cache={tmp_path}/cache")
    config = configure("control", [*tiny, "data.crops_per_clip=1", "data.max_clips=2"], tmp_path, *words)
    path = control.run(config)
    told = list(losses(tmp_path, term="boxes").values())
    assert sum(told[-5:]) < 0.5 * sum(told[:5])
    network, stored = load_network(path.with_suffix(".safetensors"))
    assert network.config["rates"] == control.ALL_RATES and network.config["averaged"] is False and stored["trained_on"]
    samples = samples_of(config)
    clip = samples.clips[0]
    log_bpp = torch.tensor([-3.0])
    expected = network.offsets(clip.frames[None], log_bpp)[0].detach().numpy()
    rows, columns = expected.shape[1:]
    assert expected[:, : rows // 2, : columns // 2].mean() < expected.mean() - 2
    kbps = bits_per_pixel_to_kbps(float(log_bpp.exp()), fps=clip.fps, height=clip.height, width=clip.width)
    deployed = LearnedOffsets(load_control(path), ClipSource(clip), kbps, X264(gop=config.codec.gop))
    given = np.stack([offsets for _, offsets in deployed.generate(ClipSource(clip).frames())])
    averaged = mean_so_far(torch.from_numpy(expected)[None], gop=config.codec.gop)[0].numpy()
    # Not the same: offsets are rounded, and chroma is not interpolated.
    assert np.abs(given - expected).mean() < 0.6 < np.abs(given - averaged).mean()


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["task=reconstruction", "task.model=ssim", "teacher.boxes=1"],
            r"teacher\.boxes are those of detectors, and the task is reconstruction",
        ),
        (["teacher.surrogate=0"], r"all 0, so there is nothing to learn"),
        (["teacher.detectors=[picodet]"], r"have no weight: set teacher\.boxes above 0"),
        (["teacher.boxes=-1"], r"boxes must be at least 0"),
        (
            ["task=detection", "teacher.surrogate=0", "task.model=student", "teacher.boxes=1", "teacher.detectors=[yolo99]"],
            r"yolo99",
        ),
    ],
)
def test_what_cannot_teach_is_refused_before_any_work(tiny, trained, tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        control.run(configure("control", tiny, tmp_path, f"surrogate={trained}", *words))
