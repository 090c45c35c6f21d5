"""Exports that people report trouble with (docs/own-network.md has the links): each by a network whose box is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.detectors import load_detector
from dvcc.networks.exported import OnnxDetector
from dvcc.networks.feed import NetworkOptions
from dvcc.tasks import DetectionTask
from tests.networks.detectors.finder import BOX, LABEL, SCORE, SIDE, picture, shares, write_finder


def found(detector) -> None:
    """The rectangle is, once, with its class and its score."""
    (boxes,) = detector.detect(picture(), least_score=0.3)
    assert boxes.labels.tolist() == [LABEL] and boxes.scores[0] == pytest.approx(SCORE, abs=0.01)
    np.testing.assert_allclose(boxes.corners[0], shares(BOX), atol=0.02)


def changed(path, layout, change, **arrays) -> str:
    """The finder of a layout, whose model `change` alters; arrays: further constants."""
    model = onnx.load(write_finder(path, layout))
    for name, value in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    change(model.graph)
    onnx.save(model, path)
    return str(path)


def add(graph, kind, inputs, output, **attributes) -> None:
    graph.node.append(helper.make_node(kind, inputs, [output], **attributes))


def answers_with(graph, *names, first=()) -> None:
    """The graph's outputs, and others, all float32 of any shape."""
    kept = list(graph.output)
    del graph.output[:]
    of = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*first, *names)}
    graph.output.extend([*(of[name] for name in first), *kept, *(of[name] for name in names)])


def replace_output(graph, name) -> None:
    del graph.output[:]
    answers_with(graph, name)


def test_key_points_after_the_scores_are_cut_once_the_classes_are_said(tmp_path):
    """YOLOv8-pose: [1, 4 + 1 + 51, N]."""

    def change(graph):
        add(graph, "Concat", ["out", "points"], "posed", axis=1)
        replace_output(graph, "posed")

    path = changed(tmp_path / "net.onnx", "ultralytics", change, points=np.full((1, 51, 3), 70.0, np.float32))
    with pytest.raises(CheckpointError, match=r"gives \[1, 58, 3\].*set task\.classes where key points or an angle follow"):
        load_detector(path)
    found(load_detector(path, options=NetworkOptions(classes=3)))


def test_the_angle_of_oriented_boxes_is_cut_too(tmp_path):
    """YOLOv8-OBB: [1, 4 + classes + 1, N]; an angle between 0 and 1 would pass for a class."""

    def change(graph):
        add(graph, "Concat", ["out", "angle"], "oriented", axis=1)
        replace_output(graph, "oriented")

    path = changed(tmp_path / "net.onnx", "ultralytics", change, angle=np.full((1, 1, 3), 0.7, np.float32))
    detector = load_detector(path, options=NetworkOptions(classes=3))
    assert detector.num_classes == 3
    found(detector)


def test_suppressed_rows_may_carry_key_points(tmp_path):
    """nms=True of a pose or segmentation model: [1, N, 6 + ..]."""

    def change(graph):
        add(graph, "Concat", ["out", "points"], "posed", axis=2)
        replace_output(graph, "posed")

    path = changed(tmp_path / "net.onnx", "end_to_end", change, points=np.full((1, 2, 51), 70.0, np.float32))
    detector = load_detector(path, options=NetworkOptions(classes=3))
    assert detector.layout.name == "end_to_end"
    found(detector)


def test_rows_in_place_of_columns_are_named_when_columns_are_asked_for(tmp_path):
    """[1, 8400, 84]: YOLOv8 transposed, which no shape tells from YOLOv5."""

    def change(graph):
        add(graph, "Concat", ["out", "more"], "all", axis=1)
        replace_output(graph, "all")

    more = np.tile(np.array([20, 20, 10, 10, 0, 0, 0], np.float32), (1, 333, 1))  # 336 cells of 128x128
    path = changed(tmp_path / "net.onnx", "ultralytics_rows", change, more=more)
    with pytest.raises(ConfigError, match=r"more than one layout could mean: set .*task\.layout=ultralytics_rows for .*yolov5"):
        load_detector(path)
    with pytest.raises(CheckpointError, match=r"task\.layout=ultralytics is .*layouts that fit: ultralytics_rows, yolov5"):
        load_detector(path, options=NetworkOptions(layout="ultralytics"))
    found(load_detector(path, options=NetworkOptions(layout="ultralytics_rows")))


