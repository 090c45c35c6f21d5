"""ONNX segmenters as people export them: measured as onnxruntime runs them, trained for only where torch is the same network."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.loading import Normalise
from dvcc.tasks import SegmentationTask
from tests.networks.segmenters import CLASSES, write_segmenter

FRAMES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def by_onnxruntime(path, frames=FRAMES) -> torch.Tensor:
    """What the file itself answers to normalised pictures."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    pictures = Normalise()(frames).numpy().astype(np.float16 if given.type == "tensor(float16)" else np.float32)
    return torch.from_numpy(session.run(None, {given.name: pictures})[0])


def upscaled(x: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return nn.functional.interpolate(x.float(), (64, 96), mode=mode)


@pytest.mark.parametrize("form", ["logits", "softmax", "nhwc", "argmax", "leaky", "asymmetric"])
def test_every_form_is_judged_as_onnxruntime_answers_it(form, tmp_path):
    path = write_segmenter(tmp_path / "net.onnx", form)
    task = SegmentationTask(model=str(path), classes=CLASSES if form == "argmax" else None)
    answer = by_onnxruntime(path)
    if form == "nhwc":
        answer = answer.permute(0, 3, 1, 2)
    expected = upscaled(answer, "nearest")[:, 0].long() if form == "argmax" else upscaled(answer).argmax(1)
    logits = task.predict(FRAMES)
    assert logits.shape == (2, CLASSES, 64, 96) and torch.equal(task.labels(logits), expected)
    if form == "softmax":  # the loss compares probabilities, not their softmax
        torch.testing.assert_close(logits.softmax(1), upscaled(answer), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", ["one", "one_sigmoid"])
def test_one_channel_is_a_class_against_the_rest(form, tmp_path):
    """A U-Net for roads, cracks or people: a logit, or a probability, of one class."""
    path = write_segmenter(tmp_path / "net.onnx", form)
    task = SegmentationTask(model=str(path))
    answer = by_onnxruntime(path)
    logits = task.predict(FRAMES)
    assert logits.shape == (2, 2, 64, 96) and "of one class and the rest, in one channel" in task.net.words
    threshold = 0.5 if form == "one_sigmoid" else 0
    assert torch.equal(task.labels(logits), (upscaled(answer)[:, 0] > threshold).long())
    assert 0 < task.labels(logits).float().mean() < 1
    if form == "one_sigmoid":
        torch.testing.assert_close(logits.softmax(1)[:, 1:], upscaled(answer), rtol=1e-3, atol=1e-5)
    images = FRAMES.clone().requires_grad_()
    task.predict(images).square().mean().backward()
    assert images.grad.abs().sum() > 0


def test_a_mask_of_true_and_false_is_two_labels(tmp_path):
    path = write_segmenter(tmp_path / "net.onnx", "one_mask")
    task = SegmentationTask(model=str(path))
    labels = task.labels(task.predict(FRAMES))
    assert task.net.num_classes == 2 and torch.equal(labels, upscaled(by_onnxruntime(path), "nearest")[:, 0].long())
    with pytest.raises(ConfigError, match=r"answers labels \(arg-max\)"):
        task.check_trainable()


@pytest.mark.parametrize("form", ["lone", "lone_labels"])
def test_answers_without_an_axis_of_pictures_are_given_one(form, tmp_path):
    """As of a file for one picture whose answer was squeezed."""
    path = write_segmenter(tmp_path / "lone.ONNX", form, size=(64, 96), batch=1)
    same = write_segmenter(tmp_path / "net.onnx", "argmax" if form == "lone_labels" else "logits", size=(64, 96), batch=1)
    lone, usual = (SegmentationTask(model=str(file)) for file in (path, same))
    assert torch.equal(lone.predict(FRAMES), usual.predict(FRAMES))
    if form == "lone":
        images = FRAMES.clone().requires_grad_()
        lone.predict(images).square().mean().backward()
        assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("half, opset", [(True, 17), (False, 22), (False, 11)])
def test_any_opset_and_half_precision_are_measured(half, opset, tmp_path):
    path = write_segmenter(tmp_path / "net.onnx", half=half, opset=opset)
    task = SegmentationTask(model=str(path))
    assert torch.equal(task.labels(task.predict(FRAMES)), upscaled(by_onnxruntime(path)).argmax(1))
    if half:  # cast to float for training
        task.check_trainable()
        images = FRAMES.clone().requires_grad_()
        task.predict(images).square().mean().backward()
        assert images.grad.abs().sum() > 0


def test_an_opset_without_a_converter_is_measured_and_not_trained_for(tmp_path):
    task = SegmentationTask(model=str(write_segmenter(tmp_path / "net.onnx", opset=22)))
    with pytest.raises(CheckpointError, match=r"net\.onnx can be measured but not trained for: .*no converter.*opset 17"):
        task.check_trainable()


def test_another_network_in_torch_is_refused_with_the_difference(tmp_path):
    path = write_segmenter(tmp_path / "net.onnx", "asymmetric")
    with pytest.raises(
        CheckpointError, match=r"another network than onnxruntime's \(largest difference [\d.]+ of values up to [\d.]+\)"
    ):
        SegmentationTask(model=str(path)).check_trainable()


def test_labels_are_refused_for_training_and_need_a_number_of_classes_beyond_the_usual(tmp_path):
    path = write_segmenter(tmp_path / "net.onnx", "argmax")
    with pytest.raises(ConfigError, match=r"answers labels \(arg-max\), so it can be measured but not trained for"):
        SegmentationTask(model=str(path)).check_trainable()
    with pytest.raises(ConfigError, match=r"with labels up to [12]: set task\.classes"):
        SegmentationTask(model=str(path), classes=1)


@pytest.mark.parametrize("form, message", [("nan", "NaN|infinity"), ("infinite", "infinity|NaN")])
def test_nan_and_infinity_are_refused(form, message, tmp_path):
    with pytest.raises(CheckpointError, match=rf"net\.onnx answers ({message}) \(output out\), so nothing it says can"):
        SegmentationTask(model=str(write_segmenter(tmp_path / "net.onnx", form)))


def test_preprocessing_is_settable_and_said(tmp_path):
    path = write_segmenter(tmp_path / "net.onnx")
    task = SegmentationTask(model=str(path), mean=(127.5,) * 3, deviation=(127.5,) * 3, range=255, colours="bgr")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"picture": (FRAMES.flip(1) * 2 - 1).numpy()})[0]
    torch.testing.assert_close(task.predict(FRAMES), upscaled(torch.from_numpy(answer)), rtol=1e-4, atol=1e-4)
    assert (
        task.net.words
        == "logits, stretched, BGR 0..255, mean 127.5 127.5 127.5, deviation 127.5 127.5 127.5, at the pictures' size"
    )


