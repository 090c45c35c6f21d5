"""Classification of every frame, judged by top-1 accuracy."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from PIL import Image, ImageDraw
from torch import nn

from dvcc.networks.classification import load_classification_net, own_classifier
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.loading import refuse_options
from dvcc.pixels import as_bytes
from dvcc.tasks.base import SURE, MeanScore, Task
from dvcc.tasks.metric import Metric


class ClassificationTask(Task):
    """Predictions are logits (.., K).

    model: "efficientnet_lite0", or the name of another network (see `dvcc.networks`). net: in its place, a module of your own
    (see `own_classifier`). Raises `ConfigError` for an unknown name or other answers, `CheckpointError` for weights that do not
    fit.
    """

    metric_name = "top-1"
    metric_range = (0.5, 0.97)

    def __init__(
        self,
        *,
        model: str = "efficientnet_lite0",
        weights: str | Path | None = None,
        net: nn.Module | None = None,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        if net is None:
            self.net = load_classification_net(model, weights=weights, options=options)
        else:
            refuse_options(type(net).__name__, options)
            self.net = own_classifier(net)
        self.net.requires_grad_(False).eval()
        self.model = model

    def labels(self, prediction: torch.Tensor) -> torch.Tensor:
        """int64 (..,): the surest class."""
        return prediction.detach().argmax(-1)

    def reference(self, labels: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Logits (.., K) of labels int64 (..,): the loss is then one less the probability of the true class."""
        return torch.zeros_like(prediction).scatter_(-1, labels[..., None], SURE)

    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, T, 1, 1): how much of the class probabilities has moved (total variation distance, 0..1), of the frame as a whole.

        Bounded like the loss of segmentation, for its reasons. A classifier does not say where: the slope at one coded picture
        would, but it is that of the picture's own coding noise, so every macroblock answers alike.
        """
        moved = (prediction.softmax(-1) - reference.softmax(-1)).abs().sum(-1) / 2
        return moved[..., None, None]

    def metrics(self) -> dict[str, Metric]:
        """Share of the frames whose label is the surest class, and is among the five surest."""
        return {f"top-{k}": Accuracy(top_k=k) for k in (1, 5)}

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,): share of the frames with the same surest class."""
        return reduce((self.labels(prediction) == self.labels(reference)).float(), "b ... -> b", "mean")

    def picture(self, frame: torch.Tensor, prediction: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        """Write the surest class and its probability on the frame."""
        pixels = as_bytes(frame)
        probability, label = prediction.softmax(-1).max(-1)
        image = Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy())
        words = f"{_name_of(int(label), len(prediction))} {float(probability):.2f}"
        ImageDraw.Draw(image).text(
            (4, 4), words, fill="white", stroke_fill="black", stroke_width=2, font_size=pixels.shape[1] / 12
        )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Accuracy(MeanScore):
    """Share of the labels, int64 (..,), that are among the `top_k` surest classes of logits (.., K), over a set, in 0..1."""

    def __init__(self, *, top_k: int) -> None:
        super().__init__(partial(_among_surest, top_k))


def _among_surest(top_k: int, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(..,): 1 where the label is one of the surest classes, 0 elsewhere."""
    surest = logits.topk(min(top_k, logits.shape[-1]), dim=-1).indices
    return (surest == labels[..., None]).any(-1).float()


@lru_cache(maxsize=1)
def _imagenet() -> list[str]:
    from torchvision.models import ResNet18_Weights

    return ResNet18_Weights.DEFAULT.meta["categories"]


def _name_of(label: int, num_classes: int) -> str:
    return _imagenet()[label] if num_classes == len(_imagenet()) else f"class {label}"
