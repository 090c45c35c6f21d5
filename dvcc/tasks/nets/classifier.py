"""Classification networks by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torchvision import models
from torchvision.models import get_model, list_models

from dvcc.errors import ConfigError
from dvcc.tasks.nets.loading import load_pretrained
from dvcc.weights import load_published, load_state

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ClassificationNet(nn.Module):
    """A network from RGB 0..1 (N, 3, H, W) to logits (N, num_classes)."""

    _mean: torch.Tensor
    _std: torch.Tensor

    def __init__(self, net: nn.Module, *, num_classes: int) -> None:
        super().__init__()
        self.net, self.num_classes = net, num_classes
        self.register_buffer("_mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits; ImageNet's normalisation is made here."""
        return self.net((images - self._mean) / self._std)


def load_classification_net(model: str, *, weights: str | Path | None = None, random: bool = False) -> ClassificationNet:
    """Any torchvision classification model of ImageNet's 1000 classes; without `weights`, torchvision's own (downloaded once), or
    random ones. Raises `ConfigError`, `CheckpointError`."""
    known = list_models(module=models)
    if model not in known:
        raise ConfigError(f"there is no classification model {model!r}: choose one of {', '.join(known)}")
    if weights is None and not random:
        return ClassificationNet(load_pretrained(model)[0], num_classes=1000)
    net = get_model(model, weights=None)
    if weights is not None:
        load_state(net, load_published(weights, key="task.weights"), path=weights)
    return ClassificationNet(net, num_classes=1000)
