"""Networks that turn a picture into a vector, or a vector per cell, by name or from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.classification import check_classification_net, load_classification_net
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions
from dvcc.networks.loading import refuse_options, refuse_random
from dvcc.networks.onnx_file import PROBE, OnnxFile, is_onnx, probe_pictures, shape_words
from dvcc.networks.onnx_torch import OnnxModule

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


class OnnxEmbedding(nn.Module):
    """The network of an ONNX file that answers a vector [N, D], or one per cell [N, D, h, w], as re-identification and faces
    have; fed as ImageNet's networks are unless the options say otherwise. Raises `CheckpointError` for other answers."""

    def __init__(self, file: OnnxFile, *, options: NetworkOptions) -> None:
        super().__init__()
        self._file, self._options = file, options
        self._feed = file.feed(Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD, padding=0.0)).changed(options)
        canvas = file.canvas(PROBE, options, multiple=1)
        canvases = self._feed.place(probe_pictures(canvas), canvas, self._feed.placement(canvas, canvas), np)
        answers = file.probe(canvases)
        vectors = [value for value in answers if value.ndim in (2, 4) and value.dtype.kind == "f" and value.shape[1] > 1]
        if not vectors:
            shapes = " and ".join(shape_words(value.shape[1:]) for value in answers)
            raise CheckpointError(
                f"{file.path} gives {shapes} for a picture of {canvas[0]}x{canvas[1]}, but an embedding needs [D] or [D, h, w]"
            )
        # A network that answers its grid and its vector is judged by the vector.
        vector = min(vectors, key=lambda value: value.ndim)
        self._output = next(i for i, value in enumerate(answers) if value is vector)
        self.net = OnnxModule(file, canvases=canvases, read=lambda given, _: given[self._output])

    @property
    def words(self) -> str:
        """For a report."""
        return self._feed.words()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors (N, D) or (N, D, h, w) of RGB 0..1 (N, 3, H, W)."""
        size = images.shape[-2], images.shape[-1]
        canvas = self._file.canvas(size, self._options, multiple=1)
        return self.net(self._feed.place(images, canvas, self._feed.placement(size, canvas), torch))[self._output]


def load_embedding_net(
    model: str, *, weights: str | Path | None = None, random: bool = False, options: NetworkOptions | None = None
) -> nn.Module:
    """Return an ONNX file, or the features of a classifier: "efficientnet_lite0" or a convolutional network of timm's. Names,
    weights and errors are those of `load_classification_net`. options: of an ONNX file."""
    if is_onnx(model):
        refuse_random(model, random)
        check_embedding_net(model)
        return OnnxEmbedding(OnnxFile(model), options=options or NetworkOptions())
    refuse_options(model, options)
    return ClassifierFeatures(load_classification_net(model, weights=weights, random=random), model=model)
