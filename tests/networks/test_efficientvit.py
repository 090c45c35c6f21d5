"""EfficientViT-B0: its attention is what the paper's formula says, its file loads strictly, its labels make sense."""

from __future__ import annotations

import pytest
import torch

from dvcc import read_clip
from dvcc.errors import CheckpointError
from dvcc.networks.efficientvit import Attention, EfficientViT
from dvcc.networks.segmentation import load_segmentation_net
from dvcc.tasks import SegmentationTask


def test_linear_attention_is_attention_with_relu_weights():
    """Every cell is the mean of all values, weighted by relu(q) . relu(k): computed pair by pair."""
    torch.manual_seed(0)
    attention = Attention(16).eval()
    x = torch.randn(2, 16, 3, 4)
    seen = []
    attention.proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    attention(x)
    qkv = attention.qkv(x)
    both = torch.cat([qkv, attention.aggreg[0](qkv)], 1).flatten(2)
    for head in range(2):
        query, key, value = both[:, 48 * head : 48 * head + 48].split(16, 1)
        weights = query.relu().mT @ key.relu()
        expected = (weights @ value.mT / weights.sum(-1, keepdim=True).clamp(min=1e-6)).mT
        torch.testing.assert_close(seen[0][:, 16 * head : 16 * head + 16].flatten(2), expected, rtol=1e-3, atol=1e-4)


def test_features_from_inside_have_their_strides():
    torch.manual_seed(0)
    net = EfficientViT().eval()
    seen = net.see(torch.rand(2, 3, 64, 96))
    shapes = [(width, 64 // stride, 96 // stride) for width, stride in ((16, 4), (32, 8), (64, 16), (128, 32))]
    assert [tuple(x.shape[1:]) for x in seen.backbone] == shapes and seen.logits.shape == (2, 19, 8, 12)
    torch.testing.assert_close(net.head(seen.backbone[1:]), seen.logits)


def test_its_own_file_is_loaded_with_its_classes_and_another_is_named(tmp_path):
    torch.manual_seed(0)
    net = EfficientViT(num_classes=7).eval()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pt")
    loaded = load_segmentation_net("efficientvit_b0", weights=tmp_path / "net.pt").eval()
    images = torch.rand(1, 3, 40, 70, requires_grad=True)
    logits = loaded(images)
    assert loaded.num_classes == 7 and logits.shape == (1, 7, 40, 70)
    logits.square().mean().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert 0.6e6 < sum(parameter.numel() for parameter in net.parameters()) < 0.8e6
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt holds weights of another model than EfficientViT"):
        load_segmentation_net("efficientvit_b0", weights=tmp_path / "other.pt")


def test_a_highway_is_road_trees_sky_and_cars(assets):
    task = SegmentationTask(model="efficientvit_b0", weights=assets / "models/segmentation/efficientvit_b0_cityscapes.pt")
    clip = read_clip(assets / "videos/carnd_test_video.mp4", frames=1, size=(352, 640))
    counts = torch.bincount(task.labels(task.predict(clip.frames)).flatten(), minlength=19)
    shares = counts / counts.sum()
    road, trees, sky, cars = (float(shares[label]) for label in (0, 8, 10, 13))
    assert min(road, trees, sky) > 0.2 and 0.01 < cars < 0.1
