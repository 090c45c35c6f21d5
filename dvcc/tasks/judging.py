"""Run a task over whole clips: predict, label, measure, judge, and pool metric states over a set of clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dvcc.errors import CheckpointError, ConfigError
from dvcc.tasks.base import Task
from dvcc.tasks.metric import Metric, State

AT_ONCE = 2  # predictions: what a network keeps of a whole clip is large

PART = 8  # predictions: the logits of a long clip do not fit into memory


def parts_of(frames: torch.Tensor, count: int, *, overlap: int) -> list[torch.Tensor]:
    """Frames (T, 3, H, W) in parts that are enough for `count` predictions each (see `Task.overlap`)."""
    predictions = max(0, len(frames) - overlap)
    return [frames[start : min(start + count, predictions) + overlap] for start in range(0, max(1, predictions), count)]


@torch.inference_mode()
def predict_frames(task: Task, frames: torch.Tensor) -> torch.Tensor:
    """Predictions for a clip (T, 3, H, W), two at a time."""
    predictions = [check_finite(task, task.predict(part)) for part in parts_of(frames, AT_ONCE, overlap=task.overlap)]
    return torch.cat(predictions) if predictions[1:] else predictions[0]  # a copy of logits takes as long as a layer


@torch.inference_mode()
def label_frames(task: Task, frames: torch.Tensor) -> torch.Tensor:
    """Return what is true of a clip (T, 3, H, W) if its predictions are, which may be far smaller than they."""
    return torch.cat(
        [task.labels(check_finite(task, task.predict(part))) for part in parts_of(frames, AT_ONCE, overlap=task.overlap)]
    )


@torch.inference_mode()
def measure_frames(task: Task, frames: torch.Tensor, labels: torch.Tensor, metric: Metric | None = None) -> State:
    """Return the state of the task's metric for a clip (T, 3, H, W) and the labels of all its predictions.

    metric: a new one to take instead.
    """
    metric = metric or task.metric()
    for part, true in zip(parts_of(frames, AT_ONCE, overlap=task.overlap), labels.split(AT_ONCE), strict=True):
        metric.update(predict_frames(task, part), true)
    return metric.state


@dataclass(frozen=True)
class Truth:
    """The labels of all predictions of a clip, from a data set, and a new metric that compares with them."""

    labels: torch.Tensor
    metric: Metric


@dataclass(frozen=True)
class Verdict:
    """What a task says of a coded clip: the metric's state, the metric, and the loss.

    The loss is the mean over parts of eight predictions. There is the state of a metric against labels, if there are any.
    """

    state: State
    metric: float
    loss: float
    state_of_truth: State | None = None


@torch.inference_mode()
def judge(task: Task, frames: torch.Tensor, reference: torch.Tensor, truth: Truth | None = None) -> Verdict:
    """Of coded frames (T, 3, H, W), against the `reference` prediction of the uncoded ones and the `truth`."""
    metric, loss = task.metric(), 0.0
    for i, (part, wanted) in enumerate(zip(parts_of(frames, PART, overlap=task.overlap), reference.split(PART), strict=True)):
        prediction = predict_frames(task, part)
        metric.update(prediction, task.labels(wanted))
        if truth is not None:
            truth.metric.update(prediction, truth.labels[i * PART : i * PART + len(prediction)])
        loss += float(task.loss(prediction[None], wanted[None])[0]) * len(wanted) / len(reference)
    state = metric.state
    return Verdict(state, pooled(task.metric(), [state]), loss, None if truth is None else truth.metric.state)


def refuse_silence(task: Task, figure: float) -> None:
    """Raise `ConfigError` where the metric of a task is not defined on uncoded pictures, and that is no honest answer."""
    if not math.isfinite(figure) and (silence := task.silence()):
        raise ConfigError(silence)


def check_finite(task: Task, prediction: torch.Tensor) -> torch.Tensor:
    """Return the prediction.

    Raises `CheckpointError` for NaN or infinity in it: nothing that such a network says can be measured.
    """
    # No copy is made: logits of 1080p take 166 MB.
    ends = [float(end) for end in prediction.detach().aminmax()] if prediction.numel() else []
    if not all(map(math.isfinite, ends)):
        what = "NaN" if any(map(math.isnan, ends)) else "infinity"
        model = getattr(task, "model", type(task).__name__)
        raise CheckpointError(f"{model} answers {what}, so it cannot be measured or trained for: check its weights and its input")
    return prediction


def with_noise(frames: torch.Tensor, *, seed: int) -> torch.Tensor:
    """uint8 frames, every value one grey level up or down, or as it is."""
    noise = torch.randint(-1, 2, frames.shape, generator=torch.Generator().manual_seed(seed))
    return (frames.int() + noise).clamp(0, 255).to(torch.uint8)


def merged(metric: Metric, states: Sequence[State]) -> Metric:
    """Return the metric as if updated with every clip of a set: states are added up, lists joined."""
    metric.set_states(states)
    return metric


def pooled(metric: Metric, states: Sequence[State]) -> float:
    """Return the metric over a set of clips; NaN for an empty set."""
    return float(merged(metric, states).compute()) if states else float("nan")
