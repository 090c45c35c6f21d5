"""The detection student against a teacher of random weights."""

from __future__ import annotations

import pytest
import torch

from dvcc.errors import CheckpointError
from dvcc.pretraining.distillation import DISTILLATIONS
from tests.conftest import make_scene, write_detector


@pytest.fixture
def distillation(fastestdet):
    return DISTILLATIONS["detection"]()


class Repeat(torch.nn.Module):
    """A student that knows the answers."""

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        objectness = labels[:, :1].float()
        self.candidates = torch.cat([objectness.logit(), labels[:, 1:].float()], 1)

    def answers(self, images):
        return self.candidates


def test_the_trunk_starts_as_the_teachers(distillation):
    student = distillation.new_student()
    images = torch.rand(1, 3, 352, 352)
    expected = distillation.teacher.net.inner.trunk(images.flip(1))
    for student_features, other in zip(student.trunk(images), expected, strict=True):
        torch.testing.assert_close(student_features, other)


def test_the_loss_is_nothing_for_the_teachers_own_answers_and_moves_neck_and_heads(distillation):
    views = make_scene(frames=2).frames
    labels = distillation.label(views)
    assert labels.shape == (2, 85, 22, 22) and labels.dtype == torch.float16
    loss = distillation.loss(list(labels))
    assert loss(Repeat(labels), views, labels)["loss"] == pytest.approx(0, abs=1e-3)
    student = distillation.new_student()
    student.trunk.requires_grad_(False)
    terms = loss(student, views, labels)
    assert all(term > 0.01 for term in terms.values())
    terms["loss"].backward()
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    assert all(torch.isfinite(parameter.grad).all() for parameter in learning)
    assert all(module.weight.grad.any() for module in (student.boxes[-1], student.classes[-1], student.skips[0][0]))


def test_agreement_is_the_precision_against_the_teachers_detections(distillation):
    frames = make_scene(frames=2).frames
    assert distillation.agreement(distillation.teacher, frames) == pytest.approx(1)
    figures = distillation.figures(distillation.new_student().eval(), frames)
    assert set(figures) == {"mAP", "mAP50", "mAP75"} and figures["mAP50"] < 0.5


def test_a_network_of_another_layout_is_refused(tmp_path):
    path = write_detector(tmp_path / "other.onnx", num_classes=80, side=352)
    with pytest.raises(CheckpointError, match=r"other\.onnx holds weights of another model than FastestDet"):
        DISTILLATIONS["detection"](teacher_weights=path)
