"""What coding a residual would cost: transform it, divide by the quantizer step, count the bits that are left."""

from __future__ import annotations

import math

import torch
from einops import einsum, rearrange
from torch.nn import functional as F

from dvcc.units import MACROBLOCK

_SIDE = 8  # of a transform block; x264 takes 4 or 8


def quantizer_step(qp: torch.Tensor) -> torch.Tensor:
    """Return the distance of two levels of a transform coefficient at the QPs (any shape), in units of a 0..1 picture.

    It is H.264's step of 1 grey level at QP 4, doubling every 6 QPs (ITU-T H.264, 8.5).
    """
    return torch.exp2((qp - 4) / 6) / 255


def transform_bits(residual: torch.Tensor, qps: torch.Tensor, *, intra: bool = False) -> torch.Tensor:
    """Bits of every macroblock of residuals (N, H, W), luma 0..1, at the QPs (R,): (N, R, h, w).

    A coefficient c costs log2(1 + (c / step)^2) / 2, the rate of a Gaussian above its distortion. No entropy coder agrees to
    the bit, but macroblocks can be compared. intra: `residual` is the picture itself; the mean of a block is left out, as
    its neighbours predict it.
    """
    height, width = residual.shape[-2:]
    padded = F.pad(residual[:, None], (0, -width % MACROBLOCK, 0, -height % MACROBLOCK), mode="replicate")[:, 0]
    blocks = rearrange(padded, "n (h a) (w b) -> n h w a b", a=_SIDE, b=_SIDE)
    basis = _cosines().to(residual)
    coefficients = einsum(basis, blocks, basis, "i a, n h w a b, j b -> n h w i j").square()
    if intra:
        coefficients[..., 0, 0] = 0
    bits = [torch.log2(1 + coefficients / step**2).sum((-2, -1)) / 2 for step in quantizer_step(qps)]
    per_side = MACROBLOCK // _SIDE
    return F.avg_pool2d(torch.stack(bits, 1), per_side) * per_side**2


def error_bits(error: torch.Tensor, qp: torch.Tensor) -> torch.Tensor:
    """Return the bits of macroblocks, any shape, whose residual is noise of mean absolute value `error` (0..1).

    They are coded at `qp`. As `transform_bits`, every coefficient being as large as the noise is on average.
    """
    return MACROBLOCK**2 / 2 * torch.log2(1 + (error / quantizer_step(qp)).square())


def _cosines() -> torch.Tensor:
    """(8, 8): the orthonormal DCT-II, one basis function a row."""
    n = torch.arange(_SIDE, dtype=torch.float64)
    basis = torch.cos(math.pi / _SIDE * (n + 0.5) * n[:, None]) * math.sqrt(2 / _SIDE)
    basis[0] /= math.sqrt(2)
    return basis
