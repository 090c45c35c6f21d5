"""One frame coded as an encoder codes it: predicted, transformed, quantised, deblocked. Choices are made without gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.structured.deblocking import deblock
from dvcc.surrogate.structured.entropy import Counted
from dvcc.surrogate.structured.intra import Intra, IntraPrediction, price
from dvcc.surrogate.structured.motion import moved, upsample
from dvcc.surrogate.structured.planes import CodedResidual, ResidualCoder
from dvcc.surrogate.structured.transform import chroma_qp
from dvcc.units import MACROBLOCK

INTRA = FRAME_TYPES.index("I")
_INTRA_BITS, _OF_INTER = (0.0, 5.0, 20.0), (1.0, 0.85, 0.95)
"""By frame type: a macroblock is predicted from its own frame where that costs, with so many bits, less than this share of the
best prediction from others. So 15, 11, 7 and 4 % of the macroblocks of P frames are at QP 22, 30, 38 and 46, where x264 has
16, 11, 8 and 6 %; of B frames 3.5 to 0.2 %, where it has 3.1 to 0.2 % (six training clips at 512x224 and 320x144).
"""

_MUCH_INTRA = 0.1  # of the macroblocks of a P or B frame

Pair = tuple[torch.Tensor, torch.Tensor]
"""Luma (M, H, W) and chroma (M, 2, H/2, W/2)."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A coded frame of M maps: planes, and the prediction that they came from."""

    luma: torch.Tensor
    chroma: torch.Tensor
    predicted: Pair

    @cached_property
    def halves(self) -> torch.Tensor:
        """(M, 2H, 2W): half pixels of luma, which only a reference needs."""
        return upsample(self.luma)


class Frame(NamedTuple):
    """What is coded: planes of M maps, their frame types int64 (M,), and what was found for them before.

    places: int64 (M,) twice, of the past and of the future reference in the list of coded frames, -1 for none. vectors: to them,
    (M, 2, H/8, W/8) twice.
    """

    luma: torch.Tensor
    chroma: torch.Tensor
    kind: torch.Tensor
    intra: Intra
    places: tuple[torch.Tensor, torch.Tensor]
    vectors: tuple[torch.Tensor, torch.Tensor]


