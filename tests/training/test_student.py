"""`train.py student` at a tiny scale."""

from __future__ import annotations

import json

import pytest
import torch

from dvcc.config.parse import parse
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.detection import load_detection_net
from dvcc.networks.student import StudentSegmenter
from dvcc.pretraining import student as stage
from dvcc.pretraining import student_views
from dvcc.pretraining.distillation import DISTILLATIONS
from dvcc.tasks import build_task
from tests.conftest import make_scene


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Views and held-out frames of one small size."""
    monkeypatch.setattr(student_views, "VIEW_SIZES", ((64, 96),))
    monkeypatch.setattr(stage, "HELD_OUT_SIZES", ((64, 96),))


def configure(tmp_path, videos, *words):
    always = [f"data.root={videos}", "data.test=[test.mp4]", f"out={tmp_path / 'out'}"]
    return parse("train", ["student", *always, "steps=2", "views=8", "batch_size=4", "report_every=1", *words])[1]


def test_a_segmentation_student_is_left_that_its_task_loads(espnetv2, videos, tmp_path, capsys):
    path = stage.run(configure(tmp_path, videos, f"teacher={espnetv2}"))
    figures = json.loads(path.with_suffix(".json").read_text())
    assert 0 <= figures["96x64"]["agreement"] <= 1 and figures["parameters"] < 1_500_000 and figures["bytes"] < 6_000_000
    assert "held_out" in capsys.readouterr().out
    task = build_task("segmentation", model="student", weights=path)
    assert task.predict(make_scene(frames=1).frames).shape == (1, 20, 64, 96)


def test_a_detection_student_is_left_that_its_task_loads(fastestdet, videos, tmp_path, capsys):
    path = stage.run(configure(tmp_path, videos, "task=detection"))
    figures = json.loads(path.with_suffix(".json").read_text())
    assert set(figures["96x64"]) == {"mAP", "mAP50", "mAP75"} and figures["bytes"] < 4_000_000
    assert "held_out" in capsys.readouterr().out
    net = load_detection_net("student", weights=path)
    assert net(torch.rand(1, 3, 64, 96)).shape == (1, 484, 84)


def test_the_held_out_video_is_one_and_is_not_trained_on(espnetv2, videos, tmp_path, monkeypatch):
    read = []
    original = student_views.read_frames
    monkeypatch.setattr(stage, "read_runs", lambda video, count: read.append(video.name) or [original(video)[:4]])
    stage.run(configure(tmp_path, videos, f"teacher={espnetv2}"))
    assert sorted(read) == ["a.mp4", "b.mp4"]
    with pytest.raises(ConfigError, match="one video"):
        stage.run(configure(tmp_path, videos, "data.test=[a.mp4,test.mp4]"))


def test_the_pictures_are_coded_as_the_settings_say(espnetv2, videos, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    seen = []
    monkeypatch.setattr(stage, "LabelledViews", lambda *_, coding, **__: seen.append(coding))
    monkeypatch.setattr(stage, "fit_student", lambda *_, **__: {})
    stage.run(configure(tmp_path, videos, f"teacher={espnetv2}"))
    words = ["data.coded=0.5", "data.codecs=[x264,jpeg]", "data.robust=true"]
    stage.run(configure(tmp_path, videos, *words, f"teacher={espnetv2}"))
    assert seen == [student_views.Coding(), student_views.Coding(0.5, ("x264", "jpeg"), True)]


@pytest.mark.parametrize(
    "words, said",
    [
        (["data.coded=1.5"], "data.coded is a share from 0 to 1, got 1.5"),
        (["data.codecs=[gif]"], r"data.codecs are x264, jpeg or both, got \['gif'\]"),
        (["data.codecs=[]"], "data.codecs are x264, jpeg or both"),
        (["data.coded=0", "data.robust=true"], "data.robust=true is about coded pictures"),
    ],
)
def test_coding_that_cannot_be_is_one_sentence(words, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        configure(tmp_path, tmp_path, *words)


def test_a_teacher_of_another_kind_or_none_is_named(videos, tmp_path):
    torch.save(StudentSegmenter().state_dict(), tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=r"wrong\.pth"):
        stage.run(configure(tmp_path, videos, f"teacher={tmp_path / 'wrong.pth'}"))
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: set teacher=PATH"):
        stage.run(configure(tmp_path, videos, f"teacher={tmp_path / 'nowhere.pth'}"))


def test_what_has_no_student_is_named(videos, tmp_path):
    with pytest.raises(ConfigError, match=r"no task=reconstruction: .*choose task=detection\|segmentation"):
        configure(tmp_path, videos, "task=reconstruction")
    with pytest.raises(ConfigError, match="task.model=student, got 'espnetv2'"):
        configure(tmp_path, videos, "task.model=espnetv2")
    assert set(DISTILLATIONS) == {configure(tmp_path, videos, f"task={name}").task.name for name in DISTILLATIONS}


def test_the_average_forgets_where_it_began():
    net = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(net.weight)
    module = stage.StudentModule(student=net, trunk=torch.nn.Identity(), loss=dict, steps=50, trunk_rate=1.0)
    module.on_train_batch_end()
    torch.nn.init.ones_(net.weight)
    for _ in range(50):
        module.on_train_batch_end()
    assert 0.99 < module.averaged.module.weight < 1
