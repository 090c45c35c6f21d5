"""Optical-flow networks by name, with their weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dvcc.errors import ConfigError
from dvcc.networks.flow import FlowNetwork, load_flow
from dvcc.networks.loading import torchvision_model
from dvcc.networks.weights import load_published
from dvcc.networks.zoo import ZOO, names

_KEY = "surrogate.flow_weights=PATH or task.weights"


def check_flow_net(model: str) -> None:
    """Raise `ConfigError` for a name that `load_flow_net` does not know."""
    if model not in names("optical_flow"):
        raise ConfigError(f"there is no optical-flow network {model!r}: choose one of {', '.join(names('optical_flow'))}")


def load_flow_net(model: str, *, weights: str | Path | None = None, random: bool = False) -> nn.Module:
    """Return a frozen optical-flow network, from two pictures (N, 3, H, W) 0..1 to the flow (N, 2, H, W) in pixels.

    The flow is from the first picture to the second. Names are "ours", "raft_small", "raft_large" and "smurf", each with its
    published weights in any of the layouts of `load_raft`.

    weights: a file; None: its own. random: random weights instead, for tests. Raises `ConfigError`, `CheckpointError`.
    """
    check_flow_net(model)
    return _load(model, weights, random).eval().requires_grad_(False)


def _load(model: str, weights: str | Path | None, random: bool) -> nn.Module:
    if model == "ours":
        return FlowNetwork() if random else load_flow(weights)
    from dvcc.networks.raft import Raft, build_smurf, load_raft  # torchvision: two seconds, which our own has no use for

    if random:
        return Raft(build_smurf() if model == "smurf" else torchvision_model(model, weights=None))
    path = Path(weights or ZOO["optical_flow", model].weights.fetch(model))
    return load_raft(model, load_published(path, key=_KEY), path=path)
