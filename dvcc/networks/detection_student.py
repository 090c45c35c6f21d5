"""A small detection network in plain PyTorch, distilled from FastestDet (`dvcc.pretraining.distillation`).

Its trunk has the shape of FastestDet's, a ShuffleNetV2 (Ma et al., 2018), and starts from its published weights, the batch
normalisation folded into the convolutions; neck and heads are our own, of few plain convolutions, and start from nothing.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvcc.networks.detector import DetectionNet
from dvcc.networks.detectors.fastestdet import CLASS_POWER, OBJECTNESS_POWER, place
from dvcc.networks.student import Residual, conv_bn

SIZE = 352
"""Pictures are scaled to a square of this side, as FastestDet's are."""

STEM_CHANNELS = 24
STAGES = ((48, 4), (96, 8), (192, 4))
"""Channels and units of the three stages, at 1/8, 1/16 and 1/32 of the square."""

WIDTH = 96


class StudentDetector(DetectionNet):
    """Small detection network with FastestDet's grid of 22 x 22 cells; the candidates are its cells."""

    def __init__(self, *, num_classes: int = 80) -> None:
        super().__init__(num_classes=num_classes, suppress=True)
        self.trunk = _Trunk()
        self.skips = nn.ModuleList(conv_bn(channels, WIDTH, kernel_size=1) for channels, _ in STAGES)
        self.context = nn.Sequential(*(Residual(WIDTH) for _ in range(3)))
        self.boxes = _head(5)
        self.classes = _head(num_classes)

    def start_from(self, teacher: nn.Module) -> None:
        """Copy the trunk of a FastestDet.

        Its convolutions come first in the file, in the order of ours. Raises `RuntimeError` where they do not fit.
        """
        for i, (convolution, other) in enumerate(zip(_convolutions(self.trunk), _convolutions(teacher), strict=False)):
            assert other.bias is not None
            # FastestDet takes BGR.
            convolution.load_state_dict({"weight": other.weight.flip(1) if i == 0 else other.weight, "bias": other.bias})

    def forward(self, images: Tensor) -> Tensor:
        """Candidates (N, 484, 4 + num_classes), row by row."""
        objectness, box, classes = self.answers(images).split([1, 4, self.num_classes], 1)
        # FastestDet's score by its logarithm: a power of a probability that is 0 has no gradient.
        scores = (OBJECTNESS_POWER * F.logsigmoid(objectness) + CLASS_POWER * classes.log_softmax(1)).exp()
        return torch.cat([place(box, torch), scores.flatten(2).mT], -1)

    def answers(self, images: Tensor) -> Tensor:
        """Return what FastestDet answers, (N, 5 + num_classes, 22, 22), for RGB 0..1 (N, 3, H, W).

        The objectness is that before its sigmoid, the classes are those before their softmax.
        """
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        fine, middle, coarse = (skip(features) for skip, features in zip(self.skips, self.trunk(images), strict=True))
        cells = self.context(F.relu(F.avg_pool2d(fine, 2) + middle + F.interpolate(coarse, scale_factor=2.0)))
        return torch.cat([self.boxes(cells), self.classes(cells)], 1)


class _Trunk(nn.Module):
    """RGB 0..1 (N, 3, 352, 352) to the outputs of the stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1)
        widths = [STEM_CHANNELS, *(channels for channels, _ in STAGES)]
        self.stages = nn.ModuleList(
            nn.Sequential(_Halving(before), *(_Unit(after // 2) for _ in range(units - 1)))
            for (before, after), (_, units) in zip(pairwise(widths), STAGES, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.stem(images)), 3, stride=2, padding=1)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class _Halving(nn.Module):
    """Twice the channels at half the size, from two branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.short = nn.Sequential(_depthwise(channels, stride=2), nn.Conv2d(channels, channels, 1), nn.ReLU())
        self.long = _branch(channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.short(x), self.long(x)], 1)


class _Unit(nn.Module):
    """Every other channel passes, the rest goes through the branch: the shuffle of ShuffleNetV2 at no cost of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.long = _branch(channels, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, ::2], self.long(x[:, 1::2])], 1)


def _head(outputs: int) -> nn.Sequential:
    return nn.Sequential(conv_bn(WIDTH, WIDTH, kernel_size=1), nn.ReLU(), nn.Conv2d(WIDTH, outputs, 1))


def _branch(channels: int, *, stride: int) -> nn.Sequential:
    first, last = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
    return nn.Sequential(first, nn.ReLU(), _depthwise(channels, stride=stride), last, nn.ReLU())


def _depthwise(channels: int, *, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels)


def _convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
