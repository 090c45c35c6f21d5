"""Networks of the zoo, built. The list itself is `dvcc.networks.zoo`, which needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from dvcc.networks.classification import load_classification_net
from dvcc.networks.detection import load_detection_net
from dvcc.networks.optical_flow import load_flow_net
from dvcc.networks.segmentation import load_segmentation_net
from dvcc.networks.zoo import DEFAULTS, PAPER, ZOO, ZooEntry, ZooTask, zoo_entry

_LOADERS: dict[ZooTask, Callable[..., nn.Module]] = {
    "segmentation": load_segmentation_net,
    "detection": load_detection_net,
    "classification": load_classification_net,
    "optical_flow": load_flow_net,
}


def build(task: ZooTask, name: str, *, weights: str | Path | None = None, random: bool = False) -> nn.Module:
    """Return the zoo's network `name` of a task, frozen and in eval mode.

    weights: a file; None: its own, fetched once. random: random weights instead, for tests. Raises `ConfigError` for an unknown
    name, `CheckpointError` for weights that are missing (it says which file to put where) or do not fit.
    """
    zoo_entry(task, name)
    return _LOADERS[task](name, weights=weights, random=random).eval().requires_grad_(False)


__all__ = ["DEFAULTS", "PAPER", "ZOO", "ZooEntry", "build", "zoo_entry"]
