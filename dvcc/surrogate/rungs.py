"""Reading a ladder between its rungs."""

from __future__ import annotations

import torch
from torch import nn

from dvcc.units import MACROBLOCK


class Rungs(nn.Module):
    """qps: QPs of the ladder, rising. Values between two rungs are interpolated linearly, outside they are the end's."""

    qps: torch.Tensor

    def __init__(self, qps: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("qps", torch.tensor(qps, dtype=torch.float32), persistent=False)

    def around(self, qp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For QPs of any shape: index of the rung below, and the weight 0..1 of the one above (differentiable)."""
        # Not clamp: torch 2.14 gives it no gradient at its bounds, and the bounds of an interval are the rungs.
        first, last = self.qps[0], self.qps[-1]
        qp = torch.where(qp < first, first, torch.where(qp > last, last, qp))
        above = torch.bucketize(qp.detach().contiguous(), self.qps).clamp(1, len(self.qps) - 1)
        low, high = self.qps[above - 1], self.qps[above]
        return above - 1, (qp - low) / (high - low)

    def at(self, table: torch.Tensor, qp: torch.Tensor) -> torch.Tensor:
        """(B, h, w): `table` (B, R, h, w), a value per rung, at the QPs (B, h, w). Differentiable in both."""
        below, weight = self.around(qp)
        low = table.gather(1, below[:, None])[:, 0]
        return low + weight * (table.gather(1, below[:, None] + 1)[:, 0] - low)


def pick_rungs(ladder_frames: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """float (T, 3, H, W) 0..1: every macroblock from the rung `index` (T, h, w) of uint8 (R, T, 3, H, W)."""
    height, width = ladder_frames.shape[-2:]
    pixels = index.repeat_interleave(MACROBLOCK, -2).repeat_interleave(MACROBLOCK, -1)[..., :height, :width]
    return ladder_frames.gather(0, pixels[None, :, None].expand(-1, -1, 3, -1, -1))[0].float() / 255
