"""Differentiable stand-ins for the codec, behind one contract. A surrogate is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dvcc.errors import ConfigError
from dvcc.networks.stored import taken_from
from dvcc.networks.weights import load_state, load_weights
from dvcc.surrogate.anchored import AnchoredSurrogate
from dvcc.surrogate.base import NUM_QPS, Prediction, Surrogate, mean_qp, one_hot_qp
from dvcc.surrogate.motion import FlowNet
from dvcc.surrogate.network import NetworkSurrogate
from dvcc.surrogate.structured import StructuredSurrogate

SURROGATES: dict[str, Callable[..., Surrogate]] = {
    "anchored": lambda *, qps, gop, **settings: AnchoredSurrogate(qps=tuple(qps), **settings),
    "structured": lambda *, qps, gop, flow_net=None, **settings: StructuredSurrogate(gop=gop, **settings),
    "network": lambda *, qps, gop, **settings: NetworkSurrogate(gop=gop, **settings),
}

_WIDTHS = {"structured": 24}


def default_width(name: str) -> int:
    """Channels of the surrogate `name` where none are asked for."""
    return _WIDTHS.get(name, 48)


def build_surrogate(
    name: str, *, qps: Sequence[int], gop: int, width: int, flow: str = "ours", flow_weights: str | None = None
) -> Surrogate:
    """Return the surrogate `name`: the QPs of its ladder, frames per GOP, channels, and the network that aligns its frames.

    Raises `ConfigError` for an unknown name.
    """
    if name not in SURROGATES:
        raise ConfigError(f"there is no surrogate {name!r}: choose one of {', '.join(SURROGATES)}")
    return SURROGATES[name](qps=qps, gop=gop, width=width, flow_net=FlowNet(flow, flow_weights))


def load_surrogate(path: str | Path) -> tuple[Surrogate, dict[str, Any]]:
    """Return a trained surrogate and its config. Raises `CheckpointError` when the file is damaged or of another kind."""
    stored = load_weights(path, kind="surrogate")
    with taken_from(path):
        surrogate = build_surrogate(**stored.config["surrogate"])
        stored.config["run"]["codec"].items()  # what it imitates
        {*stored.config.get("trained_on", [])}  # names of videos
    load_state(surrogate, stored.state, path=path)
    return surrogate, stored.config


__all__ = [
    "NUM_QPS",
    "SURROGATES",
    "AnchoredSurrogate",
    "Prediction",
    "StructuredSurrogate",
    "Surrogate",
    "build_surrogate",
    "default_width",
    "load_surrogate",
    "mean_qp",
    "one_hot_qp",
]
