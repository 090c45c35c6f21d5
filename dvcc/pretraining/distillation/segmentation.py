"""The segmentation student imitates ESPNetv2 s=2.0."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvcc.networks.espnetv2 import ESPNetv2
from dvcc.networks.loading import Normalise
from dvcc.networks.student import StudentSegmenter
from dvcc.networks.weights import load_published, load_state
from dvcc.networks.zoo import ZOO
from dvcc.pretraining.distillation.base import Distillation, Loss
from dvcc.tasks.segmentation import MeanIoU

_HARD_LABEL_WEIGHT = 0.2


class SegmentationDistillation(Distillation):
    """KL to the teacher's soft labels at a quarter of the size, plus balanced cross-entropy on its arg-max.

    teacher_weights: published weights of ESPNetv2 s=2.0; None: those of the assets. Raises `CheckpointError` for others.
    """

    kind = "student"
    num_classes = 20  # the 19 Cityscapes train ids, then background
    trunk_rate = 0.5
    mosaic_share = 0.0

    def __init__(self, *, teacher_weights: str | Path | None = None) -> None:
        path = Path(teacher_weights or ZOO["segmentation", "espnetv2"].weights.path)
        self.teacher = ESPNetv2(num_classes=self.num_classes)
        load_state(self.teacher, load_published(path, key="teacher"), path=path)
        self.teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._normalise = Normalise()

    def inputs(self, views: Tensor) -> Tensor:
        """Return what both networks take."""
        return self._normalise(views / 255)

    def label(self, views: Tensor) -> Tensor:
        """Logits (N, classes, H/4, W/4)."""
        return F.avg_pool2d(self.teacher(self.inputs(views)), 4).half()

    def loss(self, labels: Sequence[Tensor]) -> Loss:
        """KL, and cross-entropy with classes weighted by their share of the labels."""
        weights = self._class_weights(labels)

        def loss(student: StudentSegmenter, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = student.quarter_logits(self.inputs(views).contiguous(memory_format=torch.channels_last)).float()
            log_probabilities, teacher_log_probabilities = logits.log_softmax(1), labels.float().log_softmax(1)
            difference = teacher_log_probabilities - log_probabilities
            divergence = (teacher_log_probabilities.exp() * difference).sum(1).mean()
            classes = labels.argmax(1)
            hard = F.nll_loss(log_probabilities, classes, weight=weights)
            agreeing = (logits.argmax(1) == classes).float().mean()
            return {
                "loss": divergence + _HARD_LABEL_WEIGHT * hard,
                "kl": divergence,
                "balanced_ce": hard,
                "train_agreement": agreeing,
            }

        return loss

    def new_student(self) -> StudentSegmenter:
        """With the teacher's encoder."""
        student = StudentSegmenter(num_classes=self.num_classes).to(memory_format=torch.channels_last)
        student.start_from(self.teacher)
        return student

    def trunk(self, student: StudentSegmenter) -> nn.Module:
        """Return the encoder."""
        return student.encoder

    def agreement(self, student: nn.Module, frames: Tensor) -> float:
        """Share of the pixels with the same arg-max class."""
        counts = self.confusion(student, frames)
        return float(counts.diagonal().sum() / counts.sum())

    def figures(self, student: nn.Module, frames: Tensor) -> dict[str, object]:
        """Pixel agreement, and per class the IoU and the share of the teacher's pixels (0..1 each)."""
        counts = self.confusion(student, frames)
        same = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - same
        return {
            "agreement": float(same.sum() / counts.sum()),
            "class_iou": (same / union.clamp_min(1)).tolist(),
            "class_share": (counts.sum(1) / counts.sum()).tolist(),
        }

    @torch.inference_mode()
    def confusion(self, student: nn.Module, frames: Tensor) -> Tensor:
        """Pixel counts (classes, classes), teacher's class by student's."""
        counts = MeanIoU(self.num_classes)
        for chunk in frames.split(4):
            inputs = self.inputs(chunk)
            counts.update(student(inputs), self.teacher(inputs).argmax(1))
        return counts.confmat

    def _class_weights(self, labels: Sequence[Tensor]) -> Tensor:
        """(classes,): inverse root of the frequency, average pixel 1."""
        classes = [logits.argmax(0).flatten() for logits in labels]
        counts = torch.stack([torch.bincount(label, minlength=self.num_classes) for label in classes]).sum(0)
        frequency = counts / counts.sum()
        weights = frequency.clamp_min(1e-3).rsqrt()
        return weights / (weights * frequency).sum()