def test_as_many_columns_as_cells_are_columns_where_they_hold_boxes(tmp_path):
    """[1, 84, 16] of 80 classes at 64x64, which has 84 cells; here 336 of 128x128."""

    def change(graph):
        add(graph, "Concat", ["out", "classes"], "wide", axis=1)
        replace_output(graph, "wide")

    path = changed(tmp_path / "net.onnx", "ultralytics", change, classes=np.zeros((1, 329, 3), np.float32))
    detector = load_detector(path)
    assert detector.layout.name == "ultralytics" and detector.num_classes == 332
    found(detector)


def test_heads_before_their_grid_are_refused(tmp_path):
    """YOLOv7 without --grid: [1, 3, rows, columns, 5 + classes] at three strides."""

    def change(graph):
        for stride in (8, 16, 32):
            name = f"head{stride}"
            value = np.zeros((1, 3, SIDE // stride, SIDE // stride, 8), np.float32)
            graph.initializer.append(numpy_helper.from_array(value, f"{name}_"))
            add(graph, "Identity", [f"{name}_"], name)
        del graph.output[:]
        answers_with(graph, "head8", "head16", "head32")

    path = changed(tmp_path / "net.onnx", "ultralytics", change)
    with pytest.raises(CheckpointError, match=r"gives \[1, 3, 16, 16, 8\] and .* no detector's layout that dvcc knows"):
        load_detector(path)


def test_scores_before_their_sigmoid_are_refused_with_their_range(tmp_path):
    """YOLOv7 --end2end of one class: scores of 248."""

    def change(graph):
        add(graph, "Mul", ["out", "raw"], "loud")
        replace_output(graph, "loud")

    raw = np.array([[1, 1, 1, 1, 1, 1, 301]], np.float32)
    path = changed(tmp_path / "net.onnx", "yolov7_end2end", change, raw=raw)
    with pytest.raises(CheckpointError, match=r"the form of yolov7_end2end or flat_nms, but not its numbers \(0 to 271\)"):
        load_detector(path, options=NetworkOptions(classes=3))
    # A network that finds nothing in the probe pictures is known once it finds something.
    detector = load_detector(path, options=NetworkOptions(classes=3, layout="yolov7_end2end"))
    with pytest.raises(CheckpointError, match=r"scores go up to 271, and those of layout yolov7_end2end lie within 0\.\.1"):
        detector.detect(picture())


def test_only_the_picture_counts_where_a_batch_is_fixed(tmp_path):
    """torchvision's detectors exported for two pictures have boxes, labels and scores twice, and answer no axis of pictures."""

    def change(graph):
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        add(graph, "Split", ["batch", "ones_"], "picture", axis=0)
        graph.node[-1].output.append("second")
        graph.node.insert(0, graph.node.pop())
        graph.input[0].name = "batch"
        for name in ("boxes", "scores"):
            add(graph, "Identity", [name], f"{name}2")
        answers_with(graph, "boxes2", "scores2")

    path = changed(tmp_path / "net.onnx", "torchvision", change, ones_=np.array([1, 1]))
    found(load_detector(path, options=NetworkOptions(classes=3)))


def test_rows_of_other_pictures_are_left_out(tmp_path):
    """YOLOv7 --end2end for four pictures: the first column says whose a box is."""

    def change(graph):
        add(graph, "Add", ["out", "next"], "other")
        add(graph, "Concat", ["other", "out"], "all", axis=0)
        replace_output(graph, "all")

    path = changed(tmp_path / "net.onnx", "yolov7_end2end", change, next=np.array([[1, 0, 0, 0, 0, 0, 0]], np.float32))
    found(load_detector(path, options=NetworkOptions(classes=3)))


def test_boxes_that_nobody_counts_and_scores_first_are_read(tmp_path):
    """SuperGradients: four answers with a count, and flat rows with the score before the class, which have to be named."""
    found(load_detector(write_finder(tmp_path / "net.onnx", "batched_nms"), options=NetworkOptions(classes=3)))
    path = write_finder(tmp_path / "flat.onnx", "flat_nms")
    with pytest.raises(ConfigError, match=r"gives \[1, 7\] .*more than one layout could mean: set task\.layout=flat_nms for"):
        load_detector(path)
    found(load_detector(path, options=NetworkOptions(classes=3, layout="flat_nms")))


def test_detrs_mask_of_pixels_is_filled_and_its_hidden_states_are_left_out(tmp_path):
    """Hugging Face's DETR: inputs pixel_values and pixel_mask; logits and pred_boxes among four answers of one rank."""

    def change(graph):
        graph.input.append(helper.make_tensor_value_info("pixel_mask", TensorProto.INT64, ["batch", "height", "width"]))
        add(graph, "ReduceMin", ["pixel_mask"], "masked", keepdims=0)  # 0 would hide the picture
        add(graph, "Cast", ["masked"], "visible", to=TensorProto.FLOAT)
        for old, new in (("logits", "logits_"), ("boxes", "pred_boxes")):
            for node in graph.node:
                node.output[:] = [new if name == old else name for name in node.output]
        add(graph, "Mul", ["logits_", "visible"], "logits")
        add(graph, "Identity", ["state"], "last_hidden_state")
        del graph.output[:]
        answers_with(graph, "logits", "pred_boxes", "last_hidden_state")

    path = changed(tmp_path / "net.onnx", "detr", change, state=np.zeros((1, 3, 16), np.float32))
    detector = load_detector(path)
    assert detector.layout.name == "detr"
    found(detector)


def test_a_module_that_names_its_answers_is_read_by_their_names():
    """The same as a module: a dataclass with more tensors than two, as transformers gives."""

    @dataclass
    class Output:
        loss: None
        logits: torch.Tensor
        pred_boxes: torch.Tensor
        last_hidden_state: torch.Tensor

    class Net(nn.Module):
        def forward(self, pixels):
            boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]])
            logits = torch.tensor([[-9.0, 9, -9, -9], [-9, -9, -9, 9], [-9, -9, -9, 9]])
            states = torch.zeros(len(pixels), 3, 16)
            return Output(None, logits.expand(len(pixels), 3, 4), boxes.expand(len(pixels), 3, 4), states)

    task = DetectionTask(net=Net())
    (boxes,) = task.objects(torch.rand(1, 3, 64, 96))
    assert boxes.labels.tolist() == [1]
    torch.testing.assert_close(boxes.corners, torch.tensor([[0.4, 0.3, 0.6, 0.7]]))


