"""Any ONNX file as a network: one that fits the task works at any size, another is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.classification import load_classification_net
from dvcc.networks.detectors import load_detector
from dvcc.networks.detectors.fastestdet import is_fastestdet
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import Normalise
from dvcc.networks.segmentation import load_segmentation_net

CLASSES = 4


def write(
    path: Path,
    *,
    pooled: bool,
    batch: int | str = 1,
    side: int | str = 16,
    classes: int = CLASSES,
    declared: list | None = ...,
    probable: bool = False,
) -> torch.Tensor:
    """A 1x1 convolution, averaged over the picture if `pooled`, for one picture then; returns its weights (classes, 3).

    declared: a shape of the output that is not the real one, or None for a file without. probable: what follows the first five
    logits becomes probabilities.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(0).normal(size=(classes, 3, 1, 1)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "weight"], ["map" if pooled or probable else "logits"])]
    if probable:
        nodes += [
            helper.make_node("Split", ["map", "parts"], ["boxes", "rest"], axis=1),
            helper.make_node("Softmax", ["rest"], ["classes"], axis=1),
            helper.make_node("Concat", ["boxes", "classes"], ["logits"], axis=1),
        ]
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Reshape", ["mean", "shape"], ["logits"]),
        ]
    outputs = declared if declared is not ... else [batch, classes] if pooled else [batch, classes, side, side]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, outputs)],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([1, classes]), "shape"),
            numpy_helper.from_array(np.array([5, classes - 5]), "parts"),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return torch.from_numpy(weight[..., 0, 0])


@pytest.mark.parametrize("batch, side", [(1, 16), ("n", "s")])
def test_segmentation_answers_at_the_pictures_size(batch, side, tmp_path):
    weight = write(tmp_path / "net.onnx", pooled=False, batch=batch, side=side)
    net = load_segmentation_net(str(tmp_path / "net.onnx"))
    images = torch.rand(2, 3, 24, 40)
    seen = Normalise()(F.interpolate(images, (16, 16), mode="bilinear") if side == 16 else images)
    logits = torch.einsum("k c, n c h w -> n k h w", weight, seen)
    assert net.num_classes == CLASSES
    expected = F.interpolate(logits, (24, 40), mode="bilinear") if side == 16 else logits
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


def test_classification_normalises(tmp_path):
    weight = write(tmp_path / "net.onnx", pooled=True)
    net = load_classification_net(str(tmp_path / "net.onnx"))
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    torch.testing.assert_close(net(images), Normalise()(images).mean((2, 3)) @ weight.T, rtol=1e-4, atol=1e-4)
    net(images).sum().backward()
    assert net.num_classes == CLASSES and images.grad is not None


@pytest.mark.parametrize("axes", [(2, 3), (1, 2)], ids=["classes first", "classes last"])
def test_logits_with_sides_of_one_are_found_beside_features(axes, tmp_path):
    """As of a network whose last layer is a convolution, exported with its features."""
    import onnx

    weight = write(tmp_path / "net.onnx", pooled=True)
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(axes), "axes"))
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["logits", "axes"], ["wide"]))
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in ("map", "wide"))
    onnx.save(model, tmp_path / "net.onnx")
    net = load_classification_net(str(tmp_path / "net.onnx"))
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    torch.testing.assert_close(net(images), Normalise()(images).mean((2, 3)) @ weight.T, rtol=1e-4, atol=1e-4)
    net(images).sum().backward()
    assert net.num_classes == CLASSES and images.grad is not None


def test_a_file_that_does_not_fit_the_task_says_what_it_gives_and_what_is_needed(tmp_path):
    write(tmp_path / "pooled.onnx", pooled=True)
    write(tmp_path / "map.onnx", pooled=False)
    with pytest.raises(CheckpointError, match=r"pooled\.onnx gives \[4\] for a picture of 16x16, but segmentation needs"):
        load_segmentation_net(str(tmp_path / "pooled.onnx"))
    with pytest.raises(CheckpointError, match=r"map\.onnx gives \[4, 16, 16\] .* but classification needs logits"):
        load_classification_net(str(tmp_path / "map.onnx"))
    with pytest.raises(CheckpointError, match=r"no ONNX file at .*nowhere\.onnx"):
        load_classification_net(str(tmp_path / "nowhere.onnx"))


