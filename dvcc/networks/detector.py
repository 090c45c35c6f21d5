"""What every detection network answers, and how candidates become boxes."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import nn

from dvcc.networks.detectors import Boxes, select


class DetectionNet(nn.Module, AbstractBase):
    """A network from RGB 0..1 (N, 3, H, W) of any size to candidates (N, M, 4 + num_classes).

    Candidates are the corners as in `Boxes`, then the score 0..1 of every class. M is fixed for a network and size; what is
    missing has score 0. Differentiable in the pictures.

    suppress: whether several candidates may mean one object, so that non-maximum suppression has to follow. object_score: from
    which a candidate on an uncoded picture counts as an object. takes_bytes: whether it takes uint8 pictures 0..255, too, which
    are a quarter of the memory.
    """

    takes_bytes: ClassVar[bool] = False

    def __init__(self, *, num_classes: int, suppress: bool, object_score: float = 0.6) -> None:
        super().__init__()
        self.num_classes, self.suppress, self.object_score = num_classes, suppress, object_score

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, M, 4 + num_classes)."""


def detect(candidates: torch.Tensor, *, least_score: float, suppress: bool) -> Boxes:
    """Return the boxes among the candidates (M, 4 + K) of one picture, as tensors (see `detectors.select`); no gradient."""
    boxes = select(candidates.detach().float().cpu().numpy(), least_score=least_score, suppress=suppress)
    return Boxes(*(torch.from_numpy(part).to(candidates.device) for part in boxes))
