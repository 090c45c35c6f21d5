"""Average precision of boxes, from states of single clips that can be pooled."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from dvcc.networks.detectors.base import Boxes, intersection_over_union
from dvcc.tasks.metric import Metric

IOU_THRESHOLDS = torch.arange(50, 100, 5, dtype=torch.float64) / 100
_RECALLS = torch.from_numpy(np.linspace(0, 1, 101))
_MOST_PER_PICTURE = 100


class AveragePrecision(Metric):
    """COCO's mean average precision, at one IoU of `IOU_THRESHOLDS`, or by itself over all ten.

    pooled: one precision-recall curve of all classes instead of the mean over the classes. A box still has to have its object's
    class. Over few clips a class with three objects would count as much as one with three hundred.

    torchmetrics' own asks COCO's tools, which match all boxes of a set anew whenever they are asked: too slow for a bootstrap
    over every controller and target. A match concerns one picture only, so here it is made once; the figures are the same.
    """

    matches: list[torch.Tensor]
    objects: torch.Tensor

    def __init__(self, num_classes: int, *, iou: float | None = None, pooled: bool = False) -> None:
        super().__init__()
        self._iou, self._pooled = iou, pooled
        # Per found box: its class, its score, and whether it matches an object, at every threshold.
        self.add_state("matches", [])
        self.add_state("objects", torch.zeros(num_classes, dtype=torch.float64))

    def update(self, predicted: Iterable[Boxes], objects: Iterable[Boxes]) -> None:
        """Found boxes, best first, and true ones, of every picture."""
        for guesses, truth in zip(predicted, objects, strict=True):
            first = Boxes(*(part[:_MOST_PER_PICTURE] for part in guesses))
            columns = [first.labels[:, None], first.scores[:, None], match(first, truth)]
            self.matches.append(torch.cat([column.double().to(self.objects.device) for column in columns], 1))
            self.objects += torch.bincount(truth.labels, minlength=len(self.objects)).to(self.objects)

    def compute(self) -> torch.Tensor:
        """0..1; NaN without any object."""
        precisions = self.average_precisions()
        return precisions.mean() if self._iou is None else precisions[IOU_THRESHOLDS.tolist().index(self._iou)]

    def average_precisions(self) -> torch.Tensor:
        """(10,): average precision, of all classes pooled or the mean over those with objects, at IoU 0.5, 0.55 .. 0.95."""
        rows = torch.cat([self.objects.new_zeros(0, 2 + len(IOU_THRESHOLDS)), *self.matches])
        rows = rows[rows[:, 1].argsort(descending=True, stable=True)]
        if self._pooled and (count := int(self.objects.sum())):
            return interpolated_precision(rows[:, 2:], count)
        per_class = [
            interpolated_precision(rows[rows[:, 0] == label, 2:], int(self.objects[label]))
            for label in self.objects.nonzero().flatten()
        ]
        return torch.stack(per_class).mean(0) if per_class else rows.new_full((len(IOU_THRESHOLDS),), float("nan"))


def match(predicted: Boxes, objects: Boxes) -> torch.Tensor:
    """bool (N, 10): whether a found box, best first, takes an object of its class that no better one took, per IoU threshold."""
    iou = intersection_over_union(predicted.corners.double(), objects.corners.double(), torch)
    iou = torch.where(predicted.labels[:, None] == objects.labels[None], iou, -1.0)
    hits = torch.zeros(len(predicted.labels), len(IOU_THRESHOLDS), dtype=torch.bool)
    for k, threshold in enumerate(IOU_THRESHOLDS.tolist()):
        free = iou.clone()
        for n in (iou >= threshold).any(1).nonzero().flatten().tolist():
            if free[n].max() >= threshold:
                free[:, free[n].argmax()] = -1.0
                hits[n, k] = True
    return hits


def interpolated_precision(hits: torch.Tensor, num_objects: int) -> torch.Tensor:
    """(10,): COCO's average precision, the mean over 101 recalls of the best precision at that recall or more.

    hits: (N, 10), 1 where the n-th surest box of the class matches an object.
    """
    if not len(hits):
        return hits.new_zeros(hits.shape[1])
    true = hits.cumsum(0)
    recall = true / num_objects
    precision = true / torch.arange(1, len(hits) + 1, device=hits.device)[:, None]
    envelope = precision.flip(0).cummax(0).values.flip(0)
    place = torch.searchsorted(recall.T.contiguous(), _RECALLS.to(hits).expand(hits.shape[1], -1).contiguous())
    reached = place < len(hits)
    return (envelope.T.gather(1, place.clamp(max=len(hits) - 1)) * reached).mean(1)
