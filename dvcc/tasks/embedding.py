"""Embeddings of frames, as of re-identification and retrieval, judged by the cosine similarity with the uncoded frame's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from dvcc.networks.embedding import load_embedding_net
from dvcc.networks.exported import asked, prepared
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import refuse_options
from dvcc.networks.onnx_file import PROBE
from dvcc.tasks.base import MeanScore, Task
from dvcc.tasks.metric import Metric


class EmbeddingTask(Task):
    """Embeddings: predictions are features (.., D, h, w) on a grid over the frame.

    The grid is 1x1 of a network that gives one vector; the embedding of a frame is their mean.

    model: "efficientnet_lite0", its features before the classes, a convolutional classifier of timm, or an ONNX file, fed as the
    options say. net: in its place, a module of your own from RGB 0..1 (N, 3, H, W) to (N, D) or (N, D, h, w). Raises what
    `load_embedding_net` does.
    """

    metric_name = "cosine similarity"
    metric_range = (0.7, 0.98)

    def __init__(
        self,
        *,
        model: str = "efficientnet_lite0",
        weights: str | Path | None = None,
        net: nn.Module | None = None,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        if net is not None:
            refuse_options(type(net).__name__, options)
            asked(prepared(net), torch.zeros(1, 3, *PROBE))
        self.net = (net or load_embedding_net(model, weights=weights, options=options)).eval().requires_grad_(False)

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (.., D, h, w)."""
        features = super().predict(frames)
        return features if features.ndim == frames.ndim else features[..., None, None]

    def labels(self, prediction: torch.Tensor) -> torch.Tensor:
        """(.., D): embeddings of length 1."""
        return F.normalize(prediction.detach().mean((-2, -1)), dim=-1)

    def reference(self, labels: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Return the embedding itself in every cell."""
        return labels[..., None, None].expand_as(prediction)

    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, T, h, w): 1 - cosine similarity of a frame, divided among its cells by how far their features have moved."""
        moved = (prediction - reference).square().sum(-3)
        shares = moved / moved.mean((-2, -1), keepdim=True).clamp(min=1e-12)
        return (1 - _similarity(prediction, self.labels(reference))).clamp(min=0)[..., None, None] * shares

    def metrics(self) -> dict[str, Metric]:
        """Return the mean cosine similarity of a frame's embedding with the true one, -1..1."""
        return {self.metric_name: MeanScore(_similarity)}


def _similarity(prediction: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cosine_similarity(prediction.mean((-2, -1)), labels, dim=-1)
