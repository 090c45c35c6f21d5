"""What every detection network answers, and how candidates become boxes."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn
from torchvision.ops import batched_nms

_SUPPRESSED_AT_IOU = 0.45


class Boxes(NamedTuple):
    """N boxes of one picture. corners: (N, 4), left, top, right, bottom as shares 0..1 of the picture's sides; labels: int64
    (N,), class numbers; scores: (N,), 0..1."""

    corners: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor


class DetectionNet(nn.Module, AbstractBase):
    """A network from RGB 0..1 (N, 3, H, W) of any size to candidates (N, M, 4 + num_classes): the corners as in `Boxes`, then the
    score 0..1 of every class. M is fixed for a network and size; what is missing has score 0. Differentiable in the pictures.

    suppress: whether several candidates may mean one object, so that non-maximum suppression has to follow.
    """

    def __init__(self, *, num_classes: int, suppress: bool) -> None:
        super().__init__()
        self.num_classes, self.suppress = num_classes, suppress

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, M, 4 + num_classes)."""


@torch.no_grad()
def detect(candidates: torch.Tensor, *, least_score: float, suppress: bool) -> Boxes:
    """The boxes among the candidates (M, 4 + K) of one picture, best first: each one's best class at `least_score` or more.

    suppress: less those that a better box of the class covers (non-maximum suppression at IoU 0.45).
    """
    corners, (best, labels) = candidates[:, :4].float(), candidates[:, 4:].float().max(1)
    sure = (best >= least_score) & (corners[:, 2:] > corners[:, :2]).all(1)  # what lies outside the picture is clamped to nothing
    corners, best, labels = corners[sure], best[sure], labels[sure]
    kept = batched_nms(corners, best, labels, _SUPPRESSED_AT_IOU) if suppress else best.argsort(descending=True, stable=True)
    return Boxes(corners[kept], labels[kept], best[kept])


@lru_cache(maxsize=1)
def coco_classes() -> dict[int, str]:
    """Number and name of COCO's 80 classes among the 91 numbers that detectors are trained with, in their order.

    Class k of a candidate is the k-th of them, as in FastestDet and in COCO's own tools.
    """
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as Coco

    return {i: name for i, name in enumerate(Coco.DEFAULT.meta["categories"]) if name not in ("__background__", "N/A")}
