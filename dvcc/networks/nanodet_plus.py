"""NanoDet-Plus-m as a torch module: ShuffleNetV2 1.0x, a Ghost path aggregation network, and a head of generalised focal loss.

Its weights are those of the published ONNX file, whose batch norms are already part of the convolutions. The answers are decoded
by `dvcc.networks.detectors.gfl.Nanodet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvcc.errors import CheckpointError
from dvcc.networks.onnx_file import check_onnx, first_line

CLASSES, BINS = 80, 8  # of COCO; of a side's distribution
BACKBONE_WIDTHS, NECK_WIDTH = (116, 232, 464), 96
BACKBONE_STRIDES, NECK_STRIDES = (8, 16, 32), (8, 16, 32, 64)
_STEM, _UNITS = 24, (4, 8, 4)  # channels; ShuffleNet units of every stage
_SLOPE = 0.1  # of LeakyReLU below 0


class Seen(NamedTuple):
    """What the network makes of N pictures.

    backbone: (N, 116, 232, 464 channels, ..) at strides 8, 16, 32; neck: 96 channels each at strides 8, 16, 32, 64; answers: (N,
    cells, 112), scores 0..1 of 80 classes and the logits of 4 sides x 8 bins, cells row by row, stride by stride.
    """

    backbone: list[Tensor]
    neck: list[Tensor]
    answers: Tensor


class NanoDetPlus(nn.Module):
    """BGR pictures (N, 3, H, W) as `Nanodet.feed` normalises them, sides in multiples of 32, to answers (N, cells, 112)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = _Backbone(), _Neck(), _Head()

    def forward(self, images: Tensor) -> Tensor:
        """Return the answers of `see`."""
        return self.see(images).answers

    def see(self, images: Tensor) -> Seen:
        """Return the answers, and what they are made of."""
        backbone = self.backbone(images)
        neck = self.neck(backbone)
        return Seen(backbone, neck, self.head(neck))

    @classmethod
    def from_onnx(cls, path: str | Path) -> NanoDetPlus:
        """Return the network with the weights of an ONNX file, whose convolutions come in the order of these modules.

        Raises `CheckpointError` for a file that is missing or damaged, or whose convolutions are others.
        """
        net = cls()
        theirs = _convolutions(path)
        ours = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d)]
        if len(theirs) != len(ours):
            raise CheckpointError(
                f"{path} has {len(theirs)} convolutions, but NanoDet-Plus-m has {len(ours)}: give nanodet_plus_m_416.onnx"
            )
        for (name, conv), node in zip(ours, theirs, strict=True):
            wanted = (tuple(conv.weight.shape), conv.stride, conv.padding, conv.groups)
            stored = (tuple(node.weight.shape), node.stride, node.padding, node.groups)
            if stored != wanted:
                raise CheckpointError(
                    f"{path} is another network than NanoDet-Plus-m: its convolution {node.name!r} has shape, stride, padding "
                    f"and groups {stored}, but {name} has {wanted}: give nanodet_plus_m_416.onnx"
                )
            assert conv.bias is not None
            conv.weight.data.copy_(node.weight)
            conv.bias.data.copy_(node.bias)
        return net.eval().requires_grad_(False)


def _conv(before: int, after: int, kernel: int, *, stride: int = 1, act: bool = True, depthwise: bool = False) -> nn.Module:
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=before if depthwise else 1)
    return nn.Sequential(conv, nn.LeakyReLU(_SLOPE)) if act else conv


def _separable(width: int, *, stride: int = 1) -> nn.Sequential:
    """Depthwise 5x5, then 1x1."""
    return nn.Sequential(_conv(width, width, 5, stride=stride, depthwise=True), _conv(width, width, 1))


