"""Any ONNX file as a network: one that fits the task works at any size, another is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dvcc.errors import CheckpointError
from dvcc.tasks.nets import load_classification_net, load_segmentation_net

CLASSES = 4


def write(path: Path, *, pooled: bool, batch: int | str = 1, side: int | str = 16, classes: int = CLASSES) -> torch.Tensor:
    """A 1x1 convolution, averaged over the picture if `pooled`, for one picture then; returns its weights (classes, 3)."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(0).normal(size=(classes, 3, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "weight"], ["logits" if not pooled else "map"])]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Reshape", ["mean", "shape"], ["logits"]),
        ]
    outputs = [batch, classes] if pooled else [batch, classes, side, side]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.array([1, classes]), "shape")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return torch.from_numpy(weight[..., 0, 0])


@pytest.mark.parametrize("batch, side", [(1, 16), ("n", "s")])
def test_segmentation_answers_at_the_pictures_size(batch, side, tmp_path):
    weight = write(tmp_path / "net.onnx", pooled=False, batch=batch, side=side)
    net = load_segmentation_net(str(tmp_path / "net.onnx"))
    images = torch.rand(2, 3, 24, 40)
    seen = F.interpolate(images, (16, 16), mode="bilinear") if side == 16 else images
    logits = torch.einsum("k c, n c h w -> n k h w", weight, seen)
    assert net.num_classes == CLASSES
    torch.testing.assert_close(net(images), F.interpolate(logits, (24, 40), mode="bilinear") if side == 16 else logits)


def test_classification_normalises(tmp_path):
    weight = write(tmp_path / "net.onnx", pooled=True)
    net = load_classification_net(str(tmp_path / "net.onnx"))
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    torch.testing.assert_close(net(images), net.normalise(images).mean((2, 3)) @ weight.T)
    net(images).sum().backward()
    assert net.num_classes == CLASSES and images.grad is not None


def test_a_file_that_does_not_fit_the_task_is_named(tmp_path):
    write(tmp_path / "pooled.onnx", pooled=True)
    write(tmp_path / "map.onnx", pooled=False)
    with pytest.raises(CheckpointError, match=r"pooled\.onnx maps .*\[1, 4\]: segmentation needs logits"):
        load_segmentation_net(str(tmp_path / "pooled.onnx"))
    with pytest.raises(CheckpointError, match=r"map\.onnx maps .*: classification needs logits"):
        load_classification_net(str(tmp_path / "map.onnx"))
    with pytest.raises(CheckpointError, match=r"no ONNX file at .*nowhere\.onnx"):
        load_classification_net(str(tmp_path / "nowhere.onnx"))
