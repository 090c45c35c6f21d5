"""A small coarse-to-fine optical flow network in the manner of PWC-Net (Sun et al. 2018), trained by `dvcc.pretraining.flow`.

One decoder serves all levels: what it learns about small residual motion holds at every scale, and weights are few.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dvcc.networks.sources import CHECKPOINTS
from dvcc.networks.weights import load_state, load_weights

FLOW_FILE = "optical_flow.safetensors"

STEM_CHANNELS = 24
LEVEL_CHANNELS = (48, 64, 96, 128)
"""Channels of the feature pyramid at 1/4, 1/8, 1/16 and 1/32 of the picture."""

MATCH_CHANNELS = 45
"""Channels that are compared, the same at every level because the decoder is the same: with them it has 128 inputs."""

DECODER_CHANNELS = (80, 64, 64, 32)

RADIUS = 3
"""Radius of the search in pixels of a level: 96 pixels of the picture at the coarsest, 12 at the finest."""

FINEST, COARSEST = 4, 32
"""Pixels of the picture per position of the finest and of the coarsest level."""

SLOPE = 0.1
"""Slope of the leaky ReLUs below 0."""

_BLOCK = 8  # the side of the squares whose correlations are one matrix product


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Backward warp: `frames` (N, C, H, W) sampled at (x + u, y + v), bilinear, the border repeated outside.

    flow: (N, 2, H, W) in pixels, x then y.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, dtype=flow.dtype, device=flow.device) + flow[:, 0]
    y = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None] + flow[:, 1]
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], -1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=True)


def consistent(forward: Tensor, backward: Tensor) -> Tensor:
    """Where a point carried along `forward` and back along `backward` returns: bool (N, 1, H, W), flows as in `warp`.

    False where it leaves the picture. UnFlow's bounds (Meister et al. 2018): what may be missed grows with the motion.
    """
    height, width = forward.shape[-2:]
    back = warp(backward, forward)
    missed = (forward + back).square().sum(1, keepdim=True)
    bound = 0.01 * (forward.square() + back.square()).sum(1, keepdim=True) + 0.5
    x = torch.arange(width, device=forward.device) + forward[:, :1]
    y = torch.arange(height, device=forward.device)[:, None] + forward[:, 1:]
    return (missed < bound) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def correlation(first: Tensor, second: Tensor, *, radius: int) -> Tensor:
    """Dot products of `first` (N, C, H, W) with its neighbours in `second`: (N, (2 radius + 1)**2, H, W), row by row.

    Zero where the neighbour lies outside. Square blocks are multiplied whole and their bands cut out: a few times the
    products that are needed, at many times the speed of one pass per neighbour.
    """
    height, width = first.shape[-2:]
    bottom, right = -height % _BLOCK, -width % _BLOCK
    side, reach = _BLOCK + 2 * radius, 2 * radius + 1
    queries = rearrange(F.pad(first, (0, right, 0, bottom)), "n c (h i) (w j) -> n h w (i j) c", i=_BLOCK, j=_BLOCK)
    # The keys of a block are its own, and the first of the next blocks to the right and below.
    margin = (radius, right + _BLOCK - radius, radius, bottom + _BLOCK - radius)
    blocks = rearrange(F.pad(second, margin), "n c (h i) (w j) -> n h w i j c", i=_BLOCK, j=_BLOCK)
    keys = torch.cat([blocks[:, :, :-1], blocks[:, :, 1:, :, : 2 * radius]], 4)
    keys = torch.cat([keys[:, :-1], keys[:, 1:, :, : 2 * radius]], 3)
    products = queries @ keys.flatten(3, 4).mT
    # Position (i, j) of a block wants the keys (i..i+2r, j..j+2r): strides that move both at once.
    area, shape = side * side, (*products.shape[:3], _BLOCK, _BLOCK, reach, reach)
    band = products.contiguous().as_strided(shape, (*products.stride()[:3], _BLOCK * area + side, area + 1, side, 1))
    scores = rearrange(band, "n h w i j k l -> n (k l) (h i) (w j)")
    return scores[..., :height, :width]


class FlowNetwork(nn.Module):
    """Optical flow of two pictures. `levels` gives what training compares at every scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, STEM_CHANNELS, stride=2)
        inputs = (STEM_CHANNELS, *LEVEL_CHANNELS)
        self.pyramid = nn.ModuleList(
            nn.Sequential(_conv(coarse, fine, stride=2), _conv(fine, fine))
            for coarse, fine in zip(inputs, LEVEL_CHANNELS, strict=False)
        )
        self.match = nn.ModuleList(nn.Conv2d(channels, MATCH_CHANNELS, 1) for channels in LEVEL_CHANNELS)
        self.decoder = _Decoder()
        self.mask = nn.Sequential(_conv(DECODER_CHANNELS[-1], 64), nn.Conv2d(64, 9 * FINEST**2, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (N, 2, H, W) in pixels, x then y: `second` sampled at (x + u, y + v) looks like `first`.

        first, second: RGB (N, 3, H, W) in 0..1, of any size.
        """
        return self.levels(first, second)[-1]

    def levels(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Return flows from coarse to fine, and the flow (N, 2, H, W) of `forward`.

        They are at 1/32, 1/16, 1/8 and 1/4 of the size padded to multiples of 32, each in pixels of its own level.
        """
        height, width = first.shape[-2:]
        pair = torch.cat([first, second]) - 0.5
        pair = F.pad(pair, (0, -width % COARSEST, 0, -height % COARSEST), mode="replicate")
        features = self._features(pair.contiguous(memory_format=torch.channels_last))
        flow = hidden = None
        flows: list[Tensor] = []
        for feature in reversed(features):
            one, two = feature.chunk(2)
            if flow is None or hidden is None:
                flow = one.new_zeros(len(one), 2, *one.shape[-2:])
                hidden = one.new_zeros(len(one), DECODER_CHANNELS[-1], *one.shape[-2:])
            else:
                # In training a level answers for its own residual only: gradients through all warps are wild.
                flow, hidden = 2 * _double(flow.detach() if self.training else flow), _double(hidden)
                two = warp(two, flow)
            scores = correlation(F.normalize(one, dim=1), F.normalize(two, dim=1), radius=RADIUS)
            hidden, residual = self.decoder(scores, one, flow, hidden)
            flow = flow + residual
            flows.append(flow)
        assert hidden is not None
        full = _enlarge(flows[-1], 0.25 * self.mask(hidden), factor=FINEST)
        return [*flows, full[..., :height, :width]]

    def _features(self, images: Tensor) -> list[Tensor]:
        """Features (N, MATCH_CHANNELS, h, w) of 1/4 to 1/32, finest first."""
        x, features = self.stem(images), []
        for stage, match in zip(self.pyramid, self.match, strict=True):
            x = stage(x)
            features.append(match(x))
        return features


class _Decoder(nn.Module):
    """From correlations, features, flow so far and the coarser level's hidden state: new hidden state and residual flow."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (2 * RADIUS + 1) ** 2 + MATCH_CHANNELS + 2 + DECODER_CHANNELS[-1]
        widths = (inputs, *DECODER_CHANNELS)
        # The dilated middle sees past what an object uncovers.
        self.body = nn.Sequential(
            *(_conv(a, b, dilation=d) for a, b, d in zip(widths, DECODER_CHANNELS, (1, 2, 2, 1), strict=False))
        )
        self.head = nn.Conv2d(DECODER_CHANNELS[-1], 2, 3, padding=1)

    def forward(self, scores: Tensor, feature: Tensor, flow: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(torch.cat([scores, feature, flow, hidden], 1))
        return hidden, self.head(hidden)


def load_flow(path: str | Path | None = None) -> FlowNetwork:
    """Return the trained network, frozen and in eval mode; None: the one of this repository. Raises `CheckpointError`."""
    path = Path(path or CHECKPOINTS / FLOW_FILE)
    network = FlowNetwork()
    load_state(network, load_weights(path, kind="optical_flow").state, path=path)
    return network.eval().requires_grad_(False)


def _conv(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)  # PyTorch's own start lets the signal fade from layer to layer
    return nn.Sequential(conv, nn.LeakyReLU(SLOPE, inplace=True))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _enlarge(flow: Tensor, logits: Tensor, *, factor: int) -> Tensor:
    """RAFT's convex enlargement (Teed and Deng 2020): a fine vector is a mean, by `logits`, of the 3x3 around it."""
    height, width = flow.shape[-2:]
    weights = rearrange(logits, "n (k p) h w -> (n h w) k p", k=9).softmax(1)
    around = F.unfold(F.pad(factor * flow, (1, 1, 1, 1), mode="replicate"), 3)
    fine = rearrange(around, "n (c k) hw -> (n hw) c k", k=9) @ weights
    return rearrange(fine, "(n h w) c (i j) -> n c (h i) (w j)", h=height, w=width, i=factor)
