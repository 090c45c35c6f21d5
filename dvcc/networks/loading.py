"""What the loaders of all tasks share: torchvision's models with their own weights, normalisation, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, NetworkOptions
from dvcc.networks.sources import from_url

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum  # to import it takes two seconds, which most commands have no use for


class Normalise(nn.Module):
    """RGB 0..1 (N, 3, H, W), less the mean, over the standard deviation of every channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


def refuse_random(model: str, random: bool) -> None:
    """Raise `ConfigError` for random weights of a network that only its file describes."""
    if random:
        raise ConfigError(f"{model} is described by its file alone, so it has no random weights: leave random out")


def refuse_options(model: str, options: NetworkOptions | None) -> None:
    """Raise `ConfigError` for options of a network that has its own layout and feed."""
    if options is not None and options.given:
        names = ", ".join(f"task.{name}" for name in options.given)
        raise ConfigError(f"{model} comes with its own layout and preprocessing, so {names} would be ignored: leave that out")


def torchvision_names(family: str, model: str, *, task: str, also: Sequence[str]) -> None:
    """Raise `ConfigError` unless torchvision has `model` in the module `family` (such as torchvision.models.detection)."""
    from torchvision.models import list_models

    models = list_models(module=import_module(family))
    if model not in models:
        raise ConfigError(f"there is no {task} model {model!r}: choose one of {', '.join([*also, *models])}, or an ONNX file")


def load_pretrained(model: str, weights: WeightsEnum) -> nn.Module:
    """Return a torchvision model with weights that torchvision knows, downloaded once. Raises `CheckpointError`."""
    from_url(weights.url).fetch(model)
    return torchvision_model(model, weights=weights)


def torchvision_model(model: str, **settings: Any) -> nn.Module:
    """Return a torchvision model as `torchvision.models.get_model` makes it of the settings."""
    from torchvision.models import get_model

    return get_model(model, **settings)


def another_model(path: str | Path, model: str, reason: str) -> CheckpointError:
    """Return what to raise for a file whose tensors do not fit."""
    reason = " ".join(reason.split())[:200]
    return CheckpointError(f"{path} holds weights of another model than {model} ({reason}): choose its file")


def default_weights(model: str) -> WeightsEnum:
    """Return what torchvision says of a model's best weights."""
    from torchvision.models import get_model_weights

    return get_model_weights(model).DEFAULT
