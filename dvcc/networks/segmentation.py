"""Segmentation networks by name, with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models import segmentation as family

from dvcc.errors import CheckpointError
from dvcc.networks.espnetv2 import ESPNetv2
from dvcc.networks.fastestdet import is_fastestdet
from dvcc.networks.loading import (
    check_onnx,
    default_weights,
    is_onnx,
    load_onnx,
    load_pretrained,
    misfit,
    refuse_random,
    torchvision_names,
)
from dvcc.networks.mmsegmentation import MMSEGMENTATION_NETS, build_mmsegmentation, load_mmsegmentation
from dvcc.networks.student import StudentSegmenter
from dvcc.networks.weights import load_published, load_state, load_weights
from dvcc.networks.zoo import ZOO, names

_COARSEST = 32  # ESPNetv2 and its student halve the picture five times


class SegmentationNet(nn.Module):
    """A network from ImageNet-normalised RGB (N, 3, H, W) of any size to logits (N, num_classes, H, W).

    multiple: what the network itself needs the sides to be multiples of; other pictures are scaled up, and their logits back.
    """

    def __init__(self, net: nn.Module, *, num_classes: int, output: str | None = None, multiple: int = 1) -> None:
        super().__init__()
        self.net, self.num_classes, self._output, self._multiple = net, num_classes, output, multiple

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits; torchvision's models wrap theirs in a dict."""
        size = images.shape[-2:]
        result = self.net(_resize(images, [-(-side // self._multiple) * self._multiple for side in size]))
        return _resize(result[self._output] if self._output else result, list(size))


def check_segmentation_net(model: str) -> None:
    """Raise `ConfigError` or `CheckpointError` for a name or path that `load_segmentation_net` does not know; nothing is
    loaded."""
    if is_onnx(model):
        check_onnx(model)
    elif model not in names("segmentation"):
        torchvision_names(family, model, task="segmentation", also=names("segmentation"))


def load_segmentation_net(model: str, *, weights: str | Path | None = None, random: bool = False) -> SegmentationNet:
    """The network `model`: "student", "espnetv2", a configuration of MMSegmentation that the zoo has, a segmentation model of
    torchvision, or the path of an ONNX file that gives logits (1, K, h, w).

    weights: a file; None: its own. random: random weights instead, for tests. Raises `ConfigError` or `CheckpointError`.
    """
    check_segmentation_net(model)
    if model == "student":
        return _student(weights, random)
    if model == "espnetv2":
        return _espnetv2(weights, random)
    if model in MMSEGMENTATION_NETS:
        return _mmsegmentation(model, weights, random)
    if is_onnx(model):
        return _onnx(model, random)
    return _torchvision(model, weights, random)


def _student(weights: str | Path | None, random: bool) -> SegmentationNet:
    """Our own small network, from a file written by `train.py student`."""
    if random:
        return SegmentationNet(StudentSegmenter(), num_classes=20, multiple=_COARSEST)
    path = Path(weights or ZOO["segmentation", "student"].weights.fetch("student"))
    stored = load_weights(path, kind="student")
    net = StudentSegmenter(num_classes=stored.config["num_classes"])
    load_state(net, stored.state, path=path)
    return SegmentationNet(net, num_classes=stored.config["num_classes"], multiple=_COARSEST)


def _espnetv2(weights: str | Path | None, random: bool) -> SegmentationNet:
    """ESPNetv2 from a published state dict; width and classes are read from its shapes."""
    if random:
        return SegmentationNet(ESPNetv2(num_classes=20, scale=2.0), num_classes=20, multiple=_COARSEST)
    path = Path(weights or ZOO["segmentation", "espnetv2"].weights.fetch("espnetv2"))
    state = load_published(path, key="task.weights")
    try:
        num_classes = state["bu_dec_l4.merge_layer.3.weight"].shape[0]
        scale = 2.0 if state["merge_enc_dec_l2.wt_layer.1.weight"].shape[1] == 256 else 1.0
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path} holds no ESPNetv2 segmentation weights (no {error}): take a file of EdgeNets") from error
    net = ESPNetv2(num_classes=num_classes, scale=scale)
    load_state(net, state, path=path)
    return SegmentationNet(net, num_classes=num_classes, multiple=_COARSEST)


def _mmsegmentation(model: str, weights: str | Path | None, random: bool) -> SegmentationNet:
    path = None if random else Path(weights or ZOO["segmentation", model].weights.fetch(model))
    net = build_mmsegmentation(model)
    if path:
        load_mmsegmentation(net, path)
    return SegmentationNet(net, num_classes=net.decode_head.conv_seg.out_channels)


def _onnx(path: str, random: bool) -> SegmentationNet:
    refuse_random(path, random)
    net, answers = load_onnx(path)
    needed = "segmentation needs logits of at least 2 classes, as large as the picture or a fixed part of it: [classes, h, w]"
    if len(net.outputs) != 3 or net.outputs[0] < 2 or not 1 <= net.finer <= _COARSEST:
        raise misfit(path, net, needed)
    if is_fastestdet(answers):
        raise misfit(path, net, f"that is FastestDet's layout, boxes and probabilities, and {needed}: choose task=detection")
    return SegmentationNet(net, num_classes=net.outputs[0])


def _torchvision(model: str, weights: str | Path | None, random: bool) -> SegmentationNet:
    """Any torchvision segmentation model; without `weights`, torchvision's own (downloaded once)."""
    default = default_weights(model)
    num_classes = len(default.meta["categories"])
    if weights is None and not random:
        return SegmentationNet(load_pretrained(model, default), num_classes=num_classes, output="out")
    if weights is None:
        net = get_model(model, weights=None, weights_backbone=None, num_classes=num_classes)
        return SegmentationNet(net, num_classes=num_classes, output="out")
    state = load_published(weights, key="task.weights")
    num_classes = next((tensor.shape[0] for name, tensor in state.items() if name == "classifier.4.weight"), num_classes)
    net = get_model(model, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=_has_aux(state))
    load_state(net, state, path=weights)
    return SegmentationNet(net, num_classes=num_classes, output="out")


def _has_aux(state: Mapping[str, torch.Tensor]) -> bool:
    return any(name.startswith("aux_classifier.") for name in state)


def _resize(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    return x if list(x.shape[-2:]) == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
