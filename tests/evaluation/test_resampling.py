"""Metrics over resamples are those over each sample by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvcc.evaluation.resampling import resampled
from dvcc.tasks.average_precision import AveragePrecision
from dvcc.tasks.judging import pooled
from dvcc.tasks.segmentation import MeanIoU

SAMPLES = [[0, 1, 2, 3, 4], [0, 0, 0, 4, 4], [3, 3, 3, 3, 3], [1, 2, 2, 0, 1], [4, 4, 4, 4, 4], [2, 2, 2, 2, 2]]


def picture(rng, *, boxes, objects):
    """What average precision keeps of a picture: boxes of four classes, of which a looser IoU matches more, and objects."""
    scores, labels = rng.permutation(1000)[:boxes] / 1000, rng.integers(4, size=boxes)
    hits = rng.random((boxes, 1)) > np.linspace(0.3, 0.9, 10)
    matches = torch.from_numpy(np.column_stack([labels, scores, hits]))
    return {
        "matches": [matches],
        "objects": torch.bincount(torch.from_numpy(rng.integers(3, size=objects)), minlength=4).double(),
    }


@pytest.mark.parametrize("options", [{}, {"iou": 0.5}, {"iou": 0.75}, {"iou": 0.5, "pooled": True}])
def test_average_precision_of_resamples_is_that_of_each(options):
    """One picture has no box, one no object, one neither; class 3 has boxes and no object."""
    rng = np.random.default_rng(1)
    sizes = [(40, 12), (25, 20), (0, 6), (30, 0), (0, 0)]
    states = [picture(rng, boxes=boxes, objects=objects) for boxes, objects in sizes]
    metric = AveragePrecision(4, **options)
    expected = [pooled(metric, [states[i] for i in sample]) for sample in SAMPLES]
    assert resampled(metric, states, SAMPLES) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert np.isnan(expected).any() and len(set(np.round(expected, 6))) > 3


def test_other_metrics_are_asked_about_each_sample():
    rng = np.random.default_rng(0)
    metric, states = MeanIoU(3), []
    for _ in range(5):
        metric.reset()
        labels = torch.from_numpy(rng.integers(3, size=(1, 8, 8)))
        metric.update(torch.nn.functional.one_hot(labels.roll(1), 3).movedim(-1, 1).float(), labels)
        states.append(metric.state)
    assert resampled(metric, states, SAMPLES) == [pooled(metric, [states[i] for i in sample]) for sample in SAMPLES]
    assert resampled(metric, states, []) == []
