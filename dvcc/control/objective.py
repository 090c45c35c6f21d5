"""The Lagrangian of "keep the task, meet the rate", in log bits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Lagrangian(NamedTuple):
    """All (B,). total = task + lagrange_multiplier * excess + deviation_weight * |excess|."""

    total: torch.Tensor
    task: torch.Tensor
    excess: torch.Tensor
    multiplier: torch.Tensor


def lagrangian(
    task_loss: torch.Tensor,
    log_bits: torch.Tensor,
    log_target_bits: torch.Tensor,
    *,
    multiplier: torch.Tensor,
    deviation_weight: float,
    margin: float = 0.0,
) -> Lagrangian:
    """L = task + lambda g + mu |g|, with g = log(bits / target) + margin; everything (B,).

    g > 0 means over the target. `margin` asks for that much less in log bits; the |g| term keeps the control from
    buying nothing with the bits it may spend.
    """
    excess = log_bits - log_target_bits + margin
    total = task_loss + multiplier * excess + deviation_weight * excess.abs()
    return Lagrangian(total, task_loss, excess, multiplier)


class DualAscent(nn.Module):
    """Lagrange multipliers, one per band of target rates: lambda <- max(0, lambda + step * mean g).

    bounds: rising log bits per pixel between the bands. step 0 keeps lambda fixed (the published form). The
    multipliers are a buffer, so they are in every checkpoint.
    """

    bounds: torch.Tensor
    multipliers: torch.Tensor

    def __init__(self, *, bounds: tuple[float, ...], start: float, step: float) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("bounds", torch.tensor(bounds))
        self.register_buffer("multipliers", torch.full((len(bounds) + 1,), float(start)))

    def band(self, log_bpp: torch.Tensor) -> torch.Tensor:
        """(B,): index of the band of every target."""
        return torch.bucketize(log_bpp.contiguous(), self.bounds)

    def forward(self, log_bpp: torch.Tensor) -> torch.Tensor:
        """(B,): the multiplier of every target."""
        return self.multipliers[self.band(log_bpp)]

    @torch.no_grad()
    def ascend(self, log_bpp: torch.Tensor, excess: torch.Tensor) -> None:
        """One step along the mean excess of every band that occurs."""
        band = self.band(log_bpp)
        for index in band.unique():
            moved = self.multipliers[index] + self.step * excess[band == index].mean()
            self.multipliers[index] = moved.clamp(min=0)
