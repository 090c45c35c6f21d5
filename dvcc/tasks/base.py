"""What the decoded video is for: a prediction, a loss to train a control with, a metric to judge it by."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import nn

from dvcc.errors import ConfigError
from dvcc.pixels import as_bytes, as_float
from dvcc.tasks.metric import Metric, State

SURE = 60.0
"""A logit over others of 0 that makes a probability of 1, as far as float32 can tell."""


class Task(nn.Module, AbstractBase):
    """A downstream task.

    A loss compares with a reference prediction, the task's own on the uncoded clip or one made of labels (`reference`); a metric
    compares with labels, those of a data set or what a reference prediction says (`labels`).

    Frames are RGB, uint8 0..255 or float 0..1, shape (T, 3, H, W) or (B, T, 3, H, W). A prediction keeps the leading
    dimensions, less `overlap` frames of every clip; a loss has one value per item of the first dimension.

    A new task gives `net`, `metric_name`, `metric_range`, `degradation` and `metrics`; the other methods are for tasks whose
    labels are not their predictions, or that can draw them. docs/own-network.md has the recipe.
    """

    net: Any
    """A module from RGB 0..1 (N, 3, H, W) to a prediction for each picture (N, ..): what the default `predict` asks."""

    metric_name: str
    """Name, with its unit, of the metric that `metric()` computes: one of `metrics()`."""

    metric_range: tuple[float, float]
    """Where coding moves the metric, the worse value first: test rates are spread from where the baseline has the one to where it
    has the other."""

    beside: tuple[str, ...] = ()
    """Names of other `metrics()` that a comparison shows; they are computed of the states of `metric()`."""

    overlap: int = 0
    """Frames that a part of a clip must share with the next part if clips are predicted in parts: a prediction is made of so many
    frames and one more."""

    lost_as: str = "0"
    """In words, what `metric_when_dropped` is."""

    def train(self, mode: bool = True) -> Task:
        """Stay in evaluation mode inside a module that trains: a task is a fixed judge."""
        return super().train(False)

    def check_trainable(self) -> None:
        """Raise `ConfigError` or `CheckpointError` for a network that no gradient passes through.

        It answers labels, or is an ONNX file that torch cannot imitate. Such a network can be measured only.
        """
        for part in self.modules():
            check: Any = getattr(part, "check_trainable", None)
            if part is not self and check is not None:
                check()

    def silence(self) -> str | None:
        """Return what to say where the network finds nothing at all in uncoded pictures.

        That makes every figure undefined. None where it can be right.
        """
        return None

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Predictions for a clip or a batch of them, differentiable in float frames: those of `net`, picture by picture."""
        check_rgb(frames, task=type(self).__name__)
        answers: torch.Tensor = self.net(rearrange(as_float(frames), "... c h w -> (...) c h w"))
        return answers.reshape(*frames.shape[:-3], *answers.shape[1:])

    def labels(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return what counts as true where this prediction is the reference.

        In the format of a data set's labels; no gradient.
        """
        return prediction.detach()

    def reference(self, labels: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Return what `loss` and `degradation` compare `prediction` with where a data set has the truth.

        It is a prediction that is sure of the `labels`, which have the same leading dimensions. Where they say nothing (an
        ignored pixel, an unknown flow) it is what `prediction` says, so that nothing is lost there; no gradient.
        """
        return labels

    @abstractmethod
    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return what coding has done to the prediction, and where: (B, T, rows, columns), 0 or more.

        On any even grid over the frames (pixels, coarse cells, one cell), differentiable in the prediction. The loss is a
        function of its mean over an item.
        """

    def loss_of(self, mean_degradation: torch.Tensor) -> torch.Tensor:
        """(B,): the loss, rising in the mean degradation (B,)."""
        return mean_degradation

    def loss(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,), differentiable in the prediction; 0 or near it when the coded frames are the reference's."""
        return self.loss_of(self.degradation(prediction, reference).flatten(1).mean(1))

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Return new metrics over a whole test set, every figure of the task by its name.

        `update(prediction, labels)`, then `compute()` to a scalar; `higher_is_better` says which way.

        Their states are sums or lists, so that the states of single clips can be added up, or joined, and resampled.
        """

    def metric(self) -> Metric:
        """Return a new one of the principal figure, `metric_name`."""
        return self.metrics()[self.metric_name]

    def weight(self, state: State) -> float | None:
        """Return what a clip counts in the mean over clips that is the figure of a set.

        By the state of its `metric()`; None where the states of all clips are pooled into one figure instead.
        """
        return None

    def metric_when_dropped(self, metric: Metric) -> float:
        """Return the figure of an answer that never arrives: of clips that exceed a strict bandwidth.

        metric: one of `metric()`, updated with these clips.
        """
        return 0.0

    def metrics_of_labels(self, classes: Sequence[int] | None = None) -> dict[str, Metric]:
        """Return new metrics against the labels of a data set.

        classes: where these have other classes than the network, the label's class of each of the network's, -1 for none. Raises
        `ConfigError` for a task that cannot compare such classes.
        """
        if classes is not None:
            raise ConfigError(f"{type(self).__name__} cannot compare its answers with labels of other classes: leave them out")
        return self.metrics()

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,) in 0..1: how far two predictions say the same. The stability gate asks it of a clip and its noise."""
        return (1 - self.loss(prediction, reference)).clamp(0, 1)

    def picture(self, frame: torch.Tensor, prediction: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        """Return the prediction drawn for a report, uint8 (3, H, W); the frame itself where there is nothing to draw.

        prediction: of one frame, without leading dimensions. reference: a prediction beside which it is shown, whose scale it is
        drawn in.
        """
        return as_bytes(frame)


class MeanScore(Metric):
    """The mean of `score(prediction, labels)` (..,), one value per prediction, over a set.

    Where less is better, a subclass says so by `higher_is_better = False`.
    """

    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._score = score
        for name in ("total", "count"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64))

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:
        """Both as `score` takes them."""
        scores = self._score(prediction, labels)
        self.total += scores.double().sum()
        self.count += scores.numel()

    def compute(self) -> torch.Tensor:
        """NaN for an empty set."""
        return self.total / self.count


def check_rgb(frames: torch.Tensor, *, task: str) -> None:
    """Raise `ConfigError` unless frames are (T, 3, H, W) or (B, T, 3, H, W)."""
    if frames.ndim not in (4, 5) or frames.shape[-3] != 3:
        raise ConfigError(f"{task} takes RGB frames (T, 3, H, W) or (B, T, 3, H, W), got {tuple(frames.shape)}")
