"""Object detection, judged by AP50 against the network's own detections on the uncoded clip."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from einops import einsum, rearrange
from torchvision.ops import box_iou
from torchvision.utils import draw_bounding_boxes

from dvcc.errors import ConfigError
from dvcc.tasks.average_precision import AveragePrecision
from dvcc.tasks.base import Task, as_float
from dvcc.tasks.nets.detector import Boxes, decode, detect, load_detection_net

REFERENCE_SCORE = 0.6
"""A detection on the uncoded clip counts as an object from this score on."""

_LEAST_SCORE = 0.05  # of a box that the metric looks at; COCO's curves need the unsure ones too
_DOUBT = 0.4  # a box below this score does no harm as a false alarm
_FALSE_ALARM = 0.5  # what a false alarm of score 1 costs, in lost objects
_FINER = 4  # the damage's grid has so many points per cell of the network's


class DetectionTask(Task):
    """Predictions are the network's answers (.., 5 + K, h, w) on its grid (see `nets.detector`).

    model: "fastestdet" (COCO's 80 classes; `weights`: its ONNX file). Raises `ConfigError` for an unknown name or without the
    packages of the extra `detection`, `CheckpointError` for weights that do not fit.
    """

    metric_name = "AP50"
    metric_range = (0.5, 0.97)

    def __init__(self, *, model: str = "fastestdet", weights: str | Path | None = None) -> None:
        super().__init__()
        self.net = load_detection_net(model, weights=weights)
        self.net.requires_grad_(False).eval()
        self.model = model

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Answers (.., 5 + K, h, w)."""
        if frames.ndim not in (4, 5) or frames.shape[-3] != 3:
            raise ConfigError(f"detection takes RGB frames (B, 3, H, W) or (B, T, 3, H, W), got {tuple(frames.shape)}")
        return self.net(rearrange(as_float(frames), "... c h w -> (...) c h w")).unflatten(0, frames.shape[:-3])

    def objects(self, frames: torch.Tensor) -> list[Boxes]:
        """What counts as an object in every one of the frames (T, 3, H, W)."""
        with torch.no_grad():
            return [detect(answer, least_score=REFERENCE_SCORE) for answer in self.predict(frames)]

    def damage(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, .., 4h, 4w): how much of every object's detection is lost, and every false alarm, each spread over its box. Its
        mean is the share of the objects that is lost.

        What is left of an object is the best score x IoU that a box of its class has with it, relative to the reference's own. A
        false alarm is a score above the reference's in a cell whose box covers no object.
        """
        items = (answers.reshape(len(answers), -1, *answers.shape[-3:]) for answers in (prediction, reference))
        maps = torch.stack([self._of_item(*pair) for pair in zip(*items, strict=True)])
        return maps.view(*prediction.shape[:-3], *maps.shape[-2:])

    def _of_item(self, answers: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """(F, 4h, 4w) of the frames of an item."""
        objects = [detect(reference, least_score=REFERENCE_SCORE) for reference in references]
        frames = zip(answers, references, objects, strict=True)
        maps = torch.stack([_damage_of_frame(*frame) for frame in frames])
        count = max(1, sum(len(boxes.labels) for boxes in objects))
        return maps * (maps.numel() / count)

    def metric(self) -> DetectionMetric:
        """AP50 over the classes with objects in the reference of everything it is updated with."""
        return DetectionMetric(self.net.num_classes)

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,): share of the objects of either that the other sees too."""
        lost = (self.loss(prediction, reference) + self.loss(reference, prediction)) / 2
        return (1 - lost).clamp(0, 1)

    def picture(self, frame: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Boxes, with class and score, over the frame."""
        shown = (as_float(frame).cpu() * 255).round().to(torch.uint8)
        boxes = detect(prediction, least_score=REFERENCE_SCORE)
        if not len(boxes.labels):
            return shown
        corners = boxes.corners.cpu() * torch.tensor([shown.shape[2], shown.shape[1]] * 2)
        words = [f"{_name_of(int(label))} {float(score):.2f}" for label, score in zip(boxes.labels, boxes.scores, strict=True)]
        return draw_bounding_boxes(shown, corners, words, colors="red", width=2)


class DetectionMetric(AveragePrecision):
    """AP50 of answers on a grid."""

    def update(self, prediction: torch.Tensor, reference: torch.Tensor) -> None:  # type: ignore[override]
        """Both are answers (.., 5 + K, h, w)."""
        found, objects = (rearrange(answers, "... c h w -> (...) c h w") for answers in (prediction, reference))
        super().update(
            [detect(answer, least_score=_LEAST_SCORE) for answer in found],
            [detect(answer, least_score=REFERENCE_SCORE) for answer in objects],
        )


def _damage_of_frame(answer: torch.Tensor, reference: torch.Tensor, objects: Boxes) -> torch.Tensor:
    """(4h, 4w), summing to the lost objects and false alarms of one frame."""
    grid = [_FINER * side for side in answer.shape[-2:]]
    corners, scores = decode(answer)
    surest = scores.amax(1)
    with torch.no_grad():
        reference_corners, reference_scores = decode(reference)
        expected = reference_scores.amax(1)
    covered = torch.zeros_like(surest)
    damage = answer.new_zeros(grid)
    if len(objects.labels):
        iou = box_iou(objects.corners.to(corners), corners)
        left = (scores[:, objects.labels].T * iou).amax(1)
        own = (reference_scores[:, objects.labels].T * box_iou(objects.corners.to(corners), reference_corners)).amax(1)
        damage = damage + _spread((1 - left / own).clamp(min=0), objects.corners.to(corners), grid)
        covered = iou.amax(0)
    alarm = (surest - expected.clamp(min=_DOUBT)).clamp(min=0) * (1 - covered)
    return damage + _spread(_FALSE_ALARM * alarm, corners.detach(), grid)


def _spread(amounts: torch.Tensor, corners: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """(rows, columns): every amount (N,) spread evenly over its box (N, 4); the sum is kept."""
    covers = []
    for side, (low, high) in zip(grid, ((1, 3), (0, 2)), strict=True):
        edges = torch.linspace(0, 1, side + 1, dtype=corners.dtype, device=corners.device)
        ends = torch.maximum(corners[:, high, None], corners[:, low, None] + 1e-3)
        cover = (torch.minimum(ends, edges[1:]) - torch.maximum(corners[:, low, None], edges[:-1])).clamp(min=0)
        covers.append(cover / cover.sum(1, keepdim=True).clamp(min=1e-9))
    return einsum(amounts, covers[0], covers[1], "n, n h, n w -> h w")


@lru_cache(maxsize=1)
def _names() -> list[str]:
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as Coco

    return [name for name in Coco.DEFAULT.meta["categories"] if name not in ("__background__", "N/A")]


def _name_of(label: int) -> str:
    return _names()[label] if label < len(_names()) else str(label)
