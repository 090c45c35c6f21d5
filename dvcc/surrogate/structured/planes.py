"""Reconstruction of a frame's planes: transform, quantise, count, invert."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.structured.entropy import BANDS, count_levels, luma_bands
from dvcc.surrogate.structured.transform import basis, chroma_qp, nested_basis, quantise, to_blocks, to_plane
from dvcc.surrogate.transform import quantizer_step

TRANSFORMS = (4, 8, 16)
"""Sides of what is transformed at once: 4, 8, and for macroblocks predicted as a whole 4 with the means transformed again."""

_DEAD = {False: 0.28, True: 0.16}
"""Of macroblocks predicted from other frames, and from their own, to begin with: x264's without trellis are 0.33 and 0.17."""

_ONE_BLOCK, _ALL_BLOCKS = 4, 6
"""x264 drops a block of 8, and a macroblock, whose levels of 1 score less: 3 for the lowest frequencies, 2, 1, 0."""


class CodedResidual(NamedTuple):
    """plane: what a decoder adds to the prediction. counts: (M, K, h, w). levels: (M, h, w, blocks), how many are not 0."""

    plane: torch.Tensor
    counts: torch.Tensor
    levels: torch.Tensor


class ResidualCoder(nn.Module):
    """Residuals of planes (M, H, W) at QPs (M, h, w). Dead zones are stored with the weights: by frame type,
    intra or not, luma or chroma, and band."""

    dead_zone: torch.Tensor
    score: torch.Tensor
    nested_8: torch.Tensor
    bands_chroma: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        start = torch.tensor([_DEAD[False], _DEAD[True]]).view(1, 2, 1, 1).repeat(len(FRAME_TYPES), 1, 2, BANDS)
        self.register_buffer("dead_zone", start)  # type, intra, luma or chroma, band
        self.noise = False
        for side in (4, 8):
            self.register_buffer(f"basis_{side}", basis(side).float(), persistent=False)
            self.register_buffer(f"bands_{side}", luma_bands(side), persistent=False)
        for side in (8, 16):
            self.register_buffer(f"nested_{side}", nested_basis(side).float(), persistent=False)
        small = luma_bands(4)[1:]
        self.register_buffer("bands_16", torch.cat([torch.zeros(16).long(), small.repeat(16)]), persistent=False)
        self.register_buffer("bands_chroma", torch.cat([torch.zeros(4), torch.ones(60)]).long(), persistent=False)
        order = torch.arange(8)[:, None] + torch.arange(8)
        score = 3 - torch.bucketize(order.flatten(), torch.tensor([1, 3, 5]))  # by diagonal: as a zigzag scan meets them
        self.register_buffer("score", score.float(), persistent=False)

    def luma(
        self, residual: torch.Tensor, qp: torch.Tensor, kind: torch.Tensor, intra: torch.Tensor, side: torch.Tensor
    ) -> CodedResidual:
        """intra: (M, h, w), 0 or 1. side: int64 (M, h, w), of the transform, 0 for whichever of 4 and 8 is cheaper."""
        whole = bool((side == 16).any())
        inter = bool((side == 0).any())
        coded: dict[int, CodedResidual] = {}
        costs = {}
        for s in TRANSFORMS if whole else TRANSFORMS[:2]:
            matrix = getattr(self, "nested_16" if s == 16 else f"basis_{s}")
            bands = getattr(self, f"bands_{s}")
            coefficients = to_blocks(residual, macroblock=16, side=s) @ matrix.T
            if inter and s != 16:
                costs[s] = _cost(coefficients, qp)
            levels, kept = quantise(coefficients, qp, self._dead(kind, intra, 0, bands), noise=self.noise)
            if inter and s == 8:
                keep = self._kept(levels.detach(), intra)
                levels, kept = levels * keep, kept * keep
            plane = to_plane(kept @ matrix, macroblock=16, side=s)
            coded[s] = CodedResidual(plane, count_levels(levels, bands, BANDS), levels.detach().clamp(max=1).sum(-1))
        if inter:
            side = torch.where(side == 0, torch.where(costs[4] < costs[8], 4, 8), side)
        return _choose(coded, side)

    def chroma(self, residual: torch.Tensor, qp: torch.Tensor, kind: torch.Tensor, intra: torch.Tensor) -> CodedResidual:
        """residual: (M, 2, H/2, W/2); qp: luma's."""
        blocks = to_blocks(residual, macroblock=8, side=8)  # M 2 h w 1 K
        coefficients = torch.cat([blocks[:, 0], blocks[:, 1]], 3) @ self.nested_8.T
        levels, kept = quantise(coefficients, chroma_qp(qp), self._dead(kind, intra, 1, self.bands_chroma), noise=self.noise)
        plane = to_plane((kept @ self.nested_8).movedim(3, 1)[..., None, :], macroblock=8, side=8)
        return CodedResidual(plane, count_levels(levels, self.bands_chroma, 2), levels.detach().clamp(max=1).sum(-1))

    def _dead(self, kind: torch.Tensor, intra: torch.Tensor, plane: int, bands: torch.Tensor) -> torch.Tensor:
        """(M, h, w, 1, K)."""
        zones = self.dead_zone[kind, :, plane]
        inter_zone, intra_zone = (zones[:, k][:, bands][:, None, None, None] for k in range(2))
        weight = intra[..., None, None]
        return inter_zone + weight * (intra_zone - inter_zone)

    def _kept(self, levels: torch.Tensor, intra: torch.Tensor) -> torch.Tensor:
        """0 or 1, (M, h, w, blocks, 1): x264 codes no block of which little would be left."""
        score = (self.score * levels.clamp(max=1)).sum(-1) + 9 * (levels - 1).clamp(min=0).sum(-1)
        keep = score >= _ONE_BLOCK
        keep = keep & ((score * keep).sum(-1, keepdim=True) >= _ALL_BLOCKS)
        return (keep | (intra[..., None] > 0))[..., None].to(levels)


def _cost(coefficients: torch.Tensor, qp: torch.Tensor) -> torch.Tensor:
    """(M, h, w): bits of Gaussian coefficients, for a choice between transforms."""
    step = quantizer_step(qp)[..., None, None]
    return torch.log2(1 + (coefficients / step).detach().square()).sum((-2, -1))


def _choose(coded: dict[int, CodedResidual], side: torch.Tensor) -> CodedResidual:
    result = coded[8]
    counts, plane, levels = result.counts, result.plane, result.levels
    pixels = side.repeat_interleave(16, -2).repeat_interleave(16, -1)
    for s, other in coded.items():
        if s == 8:
            continue
        quarter = other.levels
        if s == 4:  # of each quarter of the macroblock
            quarter = quarter.unflatten(-1, (2, 2, 2, 2)).sum((-3, -1)).flatten(-2)
        else:
            quarter = quarter.expand(-1, -1, -1, 4)
        here = side == s
        plane = torch.where(pixels == s, other.plane, plane)
        counts = torch.where(here[:, None], other.counts, counts)
        levels = torch.where(here[..., None], quarter, levels)
    return CodedResidual(plane, counts, levels)
