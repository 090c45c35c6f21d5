"""What a control is trained on: the task's loss relative to that of x264's own map, at that map's bits.

    delta = control(frames, log bits per pixel)
    shift, price: base + delta + shift has the bits of base, and one log bit is worth `price` there (Newton)
    loss = task(base + delta + shift) / task(base) + price * (log bits - log bits of base)

x264's rate control brings the bits back to the target whatever the offsets are, by moving all QPs alike: that is the shift. The
price is the slope of the task loss over log bits along it, so an offset is worth making if it beats spending its bits evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from dvcc.control.network import centred
from dvcc.qp import MAX_QP

Response = tuple[torch.Tensor, torch.Tensor]
"""Task loss and log bits of maps, both (M,)."""

Codec = Callable[[torch.Tensor], Response]
"""Answers with the task loss and log bits of QPs (M, T, h, w), not rounded, 0..51."""

_PROBE_QPS = 2.0
"""Slopes are taken over so many QPs to the finer side: a single one is within the ladder's noise, and coarser than 51 is none."""

_LEAST_LOG_BITS = 0.02  # that a QP can change; it is 0.06 to 0.12 but at the ends
_NEWTON_STEPS, _LARGEST_STEP = 2, 10.0


class Baseline(NamedTuple):
    """x264's own maps at M rates, and what a surrogate answers to them.

    QPs (M, T, h, w), log of the bits per pixel asked for (M,), and what a surrogate answers to these QPs: task loss (M,) and log
    bits (M,).
    """

    qp: torch.Tensor
    log_bpp: torch.Tensor
    loss: torch.Tensor
    log_bits: torch.Tensor


class Terms(NamedTuple):
    """Terms of the objective, all (M,).

    total = relative_loss + price * excess, whose gradient trains the control; relative_loss: the task loss over that of the base;
    excess: log bits over those of the base, about 0; price: relative task loss that one log bit buys.
    """

    total: torch.Tensor
    relative_loss: torch.Tensor
    excess: torch.Tensor
    price: torch.Tensor


def objective(delta: torch.Tensor, base: Baseline, codec: Codec) -> Terms:
    """Return the training loss of offsets `delta` (M, T, h, w) from the QPs of `base`, through a differentiable `codec`.

    The excess is over the bits that the surrogate gives the base, so what it gets wrong about both does not count. Nothing is
    sampled: noise from macroblock to macroblock has to be signalled, and at low rates costs more than the picture.
    """
    shift, price = at_equal_bits((base.qp + delta).detach(), base, codec)
    loss, log_bits = codec((base.qp + delta + shift).clamp(0, MAX_QP))
    relative_loss, excess = loss / base.loss, log_bits - base.log_bits
    return Terms(relative_loss + price * excess, relative_loss, excess, price)


@torch.no_grad()
def at_equal_bits(qp: torch.Tensor, base: Baseline, codec: Codec) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the shift (M, 1, 1, 1) in QPs that gives maps `qp` (M, T, h, w) the bits of their base, and the price.

    By Newton's method. The price is the relative task loss that one log bit buys there (M,), 0 or more.
    """
    shift, price = qp.new_zeros(len(qp), 1, 1, 1), qp.new_zeros(len(qp))
    for _ in range(_NEWTON_STEPS):
        loss, log_bits = codec((qp + shift).clamp(0, MAX_QP))
        finer_loss, finer_log_bits = codec((qp + shift - _PROBE_QPS).clamp(0, MAX_QP))
        spent = (finer_log_bits - log_bits).clamp(min=_LEAST_LOG_BITS * _PROBE_QPS)
        step = (_PROBE_QPS * (log_bits - base.log_bits) / spent).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        shift = shift + step[:, None, None, None]
        price = ((loss - finer_loss) / spent / base.loss).clamp(min=0)
    return shift, price


def difference(delta: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """(M,): mean squared difference, in QPs, of offsets (M, T, h, w) to those of a teacher, (M, T, h, w) or (M, 1, h, w).

    x264 takes back what all macroblocks of a frame share, so that does not count.
    """
    return (centred(delta) - centred(taught.to(delta))).square().mean((1, 2, 3))
