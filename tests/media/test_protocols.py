"""Labels stay true to what is left of the picture; scaling and cutting are torchvision's."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from dvcc import ConfigError
from dvcc.media.protocols import PAPER, Protocol, fit_frames, fit_labels


@pytest.fixture
def frames():
    return torch.randint(0, 256, (2, 3, 50, 75), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fit(labels, protocol, task, size=(32, 64)):
    return fit_labels(labels, protocol, task=task, size=size)


@pytest.mark.parametrize(
    ("protocol", "torchvisions", "size"),
    [
        (Protocol(), CenterCrop((50, 75)), (50, 74)),
        (Protocol(crop=(31, 34)), CenterCrop((31, 34)), (30, 34)),
        (Protocol(resize=(32, 48)), Resize((32, 48), antialias=True), (32, 48)),
        (Protocol(resize_smaller=20, crop=(16, 19)), Compose([Resize(20, antialias=True), CenterCrop((16, 19))]), (16, 18)),
    ],
)
def test_frames_are_scaled_and_cut_as_torchvision_does_and_end_even(frames, protocol, torchvisions, size):
    for pictures in (frames, frames.transpose(2, 3).contiguous()):
        fitted = fit_frames(pictures, protocol)
        expected = torchvisions(pictures) if protocol.scaled(50, 75) != (50, 75) or protocol.crop else pictures
        assert torch.equal(fitted, expected[:, :, : fitted.shape[2], : fitted.shape[3]])
        assert not fitted.shape[2] % 2 and not fitted.shape[3] % 2
    assert tuple(fit_frames(frames, protocol).shape) == (2, 3, *size)


def test_the_papers_protocols():
    """Sizes that are coded, of pictures as the data sets have them."""
    for task, stored, coded in (
        ("segmentation", (1024, 2048), (768, 768)),
        ("detection", (640, 427), (480, 640)),
        ("classification", (375, 500), (224, 224)),
        ("optical_flow", (1024, 2048), (512, 512)),
    ):
        assert PAPER[task].window(*PAPER[task].scaled(*stored))[2:] == coded, task
    assert PAPER["segmentation"].window(1024, 2048)[:2] == (128, 640)
    assert replace(PAPER["segmentation"], rgb=True).window(1024, 2048)[2:] == (769, 769)
    assert str(PAPER["classification"]) == "smaller side 256, bicubic, crop 224x224 (crop ratio 0.875)"


def test_classification_scales_bicubically_as_timm_does(frames):
    protocol = Protocol(resize_smaller=20, crop=(16, 16), interpolation="bicubic")
    expected = Compose([Resize(20, InterpolationMode.BICUBIC, antialias=True), CenterCrop((16, 16))])(frames)
    assert torch.equal(fit_frames(frames, protocol), expected)
    assert not torch.equal(expected, fit_frames(frames, replace(protocol, interpolation="bilinear")))


def test_label_maps_keep_their_classes_and_places():
    labels = torch.zeros(1, 32, 64, dtype=torch.uint8)
    labels[:, :, 32:], labels[:, 16:, :32] = 255, 7
    cut = fit(labels, Protocol(crop=(16, 32)), "segmentation")
    assert torch.equal(cut, labels[:, 8:24, 16:48])
    scaled = fit(labels, Protocol(resize=(48, 32)), "segmentation")
    assert scaled.shape == (1, 48, 32) and scaled.unique().tolist() == [0, 7, 255]
    assert (scaled[:, :, 16:] == 255).all() and (scaled[:, 24:, :16] == 7).all() and (scaled[:, :24, :16] == 0).all()


def test_boxes_are_cut_and_dropped_and_padded():
    """A 32x64 picture, of which rows 8 to 23 and columns 16 to 47 remain."""
    inside, across, outside = [0.375, 0.375, 0.5, 0.5, 3], [0, 0, 0.5, 0.5, 1], [0, 0, 0.25, 1, 2]
    padding = [0, 0, 0, 0, -1]
    boxes = torch.tensor([[outside, across, inside], [padding, outside, inside]])
    fitted = fit(boxes, Protocol(crop=(16, 32)), "detection")
    cut_across, cut_inside = [0, 0, 0.5, 0.5, 1], [0.25, 0.25, 0.5, 0.5, 3]
    assert fitted.tolist() == [[cut_across, cut_inside], [cut_inside, padding]]
    assert torch.equal(fit(boxes, Protocol(resize=(480, 640)), "detection")[0], boxes[0])  # shares do not change
    assert fit(boxes[:, :0], Protocol(crop=(16, 32)), "detection").shape == (2, 0, 5)
    odd = fit(torch.tensor([[[0, 0, 1, 0.5, 0]]]), Protocol(), "detection", size=(33, 65))  # the last row and column go
    assert odd[0, 0].tolist() == pytest.approx([0, 0, 1, 16.5 / 32, 0])


def test_flow_is_scaled_with_the_picture():
    flow = torch.ones(1, 2, 32, 64)
    flow[:, :, :, 32:] = torch.nan
    scaled = fit(flow, Protocol(resize=(64, 32)), "optical_flow")
    assert (scaled[:, 0, :, :16] == 0.5).all() and (scaled[:, 1, :, :16] == 2).all() and scaled[..., 16:].isnan().all()
    assert fit(flow, Protocol(crop=(16, 16)), "optical_flow").shape == (1, 2, 16, 16)


def test_classes_are_left_alone():
    assert fit(torch.tensor([3]), PAPER["classification"], "classification").tolist() == [3]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"resize": (32, 32), "resize_smaller": 32}, "2 ways to scale"),
        ({"resize_smaller": 0}, "resize_smaller must be at least 16, got 0"),
        ({"crop": (32,)}, r"crop must be \(height, width\), each at least 16, got \(32,\)"),
        ({"resize": (8, 32)}, r"resize must be .*got \(8, 32\)"),
        ({"resize": (32, 32), "crop": (16, 48)}, "a crop of 16x48 is larger than the 32x32 picture"),
        ({"resize_smaller": 32, "crop": (48, 48)}, r"crop=\(48, 48\) does not fit pictures whose smaller side is 32"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Protocol(**wrong)


def test_a_crop_larger_than_the_picture_gives_both_sizes(frames):
    with pytest.raises(ConfigError, match="a crop of 769x769 is larger than the 50x75 picture: leave that out, or take"):
        fit_frames(frames, PAPER["segmentation"])


def test_a_protocol_from_a_config_is_the_same():
    assert Protocol(crop=[32, 48]) == Protocol(crop=(32, 48)) and hash(Protocol(crop=[32, 48]))
