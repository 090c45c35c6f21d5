"""Networks and tasks of one's own by package.module:name: found in the current folder, refused in one sentence."""

import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.tasks import (
    ClassificationTask,
    DetectionTask,
    EmbeddingTask,
    OpticalFlowTask,
    SegmentationTask,
    Task,
    build_task,
    check_model,
)
from dvcc.tasks.judging import predict_frames

MODULE = """
from torch import nn
from dvcc.errors import CheckpointError
from dvcc.tasks import ReconstructionTask

class Half(nn.Module):
    def forward(self, images):
        return nn.functional.avg_pool2d(images, 2)

class Means(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))

class Still(nn.Module):
    def forward(self, first, second):
        return [0 * first[:, :2], (first - second)[:, :2]]

class Pair(nn.Module):
    def forward(self, first, second):
        return first

def no_network():
    return 3

def broken():
    raise ValueError("no GPU here")

def without_weights():
    raise CheckpointError("my.pth is missing: put it there")

def needs(size):
    return Half()

class Mine(ReconstructionTask):
    def __init__(self, model="psnr", weights=None):
        super().__init__(metric=model)
        self.given = weights

answer = 42
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(MODULE)
    (tmp_path / "fails.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield
    sys.modules.pop("own_nets", None)


def test_a_class_or_function_gives_the_network():
    task = build_task("embedding", model="own_nets:Half")
    assert isinstance(task, EmbeddingTask)
    prediction = task.predict(torch.rand(2, 3, 32, 48))
    assert prediction.shape == (2, 3, 16, 24)
    check_model("embedding", "own_nets:Half")


def test_a_segmenter_of_ones_own_answers_on_any_grid():
    task = build_task("segmentation", model="own_nets:Half")
    assert isinstance(task, SegmentationTask) and task.net.num_classes == 3
    assert task.predict(torch.rand(2, 3, 64, 96)).shape == (2, 3, 64, 96)


def test_a_classifier_of_ones_own_is_one_that_answers_logits():
    task = build_task("classification", model="own_nets:Means")
    assert task.predict(torch.rand(2, 3, 32, 48)).shape == (2, 3) and task.net.num_classes == 3
    with pytest.raises(ConfigError, match=r"Half gives \[3, 112, 112\] for a picture: give logits \[classes\]"):
        build_task("classification", model="own_nets:Half")


def test_a_flow_network_of_ones_own_takes_pairs():
    task = build_task("optical_flow", model="own_nets:Still")
    assert task.predict(torch.rand(3, 3, 32, 48)).shape == (2, 2, 32, 48)
    with pytest.raises(ConfigError, match=r"Pair gives \(2, 3, 32, 48\) for pairs of frames: give flows \(2, 2, 32, 48\)"):
        build_task("optical_flow", model="own_nets:Pair").predict(torch.rand(3, 3, 32, 48))


def test_a_task_of_ones_own_is_built_with_what_is_given():
    task = build_task("own_nets:Mine", model="own")
    assert isinstance(task, Task) and task.metric_name == "PSNR (dB)" and task.given is None
    task = build_task("own_nets:Mine", model="ssim", weights="x.pth")
    assert (task.metric_name, task.given) == ("SSIM", "x.pth")
    check_model("own_nets:Mine", "own")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("no_such_module:net", r"no_such_module cannot be imported \(ModuleNotFoundError.*run from the folder"),
        ("fails:net", r"fails cannot be imported \(ModuleNotFoundError: No module named 'a_package_that_is_not_there'\)"),
        ("own_nets:Third", r"own_nets has no Third: it has .*Half"),
        ("own_nets:answer", r"own_nets:answer is a int: name a function or a class"),
        ("own_nets:no_network", r"own_nets:no_network\(\) gave a int: return a torch.nn.Module"),
        ("own_nets:broken", r"own_nets:broken\(\) failed \(ValueError: no GPU here\)"),
        ("own_nets:needs", r"own_nets:needs\(\) failed \(TypeError: .*size"),
    ],
)
def test_what_gives_no_network_is_refused_in_one_sentence(place, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        build_task("embedding", model=place)
    assert "\n" not in str(error.value)


def test_other_refusals():
    with pytest.raises(CheckpointError, match=r"my\.pth is missing"):
        build_task("embedding", model="own_nets:without_weights")
    with pytest.raises(ConfigError, match=r"loads its own weights, so task\.weights=x\.pth"):
        build_task("embedding", model="own_nets:Half", weights="x.pth")
    with pytest.raises(ConfigError, match=r"own_nets:Half gave a Half: return a dvcc\.tasks\.Task"):
        build_task("own_nets:Half", model="own")
    with pytest.raises(ConfigError, match="reconstruction takes no network"):
        build_task("reconstruction", model="own_nets:Half")
    with pytest.raises(ConfigError, match="has no Third"):
        check_model("embedding", "own_nets:Third")


class Own(nn.Module):
    """One convolution, in training mode with dropout, and what `tail` makes of its answer."""

    def __init__(self, tail) -> None:
        super().__init__()
        self.conv, self.drop, self.tail = nn.Conv2d(3, 4, 4, 4), nn.Dropout(0.9), tail
        self.train()

    def forward(self, images):
        return self.tail(self.drop(self.conv(images)))


@dataclass
class Output:
    logits: torch.Tensor


ANSWERS = {
    "loss and logits": lambda map: {"loss": None, "logits": map, "name": "x"},
    "tuple": lambda map: (map, [map]),
    "dataclass": Output,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_tensor_among_the_answers_is_left_out(name):
    images = torch.rand(2, 3, 32, 48)
    task = SegmentationTask(net=Own(ANSWERS[name]).double())
    assert task.predict(images).shape == (2, 4, 32, 48) and torch.equal(task.predict(images), task.predict(images))
    task.check_trainable()


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        (lambda map: map.nothing, r"Own, given pictures \(.*, 3, .*\), fails \(AttributeError: .*nothing.*\): mend its forward"),
        (lambda map: None, r"Own, given pictures .* gives a NoneType without a tensor"),
        (lambda map: map.detach().numpy(), "gives a ndarray without a tensor: return a tensor"),
    ],
)
def test_a_module_that_fails_is_one_sentence(tail, sentence):
    for build in (SegmentationTask, DetectionTask, ClassificationTask, EmbeddingTask):
        with pytest.raises(CheckpointError, match=sentence) as error:
            build(net=Own(tail))
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"Own, given pictures \(.*\) and \(.*\), fails"):
        OpticalFlowTask(net=Own(tail))


def test_a_classifier_may_answer_features_beside_logits_of_one_cell():
    task = ClassificationTask(net=Own(lambda map: (map, map.mean((2, 3), keepdim=True))))
    frames = torch.rand(2, 3, 32, 48)
    assert task.predict(frames).shape == (2, 4) and task.net.num_classes == 4


@pytest.mark.slow
def test_what_torch_export_made_of_a_module_is_refused():
    exported = torch.export.export(Own(nn.Identity()).eval(), (torch.rand(2, 3, 64, 128),)).module()
    with pytest.raises(CheckpointError, match="cannot be set to evaluation mode .*give the module itself"):
        SegmentationTask(net=exported)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_answers_that_are_no_numbers_are_refused_for_every_task(value):
    class Flow(Own):
        def forward(self, first, second):
            return first[:, :2] * 0 + float(value)

    grid, logits = Own(lambda map: map * 0 + float(value)), Own(lambda map: map.mean((2, 3)) * 0 + float(value))
    tasks = SegmentationTask(net=grid), EmbeddingTask(net=grid), ClassificationTask(net=logits), OpticalFlowTask(net=Flow(None))
    for task in tasks:
        with pytest.raises(CheckpointError, match=r" answers (NaN|infinity), so it cannot be measured or trained for"):
            predict_frames(task, torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
    with pytest.raises(CheckpointError, match="Own answers NaN or infinity"):
        DetectionTask(net=grid)


def test_a_module_without_a_gradient_is_measured_and_not_trained_for():
    task = SegmentationTask(net=Own(torch.Tensor.detach))
    assert task.predict(torch.rand(2, 3, 32, 48)).shape == (2, 4, 32, 48)
    with pytest.raises(ConfigError, match="no gradient passes through Own, so it can be measured but not trained for"):
        task.check_trainable()


def test_maps_of_different_numbers_of_classes_are_told_apart_by_their_number():
    def features_first(map):
        return {"features": torch.cat([map, map], 1), "labels": map.argmax(1), "logits": map}

    with pytest.raises(ConfigError, match=r"set task\.classes to how many classes there are, 4 or 8"):
        SegmentationTask(net=Own(features_first))
    task = SegmentationTask(net=Own(features_first), classes=4)
    assert task.predict(torch.rand(2, 3, 32, 48)).shape == (2, 4, 32, 48) and task.net.num_classes == 4
