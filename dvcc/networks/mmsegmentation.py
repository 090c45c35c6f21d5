"""DeepLabV3 (Chen et al. 2017) and UPerNet (Xiao et al. 2018) in MMSegmentation's layout, so that its checkpoints load.

The names of the modules are those of its state dicts. What only training needs is left out: the auxiliary head, dropout. The
networks are those of the 769x769 configurations for Cityscapes, whose enlargements all align corners.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvcc.errors import CheckpointError
from dvcc.networks.weights import load_published, load_state

CITYSCAPES_CLASSES = 19

_BLOCKS = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}


class Backbone(nn.Module):
    """ResNetV1c: a ResNet whose first 7x7 convolution is three of 3x3 (He et al. 2019).

    dilated: the last two stages keep the size of the second, 1/8, and dilate instead (d8).
    """

    def __init__(self, depth: int, *, dilated: bool) -> None:
        super().__init__()
        from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

        block = BasicBlock if depth < 50 else Bottleneck
        net = ResNet(block, _BLOCKS[depth])
        self.stem = nn.Sequential(*_conv_bn(3, 32, stride=2), *_conv_bn(32, 32), *_conv_bn(32, 64))
        self.maxpool = net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = [64 * 2**stage * block.expansion for stage in range(4)]
        if dilated:
            _dilate(self.layer3, 2)
            _dilate(self.layer4, 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what the four stages say of images (N, 3, H, W)."""
        x, features = self.maxpool(self.stem(images)), []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class ASPPHead(nn.Module):
    """Atrous spatial pyramid pooling over the last stage."""

    def __init__(self, inputs: list[int], *, channels: int, num_classes: int) -> None:
        super().__init__()
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), _ConvModule(inputs[-1], channels))
        self.aspp_modules = nn.ModuleList(
            [_ConvModule(inputs[-1], channels), *(_ConvModule(inputs[-1], channels, size=3, dilation=d) for d in (12, 24, 36))]
        )
        self.bottleneck = _ConvModule(5 * channels, channels, size=3)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (N, num_classes, h, w) at the size of the last stage."""
        x = features[-1]
        views = [_resize(self.image_pool(x), x), *(module(x) for module in self.aspp_modules)]
        return self.conv_seg(self.bottleneck(torch.cat(views, 1)))


class UPerHead(nn.Module):
    """Pyramid pooling over the last stage, then a feature pyramid over all four."""

    def __init__(self, inputs: list[int], *, channels: int, num_classes: int) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), _ConvModule(inputs[-1], channels)) for bins in (1, 2, 3, 6)
        )
        self.bottleneck = _ConvModule(inputs[-1] + 4 * channels, channels, size=3)
        self.lateral_convs = nn.ModuleList(_ConvModule(c, channels) for c in inputs[:-1])
        self.fpn_convs = nn.ModuleList(_ConvModule(channels, channels, size=3) for _ in inputs[:-1])
        self.fpn_bottleneck = _ConvModule(4 * channels, channels, size=3)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (N, num_classes, h, w) at the size of the first stage, 1/4."""
        coarse = features[-1]
        pooled = [_resize(module(coarse), coarse) for module in self.psp_modules]
        merged = [self.bottleneck(torch.cat([coarse, *pooled], 1))]
        for convolution, feature in zip(reversed(self.lateral_convs), reversed(features[:-1]), strict=True):
            lateral = convolution(feature)
            merged.insert(0, lateral + _resize(merged[0], lateral))
        levels = [conv(x) for conv, x in zip(self.fpn_convs, merged, strict=False)] + merged[-1:]
        return self.conv_seg(self.fpn_bottleneck(torch.cat([_resize(features, levels[0]) for features in levels], 1)))


class EncoderDecoder(nn.Module):
    """Backbone and head; the logits are brought to the size of the picture."""

    def __init__(self, *, depth: int, head: type[ASPPHead | UPerHead], num_classes: int = CITYSCAPES_CLASSES) -> None:
        super().__init__()
        self.backbone = Backbone(depth, dilated=head is ASPPHead)
        self.decode_head = head(self.backbone.channels, channels=128 if depth == 18 else 512, num_classes=num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of ImageNet-normalised RGB (N, 3, H, W) of any size."""
        return _resize(self.decode_head(self.backbone(images)), images)


MMSEGMENTATION_NETS: dict[str, tuple[int, type[ASPPHead | UPerHead]]] = {
    "deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769": (18, ASPPHead),
    "deeplabv3_r50-d8_4xb2-40k_cityscapes-769x769": (50, ASPPHead),
    "deeplabv3_r101-d8_4xb2-40k_cityscapes-769x769": (101, ASPPHead),
    "upernet_r50_4xb2-40k_cityscapes-769x769": (50, UPerHead),
    "upernet_r101_4xb2-40k_cityscapes-769x769": (101, UPerHead),
}
"""Depth and head by the name of MMSegmentation's configuration."""


def build_mmsegmentation(name: str) -> EncoderDecoder:
    """Return a network of the dict above, with random weights."""
    depth, head = MMSEGMENTATION_NETS[name]
    return EncoderDecoder(depth=depth, head=head)


def load_mmsegmentation(net: EncoderDecoder, path: str | Path) -> None:
    """Weights from a checkpoint of MMSegmentation, which has them under "state_dict". Raises `CheckpointError`."""
    stored = load_published(path, key="task.weights")
    state = stored.get("state_dict", stored)
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} holds no state dict of MMSegmentation: take the .pth file of its model zoo")
    load_state(net, {name: x for name, x in state.items() if not name.startswith("auxiliary_head.")}, path=path)


class _ConvModule(nn.Module):
    """Convolution, batch norm, ReLU, under the names that MMCV gives them."""

    def __init__(self, inputs: int, outputs: int, *, size: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2 * dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _conv_bn(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _dilate(stage: Any, rate: int) -> None:
    """Take a stage's stride away and dilate the 3x3 convolution that had it: the first block's by half of what the others have.

    torchvision's own option refuses the blocks of ResNet-18.
    """
    for number, block in enumerate(stage):
        strided: Any = block.conv2 if hasattr(block, "conv3") else block.conv1
        strided.stride = (1, 1)
        strided.dilation = strided.padding = (rate // 2,) * 2 if number == 0 else (rate,) * 2
        if block.downsample is not None:
            block.downsample[0].stride = (1, 1)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
