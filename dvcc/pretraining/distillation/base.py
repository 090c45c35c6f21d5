"""What a student learns from its teacher: the contract of every task that `train.py student` has."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dvcc.networks.weights import Weights, save_weights

Loss = Callable[[Any, Tensor, Tensor], dict[str, Tensor]]
"""From a student, views uint8 (N, 3, H, W) and their labels to named terms; "loss" is the one to minimise."""


class Distillation(AbstractBase):
    """A teacher, and how a student imitates it. Pictures are uint8 RGB (N, 3, H, W)."""

    kind: str
    """The kind of the student's weights, as `load_weights` wants it."""

    num_classes: int
    """Of teacher and student."""

    trunk_rate: float
    """Learning rate of the trunk, which starts trained, relative to that of the rest; 0 leaves it as it is."""

    mosaic_share: float
    """Share of the views that are put together from four pictures."""

    @abstractmethod
    def label(self, views: Tensor) -> Tensor:
        """Return the teacher's answers, float16 (N, ..): what `loss` takes."""

    @abstractmethod
    def loss(self, labels: Sequence[Tensor]) -> Loss:
        """Return the loss of a training on all these labels, each of one view."""

    @abstractmethod
    def new_student(self) -> Any:
        """Return a student whose trunk is the teacher's."""

    @abstractmethod
    def trunk(self, student: Any) -> nn.Module:
        """Return the part of the student that starts trained."""

    @abstractmethod
    def agreement(self, student: Any, frames: Tensor) -> float:
        """How far the student agrees with the teacher, 0..1: what a run is watched by."""

    @abstractmethod
    def figures(self, student: Any, frames: Tensor) -> dict[str, object]:
        """Return what there is to say of a trained student."""

    def save(self, student: nn.Module, path: Path) -> None:
        """Write the weights as `task.model=student` loads them."""
        save_weights(path, Weights(self.kind, {"num_classes": self.num_classes}, dict(student.state_dict())))
