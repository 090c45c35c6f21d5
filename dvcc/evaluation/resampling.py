"""Metrics over many resamples of one test set: average precision of all of them at once, others one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from dvcc.tasks.average_precision import IOU_THRESHOLDS, AveragePrecision
from dvcc.tasks.judging import pooled
from dvcc.tasks.metric import Metric, State

_RECALLS = torch.from_numpy(np.linspace(0, 1, 101))


def resampled(metric: Metric, states: Sequence[State], samples: Sequence[Sequence[int]]) -> list[float]:
    """Return the metric over every sample, which names states by number, with repetition: what `pooled` says of each.

    Average precision sorts boxes for every class of every sample that it is asked about, 14 ms each; here it is done once, and a
    state that was drawn twice counts double.
    """
    if isinstance(metric, AveragePrecision) and states and samples:
        return _precisions(metric, states, samples).tolist()
    return [pooled(metric, [states[i] for i in sample]) for sample in samples]


def _precisions(metric: AveragePrecision, states: Sequence[State], samples: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return (samples,), 0..1; NaN for a sample without any object."""
    at = slice(None) if metric._iou is None else [IOU_THRESHOLDS.tolist().index(metric._iou)]
    drawn = torch.from_numpy(np.stack([np.bincount(list(sample), minlength=len(states)) for sample in samples])).double()
    matches = [cast("list[torch.Tensor]", state["matches"]) for state in states]
    totals = torch.stack([cast("torch.Tensor", state["objects"]) for state in states])
    boxes = [torch.cat([totals.new_zeros(0, 2 + len(IOU_THRESHOLDS)), *found]) for found in matches]
    rows = torch.cat(boxes)
    owner = torch.repeat_interleave(torch.arange(len(states)), torch.tensor([len(part) for part in boxes]))
    order = rows[:, 1].argsort(descending=True, stable=True)
    rows, owner = rows[order], owner[order]
    objects = drawn @ totals
    if metric._pooled:
        return _precision(rows[:, 2:][:, at], drawn[:, owner], objects.sum(1))
    total, classes = drawn.new_zeros(len(drawn)), (objects > 0).sum(1)
    for label in objects.sum(0).nonzero().flatten():
        mine = rows[:, 0] == label
        of_class = _precision(rows[mine, 2:][:, at], drawn[:, owner[mine]], objects[:, label])
        total += torch.where(objects[:, label] > 0, of_class, 0.0)
    return total / classes  # 0 / 0 is NaN


def _precision(hits: torch.Tensor, weights: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """Return (samples,): mean over thresholds of the best precision at each of 101 recalls or more.

    hits: (N, T), 1 where the n-th surest box matches an object. weights: (samples, N), how often it was drawn.
    A box drawn twice takes two objects in one step: the step's own precision is the better of the two, so nothing changes.
    """
    if not len(hits):
        return torch.where(objects > 0, 0.0, torch.nan)
    true = (weights[:, None] * hits.T).cumsum(2)
    found = weights.cumsum(1).clamp_min(1.0)[:, None]
    recall = true / objects[:, None, None]
    envelope = (true / found).flip(2).cummax(2).values.flip(2)
    place = torch.searchsorted(recall.nan_to_num(0.0), _RECALLS.expand(*recall.shape[:2], -1).contiguous())
    reached = place < len(hits)
    return (envelope.gather(2, place.clamp(max=len(hits) - 1)) * reached).mean((1, 2)).where(objects > 0, torch.nan)