class FrameCoder(nn.Module):
    """Codes frames one after another, each predicted from itself or from those coded before."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = ResidualCoder()
        self.intra = IntraPrediction()

    def forward(self, frame: Frame, qp: torch.Tensor, coded: list[Coded]) -> tuple[Coded, Counted]:
        """Code one frame at QPs (M, h, w); also returns what its bits are counted from. All M are I frames, or none is."""
        if bool((frame.kind[:1] == INTRA).all()):
            return self._intra_frame(frame, qp)
        predicted, motion = _inter(frame, coded)
        intra = frame.intra
        side, cost = intra.cheapest(qp)
        own = self._is_intra(frame, predicted[0], cost, qp)
        pixels = _each(own, MACROBLOCK) > 0
        predicted = (
            torch.where(pixels, intra.luma, predicted[0]),
            torch.where(pixels[:, None, ::2, ::2], intra.chroma, predicted[1]),
        )
        side = torch.where(own > 0, side, 0)
        # A cut, or much that is new: then what the neighbours really are matters, as in an I frame.
        much = own.mean((1, 2)) > _MUCH_INTRA
        if bool(much.any()):
            closer = self._from_coarse(frame, predicted, qp, own, side)
            inside = pixels & much[:, None, None]
            predicted = (
                torch.where(inside, closer[0], predicted[0]),
                torch.where(inside[:, None, ::2, ::2], closer[1], predicted[1]),
            )
        return self._reconstruct(frame, predicted, qp, own, side, motion)

    def _is_intra(self, frame: Frame, predicted: torch.Tensor, cost: torch.Tensor, qp: torch.Tensor) -> torch.Tensor:
        """Return 0 or 1, (M, h, w). predicted: luma from other frames; cost: of the best prediction from the own frame."""
        inter = self.intra.cost(frame.luma - predicted.detach())
        bits, share = (qp.new_tensor(table)[frame.kind][:, None, None] for table in (_INTRA_BITS, _OF_INTER))
        return (cost + bits * price(qp) < share * inter).to(frame.luma)

    def _intra_frame(self, frame: Frame, qp: torch.Tensor) -> tuple[Coded, Counted]:
        side, own = frame.intra.cheapest(qp)[0], torch.ones_like(qp)
        predicted = self.intra.predict(frame.luma, frame.chroma, frame.intra, side)
        predicted = self._from_coarse(frame, predicted, qp, own, side)
        height, width = frame.luma.shape[1:]
        still = frame.luma.new_zeros(len(qp), 2, height // 8, width // 8)
        return self._reconstruct(frame, predicted, qp, own, side, still)

    def _from_coarse(self, frame: Frame, predicted: Pair, qp: torch.Tensor, own: torch.Tensor, side: torch.Tensor) -> Pair:
        """Predictions from the neighbours in what comes of coding with `predicted`: nearly those that a decoder has."""
        coded = self._residuals(frame, predicted, qp, own, side)
        luma, chroma = ((plane + one.plane).clamp(0, 1) for plane, one in zip(predicted, coded, strict=True))
        return self.intra.predict(luma, chroma, frame.intra, side)

    def _residuals(
        self, frame: Frame, predicted: Pair, qp: torch.Tensor, own: torch.Tensor, side: torch.Tensor
    ) -> tuple[CodedResidual, CodedResidual]:
        luma = self.residual.luma(frame.luma - predicted[0], qp, frame.kind, own, side)
        return luma, self.residual.chroma(frame.chroma - predicted[1], qp, frame.kind, own)

    def _reconstruct(
        self, frame: Frame, predicted: Pair, qp: torch.Tensor, own: torch.Tensor, side: torch.Tensor, motion: torch.Tensor
    ) -> tuple[Coded, Counted]:
        luma, chroma = self._residuals(frame, predicted, qp, own, side)
        strengths = _strengths(luma.levels, own, motion)
        fine = _each(qp, 2)
        y = deblock((predicted[0] + luma.plane).clamp(0, 1), qp=fine, strength_x=strengths[0], strength_y=strengths[1], side=8)
        uv = (predicted[1] + chroma.plane).clamp(0, 1).flatten(0, 1)
        twice = [x.repeat_interleave(2, 0) for x in (chroma_qp(fine), *strengths)]
        uv = deblock(uv, qp=twice[0], strength_x=twice[1], strength_y=twice[2], side=4).unflatten(0, (-1, 2))
        difference = torch.log2(1 + _vector_steps(motion)).sum(1)
        counts = torch.cat([luma.counts, chroma.counts], 1)
        small = (side == 4).to(frame.luma)
        return Coded(y, uv, predicted), Counted(counts, qp, frame.kind, difference, own, small)


def _each(x: torch.Tensor, side: int) -> torch.Tensor:
    """Every value of (.., h, w) as a square of so many."""
    return x.repeat_interleave(side, -2).repeat_interleave(side, -1)


def _inter(frame: Frame, coded: list[Coded]) -> tuple[Pair, torch.Tensor]:
    """Return the predicted planes, and the vectors (M, 2, H/8, W/8).

    The best of both references and their mean was chosen for every block of 8.
    """
    rows = torch.arange(len(frame.luma), device=frame.luma.device)
    options: list[Pair] = []
    for source, vector in zip(frame.places, frame.vectors, strict=True):
        if not bool((source >= 0).any()):
            continue
        used = sorted({int(s) for s in source.clamp(min=0)})
        halves, chroma = coded[used[0]].halves, coded[used[0]].chroma
        if len(used) > 1:  # clips of other frame types
            which = torch.searchsorted(torch.tensor(used, device=source.device), source.clamp(min=0))
            halves = torch.stack([coded[k].halves for k in used], 1)[rows, which]
            chroma = torch.stack([coded[k].chroma for k in used], 1)[rows, which]
        of_luma, of_chroma = moved(halves[:, None], vector, scale=2)[:, 0], moved(chroma, vector, scale=0.5)
        if options:  # a frame without this reference takes the other one twice
            there = (source >= 0)[:, None, None]
            of_luma = torch.where(there, of_luma, options[0][0])
            of_chroma = torch.where(there[..., None], of_chroma, options[0][1])
        options.append((of_luma, of_chroma))
    chosen, motion = options[0], frame.vectors[0]
    error = _block_error(frame.luma, chosen[0])
    if len(options) > 1:
        both = (options[0][0] + options[1][0]) / 2, (options[0][1] + options[1][1]) / 2
        for candidate, vector in ((options[1], frame.vectors[1]), (both, frame.vectors[0])):
            other = _block_error(frame.luma, candidate[0])
            better = other < error
            error = torch.minimum(error, other)
            motion = torch.where(better[:, None], vector, motion)
            fine = _each(better, 4)
            chosen = (
                torch.where(_each(fine, 2), candidate[0], chosen[0]),
                torch.where(fine[:, None], candidate[1], chosen[1]),
            )
    return chosen, motion


def _block_error(luma: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """(M, H/8, W/8): mean absolute error, without gradient: a choice."""
    return F.avg_pool2d((luma - predicted.detach()).abs()[:, None], 8)[:, 0]


def _vector_steps(motion: torch.Tensor) -> torch.Tensor:
    """(M, 2, h, w): what the vectors of a macroblock differ by from those of the one before, in quarter pixels."""
    mean = F.avg_pool2d(motion, 2)
    return 4 * F.pad(mean[..., 1:] - mean[..., :-1], (1, 0)).abs()


def _strengths(levels: torch.Tensor, intra: torch.Tensor, motion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the strengths (M, H/8, W/8) of the edges to the left of blocks of 8, and above.

    They are 4 and 3 for intra at and within a macroblock, 2 with levels, 1 between unlike vectors (8.7.2.1).
    """
    m, h, w, _ = levels.shape
    coded = levels.view(m, h, w, 2, 2).movedim(3, 2).reshape(m, 2 * h, 2 * w) > 0.5
    own = intra.repeat_interleave(2, -2).repeat_interleave(2, -1) > 0
    found = []
    for dim in (-1, -2):
        before = [x.roll(1, dim) for x in (coded, own)]
        moved = ((motion - motion.roll(1, dim)).abs() >= 1).any(1)
        strength = torch.where(coded | before[0], 2, torch.where(moved, 1, 0))
        outer = torch.arange(strength.shape[dim], device=levels.device) % 2 == 0
        outer = outer if dim == -1 else outer[:, None]
        found.append(torch.where(own | before[1], torch.where(outer, 4, 3), strength).to(levels))
    return found[0], found[1]
