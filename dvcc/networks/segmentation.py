"""Segmentation networks by name, with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dvcc.errors import CheckpointError
from dvcc.networks.efficientvit import EfficientViT
from dvcc.networks.espnetv2 import ESPNetv2
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import (
    default_weights,
    load_pretrained,
    refuse_options,
    refuse_random,
    torchvision_model,
    torchvision_names,
)
from dvcc.networks.mmsegmentation import MMSEGMENTATION_NETS, build_mmsegmentation, load_mmsegmentation
from dvcc.networks.onnx_file import OnnxFile, check_onnx, is_onnx
from dvcc.networks.segmenter import SegmentationNet, onnx_segmenter
from dvcc.networks.stored import taken_from
from dvcc.networks.student import StudentSegmenter
from dvcc.networks.weights import load_published, load_state, load_weights
from dvcc.networks.zoo import ZOO, names

_ESPNETS = {"espnetv2": 2.0, "espnetv2_s1": 1.0}  # width
_COARSEST = 32  # ESPNetv2 and its student halve the picture five times


def check_segmentation_net(model: str) -> None:
    """Raise an error for a name or path that `load_segmentation_net` does not know; nothing is loaded.

    `ConfigError`, or `CheckpointError` for a file.
    """
    if is_onnx(model):
        check_onnx(model)
    elif model not in names("segmentation"):
        torchvision_names("torchvision.models.segmentation", model, task="segmentation", also=names("segmentation"))


def load_segmentation_net(
    model: str, *, weights: str | Path | None = None, random: bool = False, options: NetworkOptions | None = None
) -> SegmentationNet:
    """Return the network `model`, by its name or the path of an ONNX file that gives logits, probabilities or labels.

    Names are "student", "espnetv2", "espnetv2_s1", "efficientvit_b0", "deeplab_257", a configuration of MMSegmentation that the
    zoo has, and a segmentation model of torchvision.

    weights: a file; None: its own. random: random weights instead, for tests. options: of an ONNX file.
    Raises `ConfigError` or `CheckpointError`.
    """
    check_segmentation_net(model)
    entry = ZOO.get(("segmentation", model))
    if is_onnx(model) or (entry and entry.is_onnx):
        refuse_random(model, random)
        options = options or NetworkOptions()
        path = weights or (entry.weights.fetch(model) if entry else model)
        return onnx_segmenter(OnnxFile(path), options=options.over(entry.options) if entry else options)
    refuse_options(model, options)
    if model == "student":
        return _student(weights, random)
    if model in _ESPNETS:
        return _espnetv2(model, weights, random)
    if model == "efficientvit_b0":
        return _efficientvit(weights, random)
    if model in MMSEGMENTATION_NETS:
        return _mmsegmentation(model, weights, random)
    return _torchvision(model, weights, random)


def _student(weights: str | Path | None, random: bool) -> SegmentationNet:
    """Our own small network, from a file written by `train.py student`."""
    if random:
        return SegmentationNet(StudentSegmenter(), num_classes=20, multiple=_COARSEST)
    path = Path(weights or ZOO["segmentation", "student"].weights.fetch("student"))
    stored = load_weights(path, kind="student")
    with taken_from(path):
        net = StudentSegmenter(num_classes=stored.config["num_classes"])
    load_state(net, stored.state, path=path)
    return SegmentationNet(net, num_classes=stored.config["num_classes"], multiple=_COARSEST)


def _espnetv2(model: str, weights: str | Path | None, random: bool) -> SegmentationNet:
    """ESPNetv2 from a published state dict; width and classes are read from its shapes."""
    if random:
        return SegmentationNet(ESPNetv2(num_classes=20, scale=_ESPNETS[model]), num_classes=20, multiple=_COARSEST)
    path = Path(weights or ZOO["segmentation", model].weights.fetch(model))
    state = load_published(path, key="task.weights")
    try:
        num_classes = state["bu_dec_l4.merge_layer.3.weight"].shape[0]
        scale = 2.0 if state["merge_enc_dec_l2.wt_layer.1.weight"].shape[1] == 256 else 1.0
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path} holds no ESPNetv2 segmentation weights (no {error}): take a file of EdgeNets") from error
    net = ESPNetv2(num_classes=num_classes, scale=scale)
    load_state(net, state, path=path)
    return SegmentationNet(net, num_classes=num_classes, multiple=_COARSEST)


def _efficientvit(weights: str | Path | None, random: bool) -> SegmentationNet:
    """EfficientViT-B0 from its published state dict; how many classes there are is read from its last layer."""
    if random:
        return SegmentationNet(EfficientViT(), num_classes=19, multiple=_COARSEST)
    path = Path(weights or ZOO["segmentation", "efficientvit_b0"].weights.fetch("efficientvit_b0"))
    state = load_published(path, key="task.weights")
    inner: Any = state.get("state_dict", state)
    last = inner.get("head.output_ops.0.op_list.1.conv.weight")
    net = EfficientViT(num_classes=19 if last is None else len(last))
    load_state(net, inner, path=path)
    return SegmentationNet(net, num_classes=19 if last is None else len(last), multiple=_COARSEST)


def _mmsegmentation(model: str, weights: str | Path | None, random: bool) -> SegmentationNet:
    path = None if random else Path(weights or ZOO["segmentation", model].weights.fetch(model))
    net = build_mmsegmentation(model)
    if path:
        load_mmsegmentation(net, path)
    return SegmentationNet(net, num_classes=net.decode_head.conv_seg.out_channels)


def _torchvision(model: str, weights: str | Path | None, random: bool) -> SegmentationNet:
    """Any torchvision segmentation model; without `weights`, torchvision's own (downloaded once)."""
    default = default_weights(model)
    num_classes = len(default.meta["categories"])
    if weights is None and not random:
        return SegmentationNet(load_pretrained(model, default), num_classes=num_classes)
    if weights is None:
        net = torchvision_model(model, weights=None, weights_backbone=None, num_classes=num_classes)
        return SegmentationNet(net, num_classes=num_classes)
    state = load_published(weights, key="task.weights")
    num_classes = next((tensor.shape[0] for name, tensor in state.items() if name == "classifier.4.weight"), num_classes)
    net = torchvision_model(model, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=_has_aux(state))
    load_state(net, state, path=weights)
    return SegmentationNet(net, num_classes=num_classes)


def _has_aux(state: Mapping[str, torch.Tensor]) -> bool:
    return any(name.startswith("aux_classifier.") for name in state)
