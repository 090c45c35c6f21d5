"""From QP logits to QPs that a gradient can pass: Gumbel noise and the straight-through estimator."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from dvcc.qp import MAX_QP


def gaussian_logits(mean_qp: torch.Tensor, *, spread: float) -> torch.Tensor:
    """Logits (..., 52) of a Gaussian over the QPs, with its peak at `mean_qp` (...) and `spread` QPs wide.

    Near QPs are near in effect. Free logits would have to learn that, and a gradient at one QP would say nothing
    about the next.
    """
    qps = torch.arange(MAX_QP + 1, dtype=mean_qp.dtype, device=mean_qp.device)
    return -((qps - mean_qp[..., None]) / spread).square() / 2


def sample_qp(logits: torch.Tensor, *, temperature: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Hard one-hot QPs (..., 52), drawn from softmax(logits), with the gradient of the Gumbel-softmax sample.

    Forward the codec's own situation, one QP per macroblock; backward the relaxation at `temperature` (Jang et al.;
    Maddison et al., ICLR 2017).
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    soft = F.softmax((logits + gumbel) / temperature, -1)
    hard = F.one_hot(soft.argmax(-1), logits.shape[-1]).to(soft.dtype)
    return hard + soft - soft.detach()
