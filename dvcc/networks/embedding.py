"""Networks that turn a picture into a vector, or a vector per cell, by name or from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.classification import check_classification_net, load_classification_net
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import refuse_options, refuse_random
from dvcc.networks.onnx_file import OnnxFile, is_onnx
from dvcc.networks.onnx_pictures import OnnxPictureNet
from dvcc.networks.onnx_torch import OnnxModule

check_embedding_net = check_classification_net


class ClassifierFeatures(nn.Module):
    """What a classifier of timm has before its classes: features (N, D, h, w) of RGB 0..1 (N, 3, H, W).

    Pictures of any size are not scaled. Raises `ConfigError` for a network without such a grid.
    """

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


class OnnxEmbedding(OnnxPictureNet):
    """The network of an ONNX file that answers a vector [N, D], or one per cell [N, D, h, w].

    Re-identification and faces have such vectors. Raises `CheckpointError` for other answers.
    """

    def __init__(self, file: OnnxFile, *, options: NetworkOptions) -> None:
        super().__init__(file, options=options)
        canvases = self.probe_canvases()
        answers = file.probe(canvases)
        vectors = [value for value in answers if value.ndim in (2, 4) and value.dtype.kind == "f" and value.shape[1] > 1]
        if not vectors:
            raise CheckpointError(f"{self.what_it_gives(answers)}, but an embedding needs [D] or [D, h, w]")
        # A network that answers its grid and its vector is judged by the vector.
        vector = min(vectors, key=lambda value: value.ndim)
        self._output = next(i for i, value in enumerate(answers) if value is vector)
        self.net = OnnxModule(file, canvases=canvases, read=lambda given, _: given[self._output])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return vectors (N, D) or (N, D, h, w) of RGB 0..1 (N, 3, H, W)."""
        return self.answers(images)[self._output]


def load_embedding_net(
    model: str, *, weights: str | Path | None = None, random: bool = False, options: NetworkOptions | None = None
) -> nn.Module:
    """Return an ONNX file, or the features of a classifier: "efficientnet_lite0" or a convolutional network of timm's.

    Names, weights and errors are those of `load_classification_net`. options: of an ONNX file.
    """
    if is_onnx(model):
        refuse_random(model, random)
        check_embedding_net(model)
        return OnnxEmbedding(OnnxFile(model), options=options or NetworkOptions())
    refuse_options(model, options)
    return ClassifierFeatures(load_classification_net(model, weights=weights, random=random), model=model)
