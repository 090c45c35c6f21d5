"""What the decoded video is for: a prediction, a loss to train a control with, a metric to judge it by."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod

import torch
from torch import nn
from torchmetrics import Metric


class Task(nn.Module, AbstractBase):
    """A downstream task. The reference is always a prediction: the task's own on the uncoded clip, unless stated.

    Frames are RGB, uint8 0..255 or float 0..1, shape (B, 3, H, W) or (B, T, 3, H, W). A prediction keeps the leading
    dimensions; a loss has one value per item of the first dimension.
    """

    metric_name: str
    """Name and unit of what `metric()` computes, for tables; larger is better."""

    metric_range: tuple[float, float]
    """Where coding moves the metric: test rates are spread from the lower to the upper value of the baseline."""

    def train(self, mode: bool = True) -> Task:
        """A task is a fixed judge: it stays in evaluation mode inside a module that trains."""
        return super().train(False)

    @abstractmethod
    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Prediction for every frame, differentiable in float frames."""

    @abstractmethod
    def damage(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, .., rows, columns), 0 or more, differentiable in the prediction: what coding has done to the prediction, and where,
        on any even grid over the frame (its pixels, a detector's cells). The loss is a function of its mean over an item."""

    def loss_of(self, mean_damage: torch.Tensor) -> torch.Tensor:
        """(B,): the loss, rising in the mean damage (B,)."""
        return mean_damage

    def loss(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,), differentiable in the prediction; 0 or near it when the coded frames are the reference's."""
        return self.loss_of(self.damage(prediction, reference).flatten(1).mean(1))

    @abstractmethod
    def metric(self) -> Metric:
        """A new metric over a whole test set: `update(prediction, reference)`, then `compute()` to a scalar.

        Its states are sums or lists, so that the states of single clips can be added up, or joined, and resampled.
        """

    @abstractmethod
    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,) in 0..1: how far two predictions say the same. The stability gate asks it of a clip and its noise."""

    @abstractmethod
    def picture(self, frame: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """uint8 (3, H, W): the prediction (of one frame, without leading dimensions) drawn for a report."""


def as_float(frames: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float 0..1; float frames are returned as they are."""
    return frames.float() / 255 if frames.dtype == torch.uint8 else frames