def test_a_module_of_ones_own_is_a_network_in_one_line():
    net = nn.Conv2d(3, 5, 4, stride=4)
    task = SegmentationTask(net=net)
    torch.testing.assert_close(task.predict(FRAMES), upscaled(net(Normalise()(FRAMES))), rtol=1e-4, atol=1e-4)
    task.check_trainable()
    assert task.net.num_classes == 5


@pytest.mark.parametrize("form", ["uint8[n, H, W, 3]", "uint8[1, 64, 96, 3]", "uint8[n, 3, H, W]"])
def test_a_network_of_bytes_is_fed_the_pictures_as_they_are(form, tmp_path):
    """As TensorFlow's exports are: bytes, the colours last, whatever normalisation there is inside."""
    import onnx
    from onnx import numpy_helper, parser

    last = form.endswith("3]")
    turned = "turned = Transpose<perm = [0, 3, 1, 2]>(floats)" if last else "turned = Identity(floats)"
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
segmenter ({form} picture) => (float out)
{{
  floats = Cast<to = 1>(picture)   {turned}
  out = Conv(turned, weight)
}}"""
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    weight = np.random.default_rng(0).normal(0, 1, (CLASSES, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    onnx.save(model, tmp_path / "net.onnx")
    task = SegmentationTask(model=str(tmp_path / "net.onnx"))
    frames = (FRAMES * 255).round().to(torch.uint8)
    expected = nn.functional.conv2d(frames.float(), torch.from_numpy(weight))
    torch.testing.assert_close(task.predict(frames), expected, rtol=1e-3, atol=1e-2)
    assert "RGB 0..255, at" in task.net.words
    task.check_trainable()


def test_a_reason_of_onnxruntime_is_said_to_its_end(tmp_path):
    import onnx

    model = onnx.load(write_segmenter(tmp_path / "net.onnx"))
    model.ir_version = 99
    onnx.save(model, tmp_path / "later.onnx")
    with pytest.raises(CheckpointError, match=r"Unsupported model IR version: 99, max supported IR version: \d+\): .*export it"):
        SegmentationTask(model=str(tmp_path / "later.onnx"))
