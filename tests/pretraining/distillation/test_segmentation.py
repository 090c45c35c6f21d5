"""The segmentation student against a teacher of random weights."""

from __future__ import annotations

import pytest
import torch

from dvcc.pretraining.distillation import DISTILLATIONS
from tests.conftest import make_scene


@pytest.fixture
def distillation(espnetv2):
    return DISTILLATIONS["segmentation"](teacher_weights=espnetv2)


def test_agreement_counts_pixels(distillation):
    frames = make_scene(frames=2).frames

    class Teacher(torch.nn.Module):
        def forward(self, images):
            return distillation.teacher(images)

    assert distillation.agreement(Teacher(), frames) == 1
    assert distillation.agreement(distillation.new_student().eval(), frames) < 1


def test_the_loss_is_that_of_the_teachers_logits(distillation):
    views = make_scene(frames=2).frames
    labels = distillation.label(views)
    assert labels.shape == (2, 20, 16, 24) and labels.dtype == torch.float16

    class Repeat(torch.nn.Module):
        def quarter_logits(self, images):
            return labels.float()

    terms = distillation.loss(list(labels))(Repeat(), views, labels)
    assert terms["kl"].abs() < 1e-5 and terms["train_agreement"] == 1
    assert distillation.loss(list(labels))(distillation.new_student(), views, labels)["kl"] > 0
