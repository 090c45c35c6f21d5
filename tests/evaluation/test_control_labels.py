"""`evaluate.py control` on labelled data sets: the metric against labels beside the one against the network's own answers."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dvcc.config.parse import parse
from dvcc.control.deployed.onnx_export import export
from dvcc.control.network import ControlNetwork
from dvcc.datasets.clips import video_key
from dvcc.errors import ConfigError
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.control.run import build_test_set
from dvcc.networks.segmentation import SegmentationNet
from dvcc.tasks.segmentation import MeanIoU, MergedMeanIoU
from tests.datasets import replicas

SKY, CAR = 10, 13  # of Cityscapes' 19


class Bright(nn.Module):
    """Sky where a picture is bright, a car where it is dark, whatever normalisation is about."""

    def __init__(self, wrong: float = 0.0) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.new_full((len(images), 19, *images.shape[-2:]), -20.0)
        brightness = images.mean(1)
        logits[:, SKY], logits[:, CAR] = 4 * brightness, -4 * brightness
        return logits


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Four frames of noise over a bright and a dark half, labelled as sky and car, but for the left tenth, which is a road."""
    root, rng = tmp_path_factory.mktemp("camvid"), np.random.default_rng(0)
    replicas.camvid_sequence(root, frames=9, size=(64, 96))
    for t, path in enumerate(sorted((root / "images").glob("0016E5*.png"))):
        picture = rng.normal(0, 45, (64, 96, 3)) + np.where(np.arange(96) < 48 + t, 190, 70)[None, :, None]
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)
        labels = np.where(np.arange(96) < 48 + t, 0, 8)[None].repeat(64, 0)
        labels[:, :10] = 3
        replicas.store(root / "labels" / path.name, labels)
    return root


@pytest.fixture
def network(monkeypatch):
    """Every segmentation task has this network."""
    net = SegmentationNet(Bright(), num_classes=19)
    monkeypatch.setattr("dvcc.tasks.segmentation.load_segmentation_net", lambda *_, **__: net)


def configure(root, out, *words):
    always = ["data.size=[64,96]", "data.frames=4", "data.stride=1", "controllers=[abr2,crf]", "stability=0", "bootstrap=0"]
    data = ["workers=1", f"data.root={root}", f"data.cache={out}-cache", f"out={out}"]
    return parse("evaluate", ["control", "data=camvid_sequence", *data, *always, *words])[1]


def test_both_metrics_stand_in_the_report(labelled, network, tmp_path):
    printed = evaluation.run(configure(labelled, tmp_path / "out", "targets_kbps=[60,300]"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    labels = report["labels"]
    assert (labels["data"], labels["clips"], report["labels_left_out"]) == ("camvid_sequence", 2, [])
    assert "Against the labels of camvid_sequence (2 clips): mIoU" in printed
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines()))
    assert all(0 < float(row["metric_of_labels"]) < float(row["metric"]) for row in rows if row["status"] == "ok")
    low, high = labels["controllers"]["abr2"]["metric"]
    # Of three classes in the labels one is never answered, and a tenth of the pixels is it: at most 2/3, less what noise costs.
    assert 0.2 < low != high < 2 / 3 and 0.2 < labels["uncoded"] < 2 / 3
    assert labels["controllers"]["abr2"]["bd_rate_percent"] == 0


def test_the_uncoded_figure_is_what_the_labels_say_of_the_networks_answers(labelled, network, tmp_path):
    config = configure(labelled, tmp_path / "out", "targets_kbps=[300]", "data.max_clips=1")
    evaluation.run(config)
    uncoded = json.loads((tmp_path / "out" / "report.json").read_text())["labels"]["uncoded"]
    clip, labels = build_test_set(config.data).load(0)
    images = clip.frames.float() / 255
    images = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    answers = torch.where(images.mean(1) >= 0, 0, 8)
    shares = [((answers == c) & (labels == c)).sum() / ((answers == c) | (labels == c)).sum() for c in (0, 3, 8)]
    assert uncoded == pytest.approx(float(sum(shares)) / 3, abs=1e-3)


def test_labels_of_another_task_are_left_out_and_the_report_says_so(labelled, tmp_path):
    printed = evaluation.run(configure(labelled, tmp_path / "out", "task=reconstruction", "targets_kbps=[300]"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["labels"] is None and "Against the labels" not in printed
    assert "labels are of segmentation and not of reconstruction" in (tmp_path / "out" / "report.md").read_text()


def test_a_control_that_has_seen_the_folder_is_refused(labelled, network, tmp_path):
    path = tmp_path / "seen.safetensors"
    ControlNetwork(width=8).save(path, {"run": {}, "trained_on": [video_key(labelled / "images")]})
    path = export(path)
    with pytest.raises(ConfigError, match="was trained on images"):
        evaluation.run(configure(labelled, tmp_path / "out", f"checkpoint={path}", "controllers=[abr2,learned]"))


def test_a_data_set_has_its_own_split(labelled, tmp_path):
    with pytest.raises(ConfigError, match="has its own split: leave out data.test"):
        build_test_set(configure(labelled, tmp_path / "out", "data.test=[a.mp4]").data)


def one_hot(classes: list[int]) -> torch.Tensor:
    """Logits (1, 4, N, 1) that are sure of these classes."""
    return nn.functional.one_hot(torch.tensor([classes]), 4).float().movedim(-1, -2)[..., None]


def test_merged_classes_count_as_the_labels_do():
    """Classes 3 and 1 mean label 0, 0 means 1, 2 means nothing; no class means label 2, which is not looked at."""
    labels = torch.tensor([[0, 0, 1, 2, 255]])[..., None]
    for answers, expected in (([3, 1, 0, 0, 0], 1.0), ([3, 2, 0, 0, 0], 0.75), ([0, 1, 0, 3, 3], 0.5)):
        metric = MergedMeanIoU([1, 0, -1, 0])
        metric.update(one_hot(answers), labels)
        assert float(metric.compute()) == pytest.approx(expected)
    plain = MeanIoU(4)
    plain.update(one_hot([3, 1, 0, 0, 0]), labels)
    assert float(plain.compute()) < 0.5
