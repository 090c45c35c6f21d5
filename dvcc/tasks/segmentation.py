"""Semantic segmentation, judged by mIoU: against the network's own labels on the uncoded clip, or those of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, reduce
from torch import nn
from torch.nn.functional import one_hot

from dvcc.networks.feed import NetworkOptions
from dvcc.networks.segmentation import load_segmentation_net
from dvcc.networks.segmenter import SegmentationNet, own_segmenter
from dvcc.pixels import as_float
from dvcc.tasks.base import SURE, Task, check_rgb
from dvcc.tasks.metric import Metric

IGNORED = 255
"""The label of a pixel that no metric looks at."""

# Cityscapes' customary colours of the 19 train ids, then background.
_PALETTE = torch.tensor(
    [
        *[(128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30)],
        *[(220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142)],
        *[(0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32), (0, 0, 0), (255, 255, 255)],
    ],
    dtype=torch.uint8,
)


class SegmentationTask(Task):
    """Predictions are logits (.., K, H, W).

    model: "student" (ours, no download), "espnetv2" (`weights`: a published .pth), the name of a torchvision segmentation model,
    or the path of an ONNX file. net: a module of your own in its place, from pictures to logits, probabilities or labels.
    options: preprocessing of an ONNX file or of `net`, which can be given as keywords, too: mean=(0, 0, 0). Raises `ConfigError`
    for an unknown name, `CheckpointError` for weights or answers that do not fit.
    """

    metric_name = "mIoU"
    metric_range = (0.5, 0.97)

    def __init__(
        self,
        *,
        model: str = "student",
        weights: str | Path | None = None,
        net: nn.Module | None = None,
        options: NetworkOptions | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        options = NetworkOptions(**settings) if settings else options or NetworkOptions()
        self.net: SegmentationNet
        if net is None:
            self.net = load_segmentation_net(model, weights=weights, options=options)
        else:
            self.net = net if isinstance(net, SegmentationNet) else own_segmenter(net, options=options)
        self.net.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # ESPNetv2: 1.5 times as fast on a CPU
        self.model = model if net is None else type(net).__name__

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Logits (.., K, H, W)."""
        check_rgb(frames, task="segmentation")
        return self.net(rearrange(as_float(frames), "... c h w -> (...) c h w")).unflatten(0, frames.shape[:-3])

    def labels(self, prediction: torch.Tensor) -> torch.Tensor:
        """int64 (.., H, W): the surest class of every pixel."""
        # `max` is three times faster than `argmax` on a CPU.
        return prediction.detach().max(-3).indices

    def reference(self, labels: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Return logits (.., K, H, W) of labels int64 (.., H, W), 255 where nothing is known.

        The degradation is then what the true class's probability lacks.
        """
        labelled = (labels != IGNORED).unsqueeze(-3)
        classes = torch.where(labelled.squeeze(-3), labels, 0).unsqueeze(-3)
        sure = torch.zeros_like(prediction).scatter_(-3, classes, SURE)
        return torch.where(labelled, sure, prediction.detach())

    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return how much of the class probabilities has moved (total variation distance, 0..1), (B, .., H, W).

        Times the pixel's weight (1 on average).

        A pixel weighs the inverse square root of how many have its label in the reference: the metric averages over classes,
        and a plain mean would let rare ones go for the road. Why not cross-entropy: it is unbounded, so a few pixels decide
        it. Over encodes of nearly the same map it says the same less often, and it predicts mIoU worse.
        """
        labels = self.labels(reference)
        moved = (prediction.softmax(-3) - reference.softmax(-3)).abs().sum(-3) / 2
        flat = rearrange(labels, "b ... -> b (...)")
        pixels = moved.new_zeros(len(flat), reference.shape[-3])
        pixels = pixels.scatter_add(1, flat, torch.ones_like(flat, dtype=moved.dtype))
        weights = pixels.clamp(min=1).rsqrt().gather(1, flat)
        return moved * (weights / weights.mean(1, keepdim=True)).view_as(moved)

    def metrics(self) -> dict[str, Metric]:
        """mIoU over the classes present in the labels of everything it is updated with."""
        return {self.metric_name: MeanIoU(self.net.num_classes)}

    def metrics_of_labels(self, classes: Sequence[int] | None = None) -> dict[str, Metric]:
        """mIoU over the labels' classes, to which those of the network are merged."""
        return self.metrics() if classes is None else {self.metric_name: MergedMeanIoU(classes)}

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,): share of pixels with the same arg-max."""
        same = self.labels(prediction) == self.labels(reference)
        return reduce(same.float(), "b ... -> b", "mean")

    def picture(self, frame: torch.Tensor, prediction: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        """Class colours, half over the frame."""
        colours = rearrange(_PALETTE[prediction.argmax(0).cpu() % len(_PALETTE)], "h w c -> c h w")
        grey = as_float(frame).cpu().mean(0, keepdim=True) * 255
        return (0.35 * grey + 0.65 * colours).round().to(torch.uint8)


class MeanIoU(Metric):
    """mIoU summed over a set, over the classes that its labels contain.

    Not over classes that only a prediction contains: one stray pixel of a class that is nowhere in the set would move the
    figure.
    """

    confmat: torch.Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("confmat", torch.zeros(num_classes, num_classes, dtype=torch.int64))

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:
        """prediction: logits (.., K, H, W); labels: int64 (.., H, W), 255 where a pixel is not looked at."""
        pairs = (labels * self.num_classes + prediction.max(-3).indices).masked_fill_(labels == IGNORED, self.num_classes**2)
        counts = torch.bincount(pairs.flatten(), minlength=self.num_classes**2 + 1)
        self.confmat += counts[:-1].view_as(self.confmat)

    def compute(self) -> torch.Tensor:
        """Scalar in 0..1."""
        matrix = self.confmat.double()
        hits, in_labels = matrix.diagonal(), matrix.sum(1)
        union = in_labels + matrix.sum(0) - hits
        return (hits / union.clamp(min=1))[in_labels > 0].mean()


class MergedMeanIoU(MeanIoU):
    """mIoU of a network whose classes are merged to those of the labels.

    classes: the label of each of the network's classes, -1 for a class that the labels do not have, which is then always wrong.
    Labels that no class of the network means are ignored.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        super().__init__(max(classes) + 2)  # the last one for predictions that are none of the labels
        none = self.num_classes - 1
        self._merged = torch.tensor([none if label < 0 else label for label in classes])
        self._known = torch.zeros(IGNORED + 1, dtype=torch.bool)
        self._known[[label for label in classes if label >= 0]] = True

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:
        """prediction: logits (.., K, H, W) of the network's classes; labels: int64 (.., H, W) of the data set."""
        merged = self._merged.to(labels.device)[prediction.max(-3).indices]
        labels = torch.where(self._known.to(labels.device)[labels], labels, IGNORED)
        super().update(one_hot(merged, self.num_classes).movedim(-1, -3), labels)
