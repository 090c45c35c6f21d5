"""Offsets by descent on a clip's own judged ladder: what the surrogate says one clip gains, without a network to decide it."""

from __future__ import annotations

import torch

from dvcc.control.objective import Codec
from dvcc.qp import MAX_QP

LARGEST_OFFSET = 10.0
_STEPS, _STEP_QPS = 60, 0.5

_STRENGTH = 0.5
"""Of the offsets that the descent ends at: at full strength they gain less on the real codec (docs/results.md)."""


@torch.enable_grad()
def descend(codec: Codec, base: torch.Tensor) -> torch.Tensor:
    """Return offsets (M, h, w) from x264's own QPs `base` (M, T, h, w), the same in all frames and 0 on average.

    They are half of those that lower the task loss most at equal bits as a differentiable `codec` answers. (The real codec does
    not deliver what it predicts for offsets that change in time.)
    """
    offsets = torch.zeros_like(base[:, :1]).requires_grad_()
    optimizer = torch.optim.Adam([offsets], lr=_STEP_QPS)
    for _ in range(_STEPS):
        loss, log_bits = codec((base + offsets).clamp(0, MAX_QP))
        (of_loss,) = torch.autograd.grad(loss.sum(), offsets, retain_graph=True)
        (of_bits,) = torch.autograd.grad(log_bits.sum(), offsets)
        # x264 takes back what all macroblocks have in common: without it, the loss at equal bits is left.
        price = _total(of_loss) / _total(of_bits).clamp(max=-1e-6)
        gradient = of_loss - of_bits * price
        offsets.grad = gradient / gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)
        optimizer.step()
        with torch.no_grad():
            offsets.sub_(offsets.mean((1, 2, 3), keepdim=True)).clamp_(-LARGEST_OFFSET, LARGEST_OFFSET)
    return _STRENGTH * offsets.detach()[:, 0]


def _total(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.sum((1, 2, 3), keepdim=True)
