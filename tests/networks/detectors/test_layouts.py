"""Every layout by a network whose boxes are known: through letterbox or stretch, channel order and scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.detectors import LAYOUTS, load_detector
from dvcc.networks.exported import OnnxDetector
from dvcc.networks.feed import NetworkOptions
from tests.networks.detectors.finder import BOX, LABEL, SCORE, SIDE, picture, shares, write_finder

NAMED = {name for name, layout in LAYOUTS.items() if layout.named_only}
SUPPRESSED = {"end_to_end", "mmdetection", "yolov7_end2end", "batched_nms", "flat_nms", "paddle"}
UNCOUNTED = SUPPRESSED | {"deim", "torchvision", "tensorflow"}
"""Layouts that do not say how many classes there are."""
OTHER = (20, 10, 150, 85)


def options_of(name: str, **others) -> NetworkOptions:
    classes = 3 if name in UNCOUNTED else None
    return NetworkOptions(layout=name if name in NAMED else None, classes=classes, **others)


def box_of(detector, image) -> np.ndarray:
    (boxes,) = detector.detect(image, least_score=0.3)
    assert len(boxes.labels) == 1 and boxes.labels[0] == LABEL and boxes.scores[0] == pytest.approx(SCORE, abs=0.01)
    return boxes.corners[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_box_is_found_where_it_is(name, tmp_path):
    detector = load_detector(write_finder(tmp_path / "net.onnx", name), options=options_of(name))
    assert detector.layout.name == name and detector.num_classes == 3
    np.testing.assert_allclose(box_of(detector, picture()), shares(), atol=0.02)
    # A tall picture, and two at once.
    tall = {"box": (30, 50, 80, 140), "size": (200, 100)}
    np.testing.assert_allclose(box_of(detector, picture(**tall)), shares(**tall), atol=0.02)
    both = detector.detect(np.stack([picture(), picture(OTHER)]), least_score=0.3)
    for boxes, box in zip(both, (BOX, OTHER), strict=True):
        np.testing.assert_allclose(boxes.corners[0], shares(box), atol=0.02)


@pytest.mark.parametrize("name", LAYOUTS)
def test_colours_and_range_are_the_layouts_own_unless_they_are_said(name, tmp_path):
    feed = LAYOUTS[name].feed
    path = write_finder(tmp_path / "net.onnx", name)
    swapped = "rgb" if feed.colours == "bgr" else "bgr"
    wrong = load_detector(path, options=options_of(name, colours=swapped))
    assert not len(wrong.detect(picture(), least_score=0.3)[0].labels)
    # The same layout, fed in another way, as the user says.
    other = replace(feed, colours=swapped, range=255.0, mean=(90.0, 80.0, 70.0), deviation=(50.0, 60.0, 70.0), resize="stretch")
    write_finder(path, name, feed=other)
    options = {"colours": swapped, "range": 255.0, "mean": other.mean, "deviation": other.deviation, "resize": "stretch"}
    detector = load_detector(path, options=options_of(name, **options))
    np.testing.assert_allclose(box_of(detector, picture()), shares(), atol=0.02)
    assert f"stretched, {swapped.upper()} 0..255, mean 90 80 70" in detector.words


@pytest.mark.parametrize("name", ["ultralytics", "yolov5", "end_to_end", "rtdetr", "nanodet"])
def test_half_precision_is_run_as_it_is(name, tmp_path):
    detector = load_detector(write_finder(tmp_path / "net.onnx", name, half=True), options=options_of(name))
    assert detector.file.dtype is np.float16
    np.testing.assert_allclose(box_of(detector, picture()), shares(), atol=0.03)


@pytest.mark.parametrize("resize, offset", [("letterbox", (25, 0)), ("letterbox_corner", (0, 0)), ("stretch", (0, 0))])
def test_a_picture_lies_on_the_canvas_where_its_resize_puts_it(resize, offset):
    feed = replace(LAYOUTS["ultralytics"].feed, resize=resize)
    placement = feed.placement((120, 200), (SIDE, SIDE))
    assert (placement.top, placement.left) == offset
    assert (placement.height, placement.width) == ((SIDE, SIDE) if resize == "stretch" else (77, SIDE))
    canvas = feed.place(picture()[None].transpose(0, 3, 1, 2), (SIDE, SIDE), placement, np)[0]
    bars = SIDE - 77 if resize != "stretch" else 0
    assert (np.abs(canvas - 114 / 255) < 1e-6).all((0, 2)).sum() == bars


@pytest.mark.parametrize("name", sorted(name for name, layout in LAYOUTS.items() if layout.batched))
def test_numpy_and_torch_decode_alike_and_torch_has_a_gradient(name, tmp_path):
    file = write_finder(tmp_path / "net.onnx", name)
    layout = LAYOUTS[name]
    detector = load_detector(file, options=options_of(name))
    canvas, placement = detector.canvas((120, 200))
    image = picture()[None].transpose(0, 3, 1, 2)
    answers = detector.file.run(detector.feed.place(image, canvas, placement, np))
    tensors = [torch.from_numpy(value.copy()) for value in answers]
    floats = [value.requires_grad_() for value in tensors if value.is_floating_point()]
    for mine, theirs in zip(layout.decode(answers, canvas, 3, np), layout.decode(tensors, canvas, 3, torch), strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-4, atol=1e-4)
    sum(part.sum() for part in layout.decode(tensors, canvas, 3, torch)).backward()
    # TensorFlow's class numbers are floats.
    assert all(value.grad is not None for value in floats if (value.detach() != value.detach().round()).any())
    placed = detector.feed.place(torch.from_numpy(image.copy()), canvas, placement, torch)
    np.testing.assert_allclose(placed.numpy(), detector.feed.place(image, canvas, placement, np), rtol=1e-5, atol=1e-5)


def test_resizing_is_torchs_without_antialiasing():
    image = torch.rand(2, 3, 37, 53, generator=torch.Generator().manual_seed(0))
    from dvcc.networks.feed import resized

    for size in ((20, 30), (37, 53), (64, 128), (90, 20)):
        expected = torch.nn.functional.interpolate(image, size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(resized(image, size, torch), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(resized(image.numpy(), size, np), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_what_more_than_one_layout_could_mean_has_to_be_named(name, tmp_path):
    with pytest.raises(ConfigError, match=rf"net\.onnx gives \[1, .*more than one layout could mean: set .*task\.layout={name} "):
        load_detector(write_finder(tmp_path / "net.onnx", name))


def test_a_layout_that_does_not_fit_is_refused_with_those_that_would(tmp_path):
    path = write_finder(tmp_path / "net.onnx", "ultralytics")
    with pytest.raises(CheckpointError, match=r"gives \[1, 7, 3\].* but task\.layout=picodet is .*layouts that fit: ultralytics"):
        load_detector(path, options=NetworkOptions(layout="picodet"))
    with pytest.raises(ConfigError, match=r"no layout 'yolo': choose task\.layout=ultralytics\|ultralytics_rows"):
        load_detector(path, options=NetworkOptions(layout="yolo"))


def test_class_numbers_beyond_those_taken_for_granted_are_named(tmp_path):
    path = write_finder(tmp_path / "net.onnx", "end_to_end")
    detector = load_detector(path, options=NetworkOptions(classes=1))
    with pytest.raises(CheckpointError, match=r"answers class 1, and 1 classes were taken for granted: set task\.classes"):
        detector.detect(picture())


def test_a_gradient_passes_through_a_file_that_torch_can_imitate(tmp_path):
    """The network has steps, so the gradient itself is 0; the candidates are onnxruntime's to a thousandth."""
    from tests.conftest import write_detector

    net = OnnxDetector(load_detector(write_detector(tmp_path / "net.onnx")))
    images = torch.rand(2, 3, 40, 72, generator=torch.Generator().manual_seed(0))
    judged = net(images)
    images.requires_grad_()
    trained = net(images)
    torch.testing.assert_close(trained.detach(), judged, rtol=1e-3, atol=1e-3)
    trained.square().sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["ultralytics", "rfdetr"])
