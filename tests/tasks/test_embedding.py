"""Embeddings: vectors or grids, their cosine similarity, and degradation where features have moved."""

import onnxruntime
import pytest
import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.classification import ClassificationNet
from dvcc.networks.feed import NetworkOptions
from dvcc.tasks import EmbeddingTask, build_task
from tests.networks.segmenters import write_segmenter
from tests.networks.test_onnx import write


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


@pytest.mark.parametrize("grid", [False, True])
def test_an_onnx_file_answers_as_onnxruntime_runs_it(grid, tmp_path):
    """As re-identification and faces are exported: a vector of a picture of one size, fed as the options say."""
    write(tmp_path / "net.onnx", pooled=not grid)
    task = build_task("embedding", model=str(tmp_path / "net.onnx"), options=NetworkOptions(mean=(0, 0, 0), deviation=(1, 1, 1)))
    frames = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prediction = task.predict(frames)
    assert prediction.shape == (2, 3, 4, *((16, 16) if grid else (1, 1))) and "RGB 0..1" in task.net.words
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    given = nn.functional.interpolate(frames[0, :1], (16, 16), mode="bilinear", align_corners=False)
    (expected,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
    torch.testing.assert_close(prediction[0, 0].reshape(expected.shape), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    task.check_trainable()
    images = frames.clone().requires_grad_()
    task.loss(task.predict(images), task.predict(frames.square())).sum().backward()
    assert images.grad.abs().sum() > 0


def test_a_file_that_gives_no_vector_is_refused(tmp_path):
    path = write_segmenter(tmp_path / "net.onnx", "argmax")
    with pytest.raises(CheckpointError, match=r"net\.onnx gives .* but an embedding needs \[D\] or \[D, h, w\]"):
        build_task("embedding", model=str(path))


def test_a_model_without_a_grid_of_features_is_refused(monkeypatch, classifier):
    net = ClassificationNet(classifier(), num_classes=40, size=None)
    monkeypatch.setattr("dvcc.networks.embedding.load_classification_net", lambda *_, **__: net)
    with pytest.raises(ConfigError, match="tiny does not give its features"):
        build_task("embedding", model="tiny")
