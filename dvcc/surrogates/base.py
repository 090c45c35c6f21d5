"""A surrogate: the differentiable stand-in for the codec, from QPs to coded frames and bits."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import nn

NUM_QPS = 52


class Prediction(NamedTuple):
    """frames: float (B, T, 3, H, W), about 0..1. log_bits: float (B, T), natural log of the bits of each frame."""

    frames: torch.Tensor
    log_bits: torch.Tensor

    @property
    def log_clip_bits(self) -> torch.Tensor:
        """(B,): natural log of the bits of the whole clip."""
        return torch.logsumexp(self.log_bits, dim=1)


class Surrogate(nn.Module, AbstractBase):
    """Predicts what the codec would make of a clip and a QP map."""

    @abstractmethod
    def forward(self, sample: dict[str, torch.Tensor], qp: torch.Tensor) -> Prediction:
        """Coded frames and log bits.

        sample: of `LadderSamples`, batched: `frames` uint8 (B, T, 3, H, W), `ladder_frames` uint8 (B, R, T, 3, H, W),
        `ladder_bits` (B, R, T). qp: (B, T, h, w, 52), the weight of every QP, summing to 1 over the last axis:
        one-hot (hard samples, straight-through or not) or soft. Differentiable in `qp`.
        """


def one_hot_qp(qp: torch.Tensor) -> torch.Tensor:
    """int (..., h, w) QPs 0..51 to float (..., h, w, 52)."""
    return nn.functional.one_hot(qp, NUM_QPS).float()


def interpolation_weights(qps: tuple[int, ...]) -> torch.Tensor:
    """(52, R): row q has the linear weights of the two rungs around QP q; outside the ladder, of the end rung."""
    weights = torch.zeros(NUM_QPS, len(qps))
    for qp in range(NUM_QPS):
        above = next((k for k, rung in enumerate(qps) if rung >= qp), len(qps) - 1)
        below = above if qps[above] <= qp or above == 0 else above - 1
        fraction = 0.0 if above == below else (qp - qps[below]) / (qps[above] - qps[below])
        weights[qp, below] += 1 - fraction
        weights[qp, above] += fraction
    return weights
