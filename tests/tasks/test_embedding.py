"""Embeddings: vectors or grids, their cosine similarity, and degradation where features have moved."""

import pytest
import torch
from torch import nn

from dvcc.errors import ConfigError
from dvcc.networks.classification import ClassificationNet
from dvcc.tasks import EmbeddingTask, build_task


class Patches(nn.Module):
    """The colours of 2x2 cells: features that can be worked out by hand."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2)


def test_the_similarity_is_that_of_the_mean_features():
    task = EmbeddingTask(net=Patches())
    frames = torch.zeros(1, 3, 32, 32)
    frames[:, 0] = 1  # red
    turned = frames.clone()
    turned[:, :2, :16] = torch.tensor([0.0, 1.0]).view(2, 1, 1)  # the upper half is green
    reference, prediction = task.predict(frames), task.predict(turned)
    metric = task.metric()
    metric.update(prediction, task.labels(reference))
    assert float(metric.compute()) == pytest.approx(0.5**0.5)
    assert float(task.loss(prediction[None], reference[None])) == pytest.approx(1 - 0.5**0.5, abs=1e-6)
    degradation = task.degradation(prediction[None], reference[None])[0, 0]
    assert (degradation[0] > 0).all() and (degradation[1] == 0).all()


def test_a_vector_is_a_grid_of_one_cell():
    task = EmbeddingTask(net=nn.Sequential(Patches(), nn.Flatten()))
    frames = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prediction = task.predict(frames)
    assert prediction.shape == (2, 3, 12, 1, 1)
    assert task.degradation(prediction, task.predict(frames.flip(-1))).shape == (2, 3, 1, 1)


def test_a_model_without_a_grid_of_features_is_refused(monkeypatch, classifier):
    net = ClassificationNet(classifier(), num_classes=40, size=None)
    monkeypatch.setattr("dvcc.networks.embedding.load_classification_net", lambda *_, **__: net)
    with pytest.raises(ConfigError, match="tiny does not give its features"):
        build_task("embedding", model="tiny")
