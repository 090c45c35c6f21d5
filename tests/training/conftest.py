"""A run as a user starts it, a surrogate after a few steps, and teachers of random weights, for the real ones are not in the
repository."""

from __future__ import annotations

import csv

import pytest
import torch
from torch import nn

from dvcc.codecs import X264
from dvcc.config.build import build_training_clips, ladder_settings, map_settings
from dvcc.config.parse import parse
from dvcc.networks.detection_student import StudentDetector
from dvcc.networks.espnetv2 import ESPNetv2
from dvcc.networks.exported import OwnDetector
from dvcc.networks.feed import NetworkOptions
from dvcc.surrogate import training as surrogate
from dvcc.surrogate.data import build_samples
from dvcc.surrogate.samples import LadderSamples


def losses(out, *, term: str = "loss") -> dict[int, float]:
    """A term at every logged step, each of which has one row."""
    with (out / "metrics.csv").open() as file:
        rows = [(int(row["step"]), float(row[term])) for row in csv.DictReader(file)]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def configure(stage: str, tiny: list[str], out, *words: str):
    always = ["logger.every_n_steps=1", "logger.pictures_every=1000", f"out={out}", "trainer.accelerator=cpu"]
    if stage == "control" and not any(word.startswith("recipe=") for word in words):
        always.append("recipe=surrogate")
    return parse("train", [stage, *tiny, *always, *words])[1]


def samples_of(config, *, with_maps: bool = False, baselines: int = 0) -> LadderSamples:
    """What a stage trains on, coded by x264 at its defaults."""
    settings = {**ladder_settings(config.data, seed=0), **(map_settings(config.data) if with_maps else {})}
    return build_samples(build_training_clips(config.data, seed=0), X264(), baselines=baselines, **settings)


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A surrogate after 12 steps."""
    out = tmp_path_factory.mktemp("surrogate")
    path = surrogate.run(configure("surrogate", tiny, out, "trainer.max_steps=12", "learning_rate=0.01"))
    return path


class _Answers(nn.Module):
    """What FastestDet's file holds: BGR to answers behind their sigmoid and softmax, from a network with its trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = StudentDetector()
        with torch.no_grad():
            self.inner.boxes[-1].bias[0] = 4.0  # it sees something everywhere, and is sure of it
            self.inner.classes[-1].bias[7] = 9.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        objectness, box, classes = self.inner.answers(images).split([1, 4, 80], 1)
        return torch.cat([objectness.sigmoid(), box, classes.softmax(1)], 1)


@pytest.fixture
def fastestdet(monkeypatch) -> OwnDetector:
    """Every detection task has this network, whatever is asked for."""
    torch.manual_seed(0)
    net = OwnDetector(_Answers(), options=NetworkOptions(layout="fastestdet", size=(352, 352))).eval().requires_grad_(False)
    monkeypatch.setattr("dvcc.tasks.detection.load_detection_net", lambda *_, **__: net)
    return net


@pytest.fixture
def espnetv2(tmp_path):
    """A file of its weights."""
    torch.manual_seed(0)
    torch.save(ESPNetv2().state_dict(), tmp_path / "teacher.pth")
    return tmp_path / "teacher.pth"
