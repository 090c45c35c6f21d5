"""Segmentation and optical-flow networks by name, with their weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from dvcc.errors import CheckpointError, ConfigError
from dvcc.tasks.nets.espnetv2 import ESPNetv2
from dvcc.tasks.nets.flow import load_flow
from dvcc.tasks.nets.student import StudentSegmenter
from dvcc.weights import CHECKPOINTS, load_published, load_state, load_weights

STUDENT_WEIGHTS = CHECKPOINTS / "segmentation_student.safetensors"
FLOW_NETS = ("ours", "raft_small", "raft_large")
_RAFT_LEAST = 128
ESPNETV2_FILE = "models/segmentation/espnetv2_s_2.0_city_1024x512.pth"


class SegmentationNet(nn.Module):
    """A network from ImageNet-normalised RGB (N, 3, H, W) to logits (N, num_classes, H, W)."""

    def __init__(self, net: nn.Module, *, num_classes: int, output: str | None = None) -> None:
        super().__init__()
        self.net, self.num_classes, self._output = net, num_classes, output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits; torchvision's models wrap theirs in a dict."""
        result = self.net(images)
        return result[self._output] if self._output else result


def assets_folder() -> Path:
    """The folder of clips and published networks: `DVCC_ASSETS`, else ../shared/assets beside the checkout."""
    return Path(os.environ.get("DVCC_ASSETS") or Path(__file__).parents[4] / "shared" / "assets")


def load_segmentation_net(model: str, *, weights: str | Path | None = None) -> SegmentationNet:
    """The network `model` with `weights` (None: its own). Raises `ConfigError` or `CheckpointError`."""
    if model == "student":
        return load_student(weights or STUDENT_WEIGHTS)
    if model == "espnetv2":
        return load_espnetv2(weights or assets_folder() / ESPNETV2_FILE)
    return load_torchvision(model, weights=weights)


def load_student(path: str | Path) -> SegmentationNet:
    """Our own small network, from a file written by `train.py student`."""
    stored = load_weights(path, kind="student")
    net = StudentSegmenter(num_classes=stored.config["num_classes"])
    load_state(net, stored.state, path=path)
    return SegmentationNet(net, num_classes=stored.config["num_classes"])


def load_espnetv2(path: str | Path) -> SegmentationNet:
    """ESPNetv2 from a published state dict; width and classes are read from its shapes."""
    state = load_published(path, key="task.weights")
    try:
        num_classes = state["bu_dec_l4.merge_layer.3.weight"].shape[0]
        scale = 2.0 if state["merge_enc_dec_l2.wt_layer.1.weight"].shape[1] == 256 else 1.0
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{path} holds no ESPNetv2 segmentation weights (no {error}): take a file of EdgeNets") from error
    net = ESPNetv2(num_classes=num_classes, scale=scale)
    load_state(net, state, path=path)
    return SegmentationNet(net, num_classes=num_classes)


def load_torchvision(model: str, *, weights: str | Path | None) -> SegmentationNet:
    """Any torchvision segmentation model; without `weights`, torchvision's own (downloaded once)."""
    from torchvision.models import segmentation as family

    known = list_models(module=family)
    if model not in known:
        raise ConfigError(f"there is no segmentation model {model!r}: choose student, espnetv2 or one of {', '.join(known)}")
    if weights is not None:
        state = load_published(weights, key="task.weights")
        num_classes = next((tensor.shape[0] for name, tensor in state.items() if name == "classifier.4.weight"), 21)
        net = get_model(model, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=_has_aux(state))
        load_state(net, state, path=weights)
        return SegmentationNet(net, num_classes=num_classes, output="out")
    net, default = load_pretrained(model)
    return SegmentationNet(net, num_classes=len(default.meta["categories"]), output="out")


def load_flow_net(model: str, *, weights: str | Path | None = None) -> nn.Module:
    """A frozen optical-flow network from two pictures (N, 3, H, W) 0..1 to the flow (N, 2, H, W) in pixels from the first to the
    second: "ours", or torchvision's raft_small or raft_large (None: its own weights). Raises `ConfigError`, `CheckpointError`."""
    if model == "ours":
        return load_flow(weights)
    if model not in FLOW_NETS:
        raise ConfigError(f"there is no optical-flow network {model!r}: choose one of {', '.join(FLOW_NETS)}")
    if weights is None:
        return Raft(load_pretrained(model)[0]).eval().requires_grad_(False)
    net = get_model(model, weights=None)
    load_state(net, load_published(weights, key="surrogate.flow_weights"), path=weights)
    return Raft(net).eval().requires_grad_(False)


def load_pretrained(model: str) -> tuple[nn.Module, WeightsEnum]:
    """A torchvision model with its own weights, downloaded once. Raises `CheckpointError` that says where to put the file."""
    default = get_model_weights(model).DEFAULT
    try:
        return get_model(model, weights=default), default
    except OSError as error:  # URLError is one
        raise CheckpointError(
            f"the weights of {model} could not be downloaded ({error}): put {default.url} at "
            f"{Path(torch.hub.get_dir()) / 'checkpoints' / Path(default.url).name}, or give the path of a file"
        ) from error


class Raft(nn.Module):
    """torchvision's RAFT (Teed and Deng, ECCV 2020) for pictures 0..1 of any size; it wants at least 128, multiples of 8."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The last of its refinements, (N, 2, H, W)."""
        height, width = first.shape[-2:]
        more = [max(_RAFT_LEAST, -(-side // 8) * 8) - side for side in (height, width)]
        padded = [F.pad(2 * x - 1, (0, more[1], 0, more[0]), mode="replicate") for x in (first, second)]
        return self.net(*padded)[-1][..., :height, :width]


def _has_aux(state: Mapping[str, torch.Tensor]) -> bool:
    return any(name.startswith("aux_classifier.") for name in state)
