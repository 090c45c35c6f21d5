"""Bits of macroblocks from their quantised coefficients: what CABAC makes of them, learned from few numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import einsum, repeat
from torch import nn
from torch.nn import functional as F

from dvcc.surrogate.ladder import FRAME_TYPES

BANDS = 4
"""Of frequencies: the mean of a block, and three further out."""

COUNTED = 2 * (BANDS + 2)
"""What `count_levels` counts of a macroblock: of luma per band, of chroma in two."""

_CONTEXT = 7  # further maps that the network is shown
_LARGEST_GAIN = 3.0


def luma_bands(side: int) -> torch.Tensor:
    """int64 (side^2,): the band of every coefficient of a block of 4 or 8."""
    place = torch.arange(side)
    order = (place[:, None] + place).flatten() * (8 // side)
    return torch.bucketize(order, torch.tensor([0, 2, 6]))


def count_levels(levels: torch.Tensor, bands: torch.Tensor, count: int) -> torch.Tensor:
    """(.., 2 count) of levels >= 0 (.., blocks, K): how many are not 0 in every band, then what they are beyond 1, in doublings.

    Differentiable: between 0 and 1 a level counts as a part of one.
    """
    inside = F.one_hot(bands, count).to(levels)
    there, beyond = levels.clamp(max=1), torch.log2(levels.clamp(min=1))
    return torch.cat([x.sum(-2) @ inside for x in (there, beyond)], -1)


class Counted(NamedTuple):
    """What the bits of M frames are counted from.

    counts: (M, 12, h, w), of luma, then chroma, as `count_levels` counts. qp: (M, h, w). kind: int64 (M,), frame types. vectors:
    (M, h, w), log2 of what the motion of a macroblock differs by from its neighbour's. intra, small: (M, h, w), 0 or 1: whether
    it is predicted from its own frame; whether its transform is 4x4.
    """

    counts: torch.Tensor
    qp: torch.Tensor
    kind: torch.Tensor
    vectors: torch.Tensor
    intra: torch.Tensor
    small: torch.Tensor


class EntropyModel(nn.Module):
    """Bits of every macroblock.

    A price for every kind of level by frame type, times a gain from the counts of the macroblock and its neighbours; on top what
    modes, motion and QPs cost.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        price = torch.tensor([6.0, 5.5, 5.0, 5.0, *[1.8] * BANDS, 5.0, 5.0, 1.8, 1.8])
        self.price = nn.Parameter(price.log().repeat(len(FRAME_TYPES), 1))
        self.frame = nn.Parameter(torch.tensor([300.0, 80.0, 80.0]).log())  # slice headers, and of the first frame its sets
        self.body = nn.Sequential(
            nn.Conv2d(COUNTED + _CONTEXT + len(FRAME_TYPES), width, 1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            nn.SiLU(),
        )
        self.head = nn.Conv2d(width, 2, 1)
        nn.init.zeros_(self.head.weight)
        self.head.bias = nn.Parameter(torch.tensor([0.0, 0.5]))
        self.signalling = nn.Parameter(torch.tensor([3.0, 1.0, 2.0, 0.5]).log())

    def forward(self, counted: Counted) -> torch.Tensor:
        """Bits of frames (M,)."""
        return self.macroblocks(counted).sum((1, 2)) + self.frame[counted.kind].exp()

    def macroblocks(self, counted: Counted) -> torch.Tensor:
        """Bits (M, h, w)."""
        counts, qp, kind, vectors, intra, small = counted
        num_levels = counts[:, :BANDS].sum(1) + counts[:, 2 * BANDS : 2 * BANDS + 2].sum(1)
        coded = 1 - torch.exp(-num_levels)
        # H.264 codes the difference to the macroblock before, about in unary.
        step = F.pad(qp[..., 1:] - qp[..., :-1], (1, 0)).abs()
        types = F.one_hot(kind, len(FRAME_TYPES)).to(counts)
        maps = torch.stack([(qp - 32) / 10, coded, step / 4, vectors / 3, intra, small, torch.log1p(num_levels) / 3], 1)
        grid = qp.shape[-2:]
        seen = torch.cat([torch.log1p(counts) / 2, maps, repeat(types, "m k -> m k h w", h=grid[0], w=grid[1])], 1)
        gain, extra = self.head(self.body(seen)).unbind(1)
        gain = _LARGEST_GAIN * torch.tanh(gain / _LARGEST_GAIN)
        price = self.price[kind].exp()
        coefficients = einsum(price, counts, "m k, m k h w -> m h w") * torch.exp(gain)
        mode, motion, delta, skip = self.signalling.exp()
        side = coded * (mode + motion * vectors * (1 - intra) + delta * step) + skip * F.softplus(extra)
        return coefficients + side
