"""Networks that turn a picture into a vector, or a vector per cell, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dvcc.errors import ConfigError
from dvcc.networks.classification import check_classification_net, load_classification_net

check_embedding_net = check_classification_net


class ClassifierFeatures(nn.Module):
    """What a classifier of timm has before its classes: features (N, D, h, w) of RGB 0..1 (N, 3, H, W) of any size, which are not
    scaled. Raises `ConfigError` for a network without such a grid."""

    def __init__(self, classifier: Any, *, model: str) -> None:
        super().__init__()
        if not hasattr(classifier.net, "forward_features"):
            raise ConfigError(f"{model} does not give its features: choose efficientnet_lite0 or a convolutional network of timm")
        self.net: Any = classifier.net  # timm's
        self.normalise, self._model = classifier.normalise, model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.net.forward_features(self.normalise(images))
        if features.ndim != 4:
            raise ConfigError(f"{self._model} gives features {tuple(features.shape)}, no grid (N, D, h, w): choose another model")
        return features


def load_embedding_net(model: str, *, weights: str | Path | None = None, random: bool = False) -> nn.Module:
    """The features of a classifier: "efficientnet_lite0" or a convolutional network of timm's. Names, weights and errors are
    those of `load_classification_net`."""
    return ClassifierFeatures(load_classification_net(model, weights=weights, random=random), model=model)
