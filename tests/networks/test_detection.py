"""Detection networks: their own answers become candidates, whatever their layout."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.coco import COCO_NAMES, COCO_NUMBERS
from dvcc.networks.detection import load_detection_net
from dvcc.networks.detector import detect
from dvcc.networks.detr import Detr, _size_of
from dvcc.networks.faster_rcnn import TorchvisionDetector
from dvcc.networks.weights import Weights, save_weights


class _Queries(nn.Module):
    """DETR's answer: two queries, COCO's numbers 1 (person) and 90 (toothbrush)."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        self.seen = pixel_values
        logits = torch.full((len(pixel_values), 2, 92), -20.0)
        logits[:, 0, 1], logits[:, 1, 90], logits[:, 1, 91] = 20.0, 20.0, 20.0
        boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.9, 0.1, 0.4, 0.2]]).expand(len(pixel_values), 2, 4)
        return SimpleNamespace(logits=logits, pred_boxes=boxes)


class _Found(nn.Module):
    """torchvision's answer, in pixels: a toothbrush, a number that names nothing (12), a person; another picture without any."""

    detections_per_img = 4

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        boxes = torch.tensor([[10.0, 0, 20, 50], [0, 0, 1, 1], [0, 25, 100, 50]]) * images[0].mean()
        detections = {"boxes": boxes, "labels": torch.tensor([90, 12, 1]), "scores": torch.tensor([0.9, 0.8, 0.7])}
        return [detections, {key: x[:0] for key, x in detections.items()}]


def test_cocos_classes_are_eighty_in_order():
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights as Coco

    names = {i: name for i, name in enumerate(Coco.DEFAULT.meta["categories"]) if name not in ("__background__", "N/A")}
    assert dict(zip(COCO_NUMBERS, COCO_NAMES, strict=True)) == names and len(names) == 80


def test_detrs_queries_become_candidates():
    net = Detr(_Queries())
    candidates = net(torch.rand(3, 3, 48, 64))
    assert candidates.shape == (3, 2, 84) and net.num_classes == 80 and not net.suppress
    torch.testing.assert_close(candidates[0, :, :4], torch.tensor([[0.4, 0.3, 0.6, 0.7], [0.7, 0.0, 1.0, 0.2]]))
    torch.testing.assert_close(candidates[0, :, [4, 83]], torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
    assert net.net.seen.shape[-2:] == (800, 1066)


@pytest.mark.parametrize(
    "size, scaled", [((480, 640), [800, 1066]), ((640, 480), [1066, 800]), ((100, 500), [267, 1335]), ((800, 800), [800, 800])]
)
def test_detr_sees_a_smaller_side_of_800_at_most_1333_wide(size, scaled):
    assert _size_of(*size) == scaled


def test_torchvisions_boxes_become_candidates_of_a_fixed_number():
    net = TorchvisionDetector(_Found(), classes=COCO_NUMBERS)
    images = torch.ones(2, 3, 50, 100, requires_grad=True)
    candidates = net(images)
    assert candidates.shape == (2, 4, 84) and not net.suppress
    torch.testing.assert_close(candidates[0, :2, :4], torch.tensor([[0.1, 0.0, 0.2, 1.0], [0.0, 0.5, 1.0, 1.0]]))
    boxes = detect(candidates[0], least_score=0.05, suppress=net.suppress)
    assert boxes.labels.tolist() == [79, 0] and boxes.scores.tolist() == pytest.approx([0.9, 0.7])
    assert not candidates[1].any()
    candidates[0, 0, :4].sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_candidates_without_suppression_are_only_sorted():
    candidates = torch.tensor([[0, 0, 1, 1, 0.6, 0.1], [0, 0, 1, 1, 0.9, 0.2], [0, 0, 1, 1, 0.0, 0.3]])
    assert detect(candidates, least_score=0.5, suppress=False).scores.tolist() == pytest.approx([0.9, 0.6])
    assert detect(candidates, least_score=0.5, suppress=True).scores.tolist() == pytest.approx([0.9])


def test_an_onnx_file_is_a_model_by_its_path(detector):
    net = load_detection_net(str(detector))
    images = torch.rand(2, 3, 40, 72)
    candidates = net(images)
    assert candidates.shape == (2, 16, 7) and net.suppress and net.num_classes == 3
    torch.testing.assert_close(candidates, load_detection_net("fastestdet", weights=detector)(images))
    with pytest.raises(ConfigError, match="no random weights"):
        load_detection_net("fastestdet", random=True)


def test_unknown_names_list_the_choices():
    with pytest.raises(ConfigError, match="no detection model 'yolo': choose one of fastestdet, student, nano.*retinanet"):
        load_detection_net("yolo")


def test_the_student_takes_pictures_of_any_size_and_its_gradient_is_finite_where_a_class_is_impossible():
    torch.manual_seed(0)
    net = load_detection_net("student", random=True).eval()
    with torch.no_grad():
        net.classes[-1].bias[:40] = -1000.0
    images = torch.rand(2, 3, 40, 56, requires_grad=True)
    candidates = net(images)
    assert candidates.shape == (2, 22 * 22, 84) and net.suppress and not candidates[..., 4:44].any()
    assert candidates.min() >= 0 and candidates.max() <= 1 and candidates[..., 44:].any()
    candidates.square().sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all() and images.grad.any()


def test_the_student_is_small_and_comes_with_the_repository():
    net = load_detection_net("student")
    assert net.num_classes == 80 and sum(parameter.numel() for parameter in net.parameters()) < 1_000_000


def test_weights_of_another_kind_are_no_student(tmp_path):
    save_weights(tmp_path / "x.safetensors", Weights("student", {"num_classes": 80}, {"x": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="'student'.*'detection_student'"):
        load_detection_net("student", weights=tmp_path / "x.safetensors")


def test_without_the_assets_the_student_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"picodet are not at .*put PaddleDetection's file there.* task\.model=student"):
        load_detection_net("picodet")
