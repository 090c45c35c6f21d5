"""A small segmentation network with cheap gradients, distilled from ESPNetv2 (`dvcc.pretraining.student`).

ESPNetv2's encoder looks at the picture at half size, where it costs a quarter and starts from the published
weights; a decoder of few plain convolutions, with a look at the full-size picture for borders, replaces the
pyramids that take half of ESPNetv2's time on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvcc.networks.espnetv2 import ENCODER_CHANNELS, Encoder, ESPNetv2

LEVEL4_UNITS = 4
"""Of ESPNetv2's 7 units at the coarsest level: at half size fewer see the whole picture."""

CONTEXT_CHANNELS = 96
DETAIL_CHANNELS = 48
EDGE_CHANNELS = 24


class StudentSegmenter(nn.Module):
    """Small segmentation network with ESPNetv2's input and output."""

    def __init__(self, *, num_classes: int = 20) -> None:
        super().__init__()
        channels = ENCODER_CHANNELS[2.0]
        self.encoder = Encoder(channels, level4_units=LEVEL4_UNITS)
        self.skips = nn.ModuleList(
            conv_bn(inputs, outputs, kernel_size=1)
            for inputs, outputs in zip(
                channels, (EDGE_CHANNELS, DETAIL_CHANNELS, CONTEXT_CHANNELS, CONTEXT_CHANNELS), strict=True
            )
        )
        self.context = Residual(CONTEXT_CHANNELS)
        self.context_to_detail = conv_bn(CONTEXT_CHANNELS, DETAIL_CHANNELS, kernel_size=1)
        self.detail = Residual(DETAIL_CHANNELS)
        self.detail_to_edges = conv_bn(DETAIL_CHANNELS, EDGE_CHANNELS, kernel_size=1)
        # 4x4 pixels become one position at once: no layer of the decoder works above 1/4.
        self.edges = nn.Sequential(nn.PixelUnshuffle(4), conv_bn(3 * 16, EDGE_CHANNELS, kernel_size=1))
        self.head = nn.Sequential(
            nn.ReLU(),
            conv_bn(EDGE_CHANNELS, EDGE_CHANNELS, kernel_size=3),
            nn.ReLU(),
            nn.Conv2d(EDGE_CHANNELS, num_classes, kernel_size=1),
        )

    def start_from(self, teacher: ESPNetv2) -> None:
        """Copy the encoder of an ESPNetv2 with scale 2.0, less its last units at the coarsest level."""
        names = self.encoder.state_dict()
        self.encoder.load_state_dict({key: teacher.base_net.state_dict()[key] for key in names})

    def forward(self, images: Tensor) -> Tensor:
        """Class scores of every pixel.

        images: (N, 3, H, W) RGB in [0, 1] normalised with ImageNet's mean and std; H and W multiples of 16.
        Returns logits (N, num_classes, H, W).
        """
        return _enlarge(self.quarter_logits(images), factor=4)

    def quarter_logits(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H/4, W/4), before the bilinear enlargement: what distillation compares."""
        levels = self.encoder(F.avg_pool2d(images, 2))
        quarter, eighth, sixteenth, coarse = (skip(features) for skip, features in zip(self.skips, levels, strict=True))
        context = self.context(F.relu(sixteenth + _resize(coarse, sixteenth)))
        detail = self.detail(F.relu(eighth + _resize(self.context_to_detail(context), eighth)))
        return self.head(quarter + self.edges(images) + _resize(self.detail_to_edges(detail), quarter))


class Residual(nn.Module):
    """A plain 3x3 convolution beside the identity, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = conv_bn(channels, channels, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def conv_bn(inputs: int, outputs: int, *, kernel_size: int) -> nn.Sequential:
    """Return a convolution that keeps the size, and batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _enlarge(x: Tensor, *, factor: int) -> Tensor:
    """Bilinear enlargement as two matrix products: on a CPU the gradient of `interpolate` is far slower."""
    rows, columns = (
        F.interpolate(torch.eye(side, dtype=x.dtype, device=x.device)[None], scale_factor=factor, mode="linear")[0]
        for side in x.shape[-2:]
    )
    return rows.mT @ (x @ columns)
