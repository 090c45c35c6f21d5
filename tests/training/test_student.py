"""`train.py student` at a tiny scale, with a teacher of random weights: the real one is not in the repository."""

from __future__ import annotations

import json

import pytest
import torch

from dvcc import CQP, X264, Clip
from dvcc.config import parse
from dvcc.errors import CheckpointError, ConfigError
from dvcc.tasks import build_task
from dvcc.tasks.nets import ESPNetv2, StudentSegmenter
from dvcc.training import student as stage
from dvcc.training import student_views
from tests.conftest import make_scene


@pytest.fixture
def small(monkeypatch):
    """Views and held-out frames of one small size."""
    monkeypatch.setattr(student_views, "VIEW_SIZES", ((64, 96),))
    monkeypatch.setattr(stage, "HELD_OUT_SIZES", ((64, 96),))


@pytest.fixture
def teacher(tmp_path):
    torch.manual_seed(0)
    torch.save(ESPNetv2().state_dict(), tmp_path / "teacher.pth")
    return tmp_path / "teacher.pth"


def configure(tmp_path, teacher, videos, *words):
    always = [f"data.root={videos}", "data.test=[test.mp4]", f"teacher={teacher}", f"out={tmp_path / 'out'}"]
    return parse("train.py", ["student", *always, "steps=2", "views=8", "batch_size=4", "report_every=1", *words])[1]


def test_the_command_leaves_weights_that_the_task_loads(small, teacher, videos, tmp_path, capsys):
    path = stage.run(configure(tmp_path, teacher, videos))
    figures = json.loads(path.with_suffix(".json").read_text())
    assert 0 <= figures["96x64"]["agreement"] <= 1 and figures["parameters"] < 1_500_000 and figures["bytes"] < 6_000_000
    assert "held_out" in capsys.readouterr().out
    task = build_task("segmentation", model="student", weights=path)
    assert task.predict(make_scene(frames=1).frames).shape == (1, 20, 64, 96)


def test_the_held_out_video_is_one_and_is_not_trained_on(small, teacher, videos, tmp_path, monkeypatch):
    read = []
    original = student_views.read_frames
    monkeypatch.setattr(stage, "read_runs", lambda video, count: read.append(video.name) or [original(video)[:4]])
    stage.run(configure(tmp_path, teacher, videos))
    assert sorted(read) == ["a.mp4", "b.mp4"]
    with pytest.raises(ConfigError, match="one video"):
        stage.run(configure(tmp_path, teacher, videos, "data.test=[a.mp4,test.mp4]"))


def test_a_teacher_of_another_kind_or_none_is_named(small, videos, tmp_path):
    torch.save(StudentSegmenter().state_dict(), tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=r"wrong\.pth"):
        stage.run(configure(tmp_path, tmp_path / "wrong.pth", videos))
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: set teacher=PATH"):
        stage.run(configure(tmp_path, tmp_path / "nowhere.pth", videos))


def test_coded_views_are_real_encodes():
    frames = make_scene(frames=4).frames
    coded = student_views.recode(frames, qp=40)
    expected = X264(preset="veryfast", bframes=0).encode(Clip.from_rgb(frames, 25), CQP(40)).frames
    assert torch.equal(coded, expected) and not torch.equal(coded, frames)
    assert (student_views.recode(frames, qp=20).float() - frames.float()).abs().mean() < (
        coded.float() - frames.float()
    ).abs().mean()


def test_agreement_counts_pixels():
    torch.manual_seed(0)
    net = ESPNetv2().eval()
    frames = make_scene(frames=2).frames
    assert stage.agreement(net, net, frames) == 1
    assert stage.agreement(StudentSegmenter().eval(), net, frames) < 1