class _Backbone(nn.Module):
    """ShuffleNetV2: outputs at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, _STEM, 3, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
        before, stages = _STEM, []
        for width, count in zip(BACKBONE_WIDTHS, _UNITS, strict=True):
            stages.append(nn.Sequential(_Down(before, width), *(_Unit(width) for _ in range(count - 1))))
            before = width
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, outputs = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


def _shuffled(x: Tensor) -> Tensor:
    """Take the channels of both halves in turn."""
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class _Down(nn.Module):
    """Halves the picture; both branches see all channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.near = nn.Sequential(
            _conv(before, before, 3, stride=2, act=False, depthwise=True),
            _conv(before, half, 1),
        )
        self.far = nn.Sequential(
            _conv(before, half, 1),
            _conv(half, half, 3, stride=2, act=False, depthwise=True),
            _conv(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(torch.cat([self.near(x), self.far(x)], 1))


class _Unit(nn.Module):
    """Changes half of the channels, and shuffles."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(_conv(half, half, 1), _conv(half, half, 3, act=False, depthwise=True), _conv(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        return _shuffled(torch.cat([kept, self.branch(changed)], 1))


class _Neck(nn.Module):
    """GhostPAN: the coarse features go down to the fine ones and up again; one more scale on top."""

    def __init__(self) -> None:
        super().__init__()
        width = NECK_WIDTH
        self.reduce = nn.ModuleList(_conv(before, width, 1) for before in BACKBONE_WIDTHS)
        self.down = nn.ModuleList(_GhostBottleneck(2 * width, width) for _ in range(2))
        self.up = nn.ModuleList(_Up(width) for _ in range(2))
        self.extra_of_reduced, self.extra_of_coarsest = _separable(width, stride=2), _separable(width, stride=2)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (reduce(x) for reduce, x in zip(self.reduce, features, strict=True))
        middle = self.down[0](torch.cat([_doubled(coarse), middle], 1))
        outputs = [self.down[1](torch.cat([_doubled(middle), fine], 1))]
        for up, x in zip(self.up, (middle, coarse), strict=True):
            outputs.append(up(outputs[-1], x))
        return [*outputs, self.extra_of_reduced(coarse) + self.extra_of_coarsest(outputs[-1])]


class _Up(nn.Module):
    """A finer scale's features, halved, joined with those of a scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.halve, self.block = _separable(width, stride=2), _GhostBottleneck(2 * width, width)

    def forward(self, finer: Tensor, x: Tensor) -> Tensor:
        return self.block(torch.cat([self.halve(finer), x], 1))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class _Ghost(nn.Module):
    """Half of the channels from a 1x1 convolution, half from a depthwise one of these."""

    def __init__(self, before: int, after: int, *, act: bool) -> None:
        super().__init__()
        half = after // 2
        self.primary, self.cheap = _conv(before, half, 1, act=act), _conv(half, half, 3, act=act, depthwise=True)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], 1)


class _GhostBottleneck(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.ghosts = nn.Sequential(_Ghost(before, after, act=True), _Ghost(after, after, act=False))
        self.shortcut = nn.Sequential(_conv(before, before, 5, act=False, depthwise=True), _conv(before, after, 1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.ghosts(x) + self.shortcut(x)


class _Head(nn.Module):
    """Scores and sides of every cell; each scale has weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        width, answers = NECK_WIDTH, CLASSES + 4 * BINS
        self.scales = nn.ModuleList(
            nn.Sequential(_separable(width), _separable(width), _conv(width, answers, 1, act=False)) for _ in NECK_STRIDES
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        rows = torch.cat([scale(x).flatten(2) for scale, x in zip(self.scales, features, strict=True)], 2).mT
        return torch.cat([rows[..., :CLASSES].sigmoid(), rows[..., CLASSES:]], 2)


class _Convolution(NamedTuple):
    """A convolution of an ONNX file, square and evenly padded."""

    name: str
    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int


def _convolutions(path: str | Path) -> list[_Convolution]:
    """Return the convolutions of an ONNX file in their order. Raises `CheckpointError`."""
    import onnx  # slow to import, and needed for loading alone
    from onnx import numpy_helper

    check_onnx(path)
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's and onnx's own
        raise CheckpointError(f"{path} is no whole ONNX file ({first_line(error)}): copy it again") from error
    stored = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        attributes: dict[str, Any] = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if any(name not in stored for name in node.input[1:]) or len(node.input) != 3:
            raise CheckpointError(f"{path}: the convolution {node.output[0]!r} has no stored weights and bias: export it again")
        weight, bias = (torch.from_numpy(numpy_helper.to_array(stored[name]).copy()) for name in node.input[1:])
        geometry = tuple(attributes.get("strides", (1, 1))), tuple(attributes.get("pads", (0, 0)))[:2], attributes.get("group", 1)
        convolutions.append(_Convolution(node.output[0], weight, bias, *geometry))
    return convolutions
