"""Optical-flow networks by name, with their weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights

from dvcc.errors import ConfigError
from dvcc.networks.flow import FlowNetwork, load_flow
from dvcc.networks.loading import load_pretrained
from dvcc.networks.weights import load_published, load_state
from dvcc.networks.zoo import ZOO, names

_RAFT_LEAST = 128
_KEY = "surrogate.flow_weights=PATH or task.weights"
# The paper's weights. torchvision's default for the large one has seen KITTI and Sintel.
_RAFT_WEIGHTS = {"raft_large": Raft_Large_Weights.C_T_V2, "raft_small": Raft_Small_Weights.C_T_V2}


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


def check_flow_net(model: str) -> None:
    """Raise `ConfigError` for a name that `load_flow_net` does not know."""
    if model not in names("optical_flow"):
        raise ConfigError(f"there is no optical-flow network {model!r}: choose one of {', '.join(names('optical_flow'))}")


def load_flow_net(model: str, *, weights: str | Path | None = None, random: bool = False) -> nn.Module:
    """A frozen optical-flow network from two pictures (N, 3, H, W) 0..1 to the flow (N, 2, H, W) in pixels from the first to the
    second: "ours", torchvision's "raft_small" or "raft_large", or "smurf", RAFT large with weights from a file.

    weights: a file; None: its own. random: random weights instead, for tests. Raises `ConfigError`, `CheckpointError`.
    """
    check_flow_net(model)
    return _load(model, weights, random).eval().requires_grad_(False)


def _load(model: str, weights: str | Path | None, random: bool) -> nn.Module:
    if model == "ours":
        return FlowNetwork() if random else load_flow(weights)
    layout = "raft_large" if model == "smurf" else model
    if random:
        return Raft(get_model(layout, weights=None))
    if weights is None and model in _RAFT_WEIGHTS:
        return Raft(load_pretrained(model, _RAFT_WEIGHTS[model]))
    path = Path(weights or ZOO["optical_flow", model].weights.fetch(model))
    net = get_model(layout, weights=None)
    load_state(net, load_published(path, key=_KEY), path=path)
    return Raft(net)
