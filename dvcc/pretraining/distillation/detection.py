"""The detection student imitates FastestDet, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from dvcc.networks.detection_student import StudentDetector
from dvcc.networks.detectors.fastestdet import place
from dvcc.networks.exported import OnnxDetector, OwnDetector
from dvcc.networks.loading import another_model
from dvcc.networks.onnx_torch import OnnxModule
from dvcc.pretraining.distillation.base import Distillation, Loss
from dvcc.tasks.detection import DetectionTask

_QUIET = 0.02  # least weight of a cell, beside objectness 0..1: what a class looks like is told by quiet cells, too
_PRESENCE_WEIGHT = 2.0  # of the objectness beside place and class
_LEAST_LOG = -20.0  # of a class's probability, which float16 does not hold


class DetectionDistillation(Distillation):
    """Every cell's objectness, box and classes are the teacher's, weighted by how much of an object either sees there.

    teacher_weights: FastestDet's ONNX file; None: that of the repository. Raises `CheckpointError` for another,
    `MissingExtraError` without the packages of the extra `detection`.
    """

    kind = "detection_student"
    trunk_rate = 0.0  # what COCO taught it, few videos would only take away
    mosaic_share = 0.3

    def __init__(self, *, teacher_weights: str | Path | None = None) -> None:
        self.task = DetectionTask(model="fastestdet", weights=teacher_weights)
        assert isinstance(self.task.net, (OnnxDetector, OwnDetector))
        self.teacher = self.task.net
        self.num_classes = self.teacher.num_classes
        try:
            self.new_student()
        except RuntimeError as error:
            raise another_model(teacher_weights or "the file", "FastestDet", str(error)) from error

    def label(self, views: Tensor) -> Tensor:
        """(N, 85, 22, 22): objectness, box, logarithms of the classes' probabilities."""
        objectness, box, classes = self._parts(self.teacher.answers(views / 255)[0])
        return torch.cat([objectness, box, classes.log().clamp(min=_LEAST_LOG)], 1).half()

    def loss(self, labels: Sequence[Tensor]) -> Loss:
        """Binary and full KL, generalised IoU and distance of the box's numbers."""
        return self._loss

    def _loss(self, student: StudentDetector, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
        answers, truth = student.answers((views / 255).contiguous(memory_format=torch.channels_last)), labels.float()
        logit, box, classes = self._parts(answers)
        objectness, true_box, true_classes = self._parts(truth)
        weight = objectness + _QUIET
        total = weight.sum()
        entropy = F.binary_cross_entropy(objectness, objectness, reduction="none")
        heard = F.binary_cross_entropy_with_logits(logit, objectness, reduction="none") - entropy
        presence = ((weight + logit.detach().sigmoid()) * heard).sum() / total
        away = F.smooth_l1_loss(_numbers(box), _numbers(true_box), reduction="none", beta=0.1).sum(1, keepdim=True)
        apart = generalized_box_iou_loss(place(box, torch), place(true_box, torch)).view_as(weight)
        where = (weight * (away + apart)).sum() / total
        name = (weight * (true_classes.exp() * (true_classes - classes.log_softmax(1))).sum(1, keepdim=True)).sum() / total
        return {"loss": _PRESENCE_WEIGHT * presence + where + name, "objectness": presence, "box": where, "class": name}

    def new_student(self) -> StudentDetector:
        """With the teacher's trunk."""
        student = StudentDetector(num_classes=self.num_classes).to(memory_format=torch.channels_last)
        net = self.teacher.net
        student.start_from(net.differentiate() if isinstance(net, OnnxModule) else net)
        return student

    def trunk(self, student: StudentDetector) -> nn.Module:
        """All but neck and heads."""
        return student.trunk

    def agreement(self, student: nn.Module, frames: Tensor) -> float:
        """mAP50 against the teacher's detections."""
        return self._precision(student, frames)["mAP50"]

    def figures(self, student: nn.Module, frames: Tensor) -> dict[str, object]:
        """Mean average precisions against the teacher's detections."""
        return dict(self._precision(student, frames))

    @torch.inference_mode()
    def _precision(self, student: nn.Module, frames: Tensor) -> dict[str, float]:
        # The pictures are of no video, so an object has no identity to keep.
        metrics = {name: metric for name, metric in self.task.metrics().items() if name.startswith("mAP")}
        for chunk in frames.split(8):
            labels = self.task.labels(self.task.predict(chunk))
            for metric in metrics.values():
                metric.update(student(chunk / 255), labels)
        return {name: float(metric.compute()) for name, metric in metrics.items()}

    def _parts(self, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        objectness, box, classes = answers.split([1, 4, self.num_classes], 1)
        return objectness, box, classes


def _numbers(box: Tensor) -> Tensor:
    """(N, 4, h, w) as they act: the centre in cells, the size by its logit."""
    return torch.cat([box[:, :2].tanh(), box[:, 2:]], 1)