@pytest.mark.parametrize("declared", [None, [1, 7, 16, 16], [1, 9]], ids=["none", "other classes", "other rank"])
def test_what_a_file_declares_of_its_output_is_not_asked(declared, tmp_path):
    write(tmp_path / "net.onnx", pooled=False, declared=declared)
    net = load_segmentation_net(str(tmp_path / "net.onnx"))
    assert net.num_classes == CLASSES and net(torch.rand(1, 3, 20, 30)).shape == (1, CLASSES, 20, 30)
    with pytest.raises(CheckpointError, match=r"gives \[4, 16, 16\] for a picture of 16x16, but classification needs"):
        load_classification_net(str(tmp_path / "net.onnx"))


def test_files_for_one_picture_for_four_and_for_any_number_answer_alike(tmp_path):
    """One says that it takes any number, and reshapes as if for one."""
    images, first = torch.rand(5, 3, 16, 16), torch.empty(0)
    for batch in (1, 4, "n"):
        write(tmp_path / "map.onnx", pooled=False, batch=batch)
        answers = load_segmentation_net(str(tmp_path / "map.onnx"))(images)
        first = answers if batch == 1 else first
        torch.testing.assert_close(answers, first)
    write(tmp_path / "many.onnx", pooled=True, batch="n")
    write(tmp_path / "one.onnx", pooled=True)
    many, single = (load_classification_net(str(tmp_path / f"{name}.onnx")) for name in ("many", "one"))
    torch.testing.assert_close(many(images), single(images))


def test_what_cannot_be_run_ends_in_a_sentence(tmp_path):
    write(tmp_path / "net.onnx", pooled=False)
    with pytest.raises(ConfigError, match=r"net\.onnx takes pictures of 16x16 alone: leave task\.size out"):
        load_segmentation_net(str(tmp_path / "net.onnx"), options=NetworkOptions(size=(32, 32)))
    import onnx

    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
net (int32[n, H, W, 3] picture) => (int32 out) { out = Identity(picture) }""")
    onnx.save(model, tmp_path / "whole.onnx")
    with pytest.raises(CheckpointError, match=r"whole\.onnx takes picture \[\?, \?, \?, 3\] of int32: .* float or uint8 \["):
        load_segmentation_net(str(tmp_path / "whole.onnx"))
    (tmp_path / "text.onnx").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"text\.onnx is no ONNX model that onnxruntime .* can read"):
        load_segmentation_net(str(tmp_path / "text.onnx"))


def test_a_detector_is_no_segmenter_nor_the_reverse(tmp_path):
    """FastestDet's layout is told by its probabilities, which sum to 1 after the first five numbers."""
    answers = torch.cat([torch.rand(2, 5, 2, 2), torch.rand(2, 6, 2, 2).softmax(1)], 1).numpy()
    assert is_fastestdet(answers) and not is_fastestdet(answers * 2) and not is_fastestdet(answers[:, 1:])
    assert not is_fastestdet(torch.randn(2, 11, 2, 2).softmax(1).numpy())  # a segmenter's probabilities
    write(tmp_path / "map.onnx", pooled=False, classes=8)
    with pytest.raises(CheckpointError, match=r"gives \[1, 8, 16, 16\].*the form of fastestdet, but not its numbers"):
        load_detector(tmp_path / "map.onnx")


def test_fastestdet_as_a_segmenter_is_refused(tmp_path):
    write(tmp_path / "boxes.onnx", pooled=False, classes=9, probable=True)
    with pytest.raises(CheckpointError, match=r"boxes\.onnx gives \[9, 16, 16\].*FastestDet's layout.*choose task=detection"):
        load_segmentation_net(str(tmp_path / "boxes.onnx"))
