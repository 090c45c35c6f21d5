"""EfficientViT-B0 for segmentation, in the names of its published weights.

Cai et al., "EfficientViT: Multi-Scale Linear Attention", ICCV 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

_STEM, WIDTHS = 8, (16, 32, 64, 128)
_EXPANSION, _HEAD_WIDTH, HEAD_DIM = 4, 32, 16  # of an inverted bottleneck; of the decoder; of an attention head
EPSILON = 1e-6


class Seen(NamedTuple):
    """What the network makes of N pictures.

    backbone: (N, 16, 32, 64, 128 channels, ..) at strides 4, 8, 16, 32; logits: (N, num_classes, H / 8, W / 8).
    """

    backbone: list[Tensor]
    logits: Tensor


class EfficientViT(nn.Module):
    """ImageNet-normalised RGB (N, 3, H, W), sides in multiples of 32, to logits (N, num_classes, H / 8, W / 8)."""

    def __init__(self, *, num_classes: int = 19) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone, self.head = _Backbone(), _Decoder(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.see(images).logits

    def see(self, images: Tensor) -> Seen:
        """Return the logits, and what they are made of."""
        backbone = self.backbone(images)
        return Seen(backbone, self.head(backbone[1:]))


class _Backbone(nn.Module):
    """Outputs of the four stages, at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        stem = _Separable(_STEM)
        self.input_stem = Ops([Conv(3, _STEM, 3, stride=2, act=True), Residual(stem)])
        widths = (_STEM, *WIDTHS)
        self.stages = nn.ModuleList(
            Ops(
                [Plain(_Inverted(before, after, stride=2, normed=i < 2)), Residual(_Inverted(after, after, normed=True))]
                if i < 2
                else [Plain(_Inverted(before, after, stride=2, normed=False)), *(Attentive(after) for _ in range(2))]
            )
            for i, (before, after) in enumerate(pairwise(widths))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x, outputs = self.input_stem(images), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class _Decoder(nn.Module):
    """Stages at 1/8, 1/16 and 1/32, summed at 1/8, to logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS[1:]
        self.input_ops = nn.ModuleList(
            [Ops([Conv(coarse, _HEAD_WIDTH, 1)]), Ops([Conv(middle, _HEAD_WIDTH, 1)]), Conv(fine, _HEAD_WIDTH, 1)]
        )
        self.middle = Ops([Residual(_Inverted(_HEAD_WIDTH, _HEAD_WIDTH, normed=True))])
        wide = _EXPANSION * _HEAD_WIDTH
        last = Conv(wide, num_classes, 1, normed=False, bias=True)
        self.output_ops = nn.ModuleList([Ops([Conv(_HEAD_WIDTH, wide, 1, act=True), last])])

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        fine = self.input_ops[2](stages[0])
        for op, stage in zip(self.input_ops, (stages[2], stages[1]), strict=False):
            fine = fine + F.interpolate(op(stage), fine.shape[-2:], mode="bicubic", align_corners=False)
        return self.output_ops[0](self.middle(fine))


class Ops(nn.Module):
    """One after another, under the name `op_list` of the published weights."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.op_list:
            x = part(x)
        return x


class Conv(nn.Module):
    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        normed: bool = True,
        bias: bool = False,
        act: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(after) if normed else None
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return F.hardswish(x) if self.act else x


class Plain(nn.Module):
    """A block under the name `main`."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class Residual(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class _Separable(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth_conv = Conv(width, width, 3, groups=width, act=True)
        self.point_conv = Conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(x))


class _Inverted(nn.Module):
    """Wider, depthwise, narrow again. normed: batch norm after every convolution, or a bias before the last alone."""

    def __init__(self, before: int, after: int, *, stride: int = 1, normed: bool) -> None:
        super().__init__()
        wide = _EXPANSION * before
        self.inverted_conv = Conv(before, wide, 1, normed=normed, bias=not normed, act=True)
        self.depth_conv = Conv(wide, wide, 3, stride=stride, groups=wide, normed=normed, bias=not normed, act=True)
        self.point_conv = Conv(wide, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class Attentive(nn.Module):
    """Attention for what is far, an inverted bottleneck for what is near."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.context_module = Residual(Attention(width))
        self.local_module = Residual(_Inverted(width, width, normed=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


class Attention(nn.Module):
    """Linear attention with ReLU as its kernel, at two scales: cells, and neighbourhoods of 5x5 of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        three, self.num_heads = 3 * width, 2 * width // HEAD_DIM
        self.qkv = Conv(width, three, 1, normed=False)
        around = nn.Conv2d(three, three, 5, padding=2, groups=three, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(around, nn.Conv2d(three, three, 1, groups=three // HEAD_DIM, bias=False))])
        self.proj = Conv(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        both = torch.cat([qkv, self.aggreg[0](qkv)], 1)
        query, key, value = rearrange(both, "n (heads three d) h w -> three n heads d (h w)", three=3, d=HEAD_DIM)
        query, key = query.relu(), key.relu()
        value = F.pad(value, (0, 0, 0, 1), value=1.0)  # its last row collects the weights
        mixed = value @ key.mT @ query
        mixed = mixed[..., :-1, :] / (mixed[..., -1:, :] + EPSILON)
        return self.proj(rearrange(mixed, "n heads d (h w) -> n (heads d) h w", h=x.shape[-2]))
