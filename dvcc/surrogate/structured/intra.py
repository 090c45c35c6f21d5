"""Which blocks and modes a macroblock is predicted with from its own frame: chosen on the source, once per clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from dvcc.surrogate.structured.planes import TRANSFORMS
from dvcc.surrogate.structured.prediction import IntraModes
from dvcc.surrogate.structured.transform import basis, to_blocks

_MODE_BITS = {4: 60.0, 8: 20.0, 16: 4.0}
"""About what the modes of a macroblock cost more than none with blocks of this side."""


@dataclass(frozen=True, eq=False)
class Intra:
    """modes: int64 (.., H/s, W/s) for blocks of 4, 8, 16, then of chroma (.., 2, H/16, W/16).

    costs: (.., 3, h, w), sum of absolute coefficients. luma, chroma: what blocks of 8 predict from the source itself.
    """

    modes_4: torch.Tensor
    modes_8: torch.Tensor
    modes_16: torch.Tensor
    modes_chroma: torch.Tensor
    costs: torch.Tensor
    luma: torch.Tensor
    chroma: torch.Tensor

    def unflatten(self, sizes: tuple[int, int]) -> Intra:
        """Return the first axis as two."""
        return self.each(lambda x: x.unflatten(0, sizes))

    def cheapest(self, qp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the side of the blocks that cost least at QPs (M, h, w), int64 (M, h, w), and what they cost, modes included."""
        bits = qp.new_tensor([_MODE_BITS[s] for s in TRANSFORMS])[:, None, None]
        cost, place = (self.costs + bits * price(qp)[:, None]).min(1)
        return torch.tensor(TRANSFORMS, device=qp.device)[place], cost

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Intra:
        """With every tensor changed."""
        return Intra(**{item.name: change(getattr(self, item.name)) for item in fields(self)})


def price(qp: torch.Tensor) -> torch.Tensor:
    """Return what a bit is worth at QPs (any shape), in sums of absolute coefficients: x264's lambda, on this scale."""
    return torch.exp2((qp.detach() - 12) / 6) / 2 / 255


class IntraPrediction(nn.Module):
    """Prediction from the own frame, blocks of 4, 8 and 16 of luma and of 8 of chroma."""

    basis_4: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.luma = nn.ModuleDict({str(side): IntraModes(side) for side in TRANSFORMS})
        self.of_chroma = IntraModes(8, few=True)
        self.register_buffer("basis_4", basis(4).float(), persistent=False)

    def analyse(self, luma: torch.Tensor, chroma: torch.Tensor) -> Intra:
        """Of frames (N, H, W) and (N, 2, H/2, W/2)."""
        modes, costs = {}, []
        for side in TRANSFORMS:
            modes[side], cost = self._best(luma, side)
            costs.append(cost)
        flat = chroma.flatten(0, 1)
        own = rearrange(flat, "n (h i) (w j) -> n h w 1 (i j)", i=8, j=8)
        modes_chroma = (self.of_chroma(flat) - own).abs().sum(-1).argmin(-1)
        of_luma = self._modes(8).chosen(luma, modes[8])
        of_chroma = self.of_chroma.chosen(flat, modes_chroma).view_as(chroma)
        modes_chroma = modes_chroma.unflatten(0, (-1, 2))
        return Intra(modes[4], modes[8], modes[16], modes_chroma, torch.stack(costs, 1), of_luma, of_chroma)

    def cost(self, residual: torch.Tensor) -> torch.Tensor:
        """(N, h, w): the sum of absolute coefficients of a residual (N, H, W), without gradient."""
        return (to_blocks(residual.detach(), macroblock=16, side=4) @ self.basis_4.T).abs().sum((-2, -1))

    def _modes(self, side: int) -> IntraModes:
        modes = self.luma[str(side)]
        assert isinstance(modes, IntraModes)
        return modes

    def _best(self, luma: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mode of every block with the smallest coefficients, and their sum (N, h, w) per macroblock."""
        found = []
        for one in luma:  # frame by frame: all modes of all blocks are many pictures
            predictions = self._modes(side)(one[None])
            own = rearrange(one[None], "n (h i) (w j) -> n h w 1 (i j)", i=side, j=side)
            blocks = rearrange(own - predictions, "n h w m (i j) -> n h w m i j", i=side)
            sums = (to_blocks(blocks, macroblock=side, side=4) @ self.basis_4.T).abs().sum((-4, -3, -2, -1))
            found.append(sums.min(-1))
        costs, modes = (torch.cat(part) for part in zip(*found, strict=True))
        per_side = 16 // side
        return modes, F.avg_pool2d(costs[:, None], per_side)[:, 0] * per_side**2

    def predict(
        self, luma: torch.Tensor, chroma: torch.Tensor, intra: Intra, side: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return predictions of luma and chroma from the neighbours in these planes, blocks of `side` int64 (M, h, w).

        Luma is 0 where that is no side of a block.
        """
        result = torch.zeros_like(luma)
        for one, modes in ((4, intra.modes_4), (8, intra.modes_8), (16, intra.modes_16)):
            here = side == one
            if bool(here.any()):
                blocks = here.repeat_interleave(16 // one, -2).repeat_interleave(16 // one, -1)
                result = result + self._modes(one).chosen(luma, modes, where=blocks)
        of_chroma = self.of_chroma.chosen(chroma.flatten(0, 1), intra.modes_chroma.flatten(0, 1))
        return result, of_chroma.view_as(chroma)
