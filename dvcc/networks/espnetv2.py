"""ESPNetv2 for semantic segmentation, in the variant whose Cityscapes and Pascal VOC weights are published.

Mehta et al., "ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network",
CVPR 2019. Attribute names follow the published state dicts, so that they load with `strict=True`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

ENCODER_CHANNELS: dict[float, list[int]] = {1.0: [32, 64, 128, 256], 2.0: [32, 128, 256, 512]}
"""Channels of encoder levels 1 to 4, by the width `scale`."""

BRANCHES = 4
"""Parallel dilated convolutions of an EESP unit; also the groups of its 1x1 convolutions."""

POOLING_SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
"""Resolutions of the decoder's pyramid, relative to its input."""

DECODER_BASE = 16
"""The decoder's levels have 4, 3 and 2 times this many channels."""


class ESPNetv2(nn.Module):
    """ESPNetv2 encoder with the efficient-pyramid-pooling decoder.

    `num_classes` is 20 for the Cityscapes weights (19 train ids, then background) and 21 for Pascal VOC;
    `scale` is the width, 1.0 or 2.0.
    """

    def __init__(self, *, num_classes: int = 20, scale: float = 2.0) -> None:
        super().__init__()
        if scale not in ENCODER_CHANNELS:
            raise ValueError(f"scale is {scale}; use one of {sorted(ENCODER_CHANNELS)}, which have published weights")
        channels = ENCODER_CHANNELS[scale]
        self.base_net = Encoder(channels)

        branch = min(num_classes // 2, DECODER_BASE)
        widths = [4 * DECODER_BASE, 3 * DECODER_BASE, 2 * DECODER_BASE]
        self.bu_dec_l1 = _PyramidPool(channels[3], branch, widths[0])
        self.bu_dec_l2 = _PyramidPool(widths[0], branch, widths[1])
        self.bu_dec_l3 = _PyramidPool(widths[1], branch, widths[2])
        self.bu_dec_l4 = _PyramidPool(widths[2], branch, num_classes, is_last=True)
        self.merge_enc_dec_l2 = _Skip(channels[2], widths[0])
        self.merge_enc_dec_l3 = _Skip(channels[1], widths[1])
        self.merge_enc_dec_l4 = _Skip(channels[0], widths[2])
        self.bu_br_l2 = _bn_act(widths[0])
        self.bu_br_l3 = _bn_act(widths[1])
        self.bu_br_l4 = _bn_act(widths[2])

    def forward(self, images: Tensor) -> Tensor:
        """Class scores of every pixel.

        images: (N, 3, H, W) RGB in [0, 1] normalised with ImageNet's mean and std; H and W multiples of 32.
        Returns logits (N, num_classes, H, W).
        """
        level1, level2, level3, level4 = self.base_net(images)
        x = self.bu_dec_l1(level4)
        x = self.bu_dec_l2(self.bu_br_l2(self.merge_enc_dec_l2(level3) + _double(x)))
        x = self.bu_dec_l3(self.bu_br_l3(self.merge_enc_dec_l3(level2) + _double(x)))
        x = self.bu_dec_l4(self.bu_br_l4(self.merge_enc_dec_l4(level1) + _double(x)))
        return _resize(x, images.shape[-2:])


class Encoder(nn.Module):
    """(N, 3, H, W) -> features at 1/2, 1/4, 1/8 and 1/16 of the size, with `channels` of them each."""

    def __init__(self, channels: list[int], *, level4_units: int = 7) -> None:
        super().__init__()
        one, two, three, four = channels
        self.level1 = _ConvBNAct(3, one, kernel_size=3, stride=2)
        # The receptive limit of an EESP unit falls with the resolution: 13, 11, 9, 7.
        self.level2_0 = _Downsample(one, two, receptive_limit=13)
        self.level3_0 = _Downsample(two, three, receptive_limit=11)
        self.level3 = nn.ModuleList(_EESP(three, three, receptive_limit=9) for _ in range(3))
        self.level4_0 = _Downsample(three, four, receptive_limit=9)
        self.level4 = nn.ModuleList(_EESP(four, four, receptive_limit=7) for _ in range(level4_units))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        level1 = self.level1(images)
        level2 = self.level2_0(level1, images)
        level3 = self.level3_0(level2, images)
        for unit in self.level3:
            level3 = unit(level3)
        level4 = self.level4_0(level3, images)
        for unit in self.level4:
            level4 = unit(level4)
        return level1, level2, level3, level4


class _EESP(nn.Module):
    """Extremely efficient spatial pyramid: reduce, dilated depthwise branches, merge.

    With stride 1 it is residual and activated; with stride 2 it is the raw half of a `_Downsample`.
    """

    def __init__(self, inputs: int, outputs: int, *, receptive_limit: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        branch = outputs // BRANCHES
        dilations = _dilations(receptive_limit)
        self.proj_1x1 = _ConvBNAct(inputs, branch, kernel_size=1, groups=BRANCHES)
        self.spp_dw = nn.ModuleList(_DilatedDepthwise(branch, stride=stride, dilation=d) for d in dilations)
        self.br_after_cat = _BNAct(outputs)
        self.conv_1x1_exp = _ConvBN(outputs, outputs, groups=BRANCHES)
        self.module_act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        sums = [self.spp_dw[0](reduced)]
        for conv in self.spp_dw[1:]:
            # Cumulative sums remove the gridding that dilated convolutions leave.
            sums.append(sums[-1] + conv(reduced))
        merged = self.conv_1x1_exp(self.br_after_cat(torch.cat(sums, dim=1)))
        return merged if self.stride == 2 else self.module_act(x + merged)


class _Downsample(nn.Module):
    """Halve the resolution: pooled input beside a strided EESP, plus the picture ("input reinforcement")."""

    def __init__(self, inputs: int, outputs: int, *, receptive_limit: int) -> None:
        super().__init__()
        self.eesp = _EESP(inputs, outputs - inputs, receptive_limit=receptive_limit, stride=2)
        self.inp_reinf = nn.Sequential(_ConvBNAct(3, 3, kernel_size=3), _ConvBN(3, outputs))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, images: Tensor) -> Tensor:
        halved = torch.cat([_halve(x), self.eesp(x)], dim=1)
        while images.shape[-1] > halved.shape[-1]:
            images = _halve(images)
        return self.act(halved + self.inp_reinf(images))


class _PyramidPool(nn.Module):
    """Depthwise convolutions at several resolutions of one projection, shuffled together.

    (N, inputs, h, w) -> (N, outputs, h, w); the last one returns raw scores.
    """

    def __init__(self, inputs: int, branch: int, outputs: int, *, is_last: bool = False) -> None:
        super().__init__()
        total = branch * len(POOLING_SCALES)
        self.projection_layer = _CBR(inputs, branch, kernel_size=1)
        self.stages = nn.ModuleList(nn.Conv2d(branch, branch, 3, padding=1, groups=branch, bias=False) for _ in POOLING_SCALES)
        self.merge_layer = nn.Sequential(
            _BR(total),
            _Shuffle(len(POOLING_SCALES)),
            _CBR(total, branch, kernel_size=3, groups=branch),
            nn.Conv2d(branch, outputs, 1, bias=is_last),
        )
        self.br = nn.Identity() if is_last else _BR(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        size = x.shape[-2:]
        pyramid = []
        for scale, stage in zip(POOLING_SCALES, self.stages, strict=True):
            # Below 5 pixels a 3x3 kernel would see little but padding.
            scaled_size = (max(5, math.ceil(size[0] * scale)), max(5, math.ceil(size[1] * scale)))
            if scale > 1:
                pyramid.append(F.adaptive_avg_pool2d(stage(_resize(x, scaled_size)), (size[0], size[1])))
            elif scale < 1:
                pyramid.append(_resize(stage(F.adaptive_avg_pool2d(x, scaled_size)), size))
            else:
                pyramid.append(stage(x))
        return self.br(self.merge_layer(torch.cat(pyramid, dim=1)))


class _Skip(nn.Module):
    """Encoder features for the decoder, channels weighted by the whole picture's average."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid())
        self.expansion_layer = _CBR(inputs, outputs, kernel_size=3, groups=math.gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.expansion_layer(x) * self.wt_layer(x)


class _Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(x, "n (g c) h w -> n (c g) h w", g=self.groups)


class _ConvBN(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class _ConvBNAct(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class _BNAct(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class _DilatedDepthwise(nn.Module):
    def __init__(self, channels: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _CBR(nn.Module):
    """The decoder's spelling of `_ConvBNAct`: its published keys are `cbr.0`, `cbr.1`, `cbr.2`."""

    def __init__(self, inputs: int, outputs: int, *, kernel_size: int, groups: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.cbr = nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.PReLU(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.cbr(x)


class _BR(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.br = _bn_act(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.br(x)


def _bn_act(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def _dilations(receptive_limit: int) -> list[int]:
    """Dilations whose 3x3 kernels span 3, 5, 7, 9 pixels; a span above the limit becomes 3."""
    spans = [3 + 2 * branch for branch in range(BRANCHES)]
    return sorted((span - 1) // 2 if span <= receptive_limit else 1 for span in spans)


def _halve(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=True)


def _double(x: Tensor) -> Tensor:
    return _resize(x, [2 * side for side in x.shape[-2:]])