def test_a_file_for_any_number_of_pictures_that_answers_for_one_is_run_one_by_one(tmp_path):
    """Co-DETR by mmdeploy: [2, 3, H, W] gives [1, 300, 5]; YOLOv3: a reshape with the batch of the export."""

    def change(graph):
        graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_value")
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        add(graph, "Gather", ["pictures", "zero_first"], "picture", axis=0)
        graph.node.insert(0, graph.node.pop())
        graph.input[0].name = "pictures"

    path = changed(tmp_path / "net.onnx", "mmdetection", change, zero_first=np.array([0]))
    detector = load_detector(path, options=NetworkOptions(classes=3))
    assert detector.file.one_by_one
    images = [picture(), picture((20, 10, 150, 85))]
    both = detector.detect(np.stack(images), least_score=0.3)
    for boxes, box in zip(both, (BOX, (20, 10, 150, 85)), strict=True):
        np.testing.assert_allclose(boxes.corners[0], shares(box), atol=0.02)


def test_bytes_with_the_channels_last_and_outputs_beside_the_boxes(tmp_path):
    """TensorFlow's Object Detection API: [1, H, W, 3] of bytes, tops first, classes as floats from 1, names decide."""

    def change(graph):
        image = graph.input[0]
        image.name = "input_tensor"
        image.type.tensor_type.elem_type = TensorProto.UINT8
        for dim, side in zip(image.type.tensor_type.shape.dim, (1, SIDE, SIDE, 3), strict=True):
            dim.dim_value = side
        add(graph, "Cast", ["input_tensor"], "float_", to=TensorProto.FLOAT)
        add(graph, "Transpose", ["float_"], "first", perm=[0, 3, 1, 2])
        add(graph, "Div", ["first", "most"], "picture")
        for _ in range(3):
            graph.node.insert(0, graph.node.pop())

    path = changed(tmp_path / "net.onnx", "tensorflow", change, most=np.array(255, np.float32))
    detector = load_detector(path, options=NetworkOptions(classes=3))
    assert detector.file.dtype is np.uint8 and "RGB 0..255" in detector.words
    found(detector)


def test_a_gradient_does_not_hang_on_the_order_of_inputs(tmp_path):
    """PaddleDetection has the picture between two inputs beside it. The rows have no axis of pictures: measured alone."""
    detector = load_detector(write_finder(tmp_path / "net.onnx", "paddle"), options=NetworkOptions(classes=3))
    assert detector.file.input_names == ["im_shape", "picture", "scale_factor"]
    found(detector)
    with pytest.raises(CheckpointError, match="can be measured but not trained for"):
        OnnxDetector(detector).net.differentiate()