def test_maps_beside_the_answers_are_not_looked_at(name, tmp_path):
    """Masks, and the feature maps of exports that leave a network's heads in: last or first."""
    path = write_finder(tmp_path / "net.onnx", name)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 5, 4, 4), np.float32), "features"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["features"], ["map"]))
    outputs = [*model.graph.output, onnx.helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, None)]
    for order in (outputs, outputs[::-1]):
        del model.graph.output[:]
        model.graph.output.extend(order)
        onnx.save(model, path)
        detector = load_detector(path, options=options_of(name))
        assert detector.layout.name == name
        np.testing.assert_allclose(box_of(detector, picture()), shares(), atol=0.02)


def test_boxes_as_shares_where_pixels_belong_are_refused_once_one_is_seen(tmp_path):
    path = write_finder(tmp_path / "net.onnx", "end_to_end")
    model = onnx.load(path)
    concat = next(node for node in model.graph.node if node.output[0] == "full")
    model.graph.node.insert(list(model.graph.node).index(concat), onnx.helper.make_node("Div", ["xyxy", "side"], ["share"]))
    concat.input[0] = "share"
    onnx.save(model, path)
    detector = load_detector(path, options=options_of("end_to_end"))
    with pytest.raises(CheckpointError, match=r"boxes end at 0\.\d+, as shares of the sides do, but layout end_to_end"):
        detector.detect(picture())
