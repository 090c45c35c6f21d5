"""H.264's transforms and quantisation as differentiable layers (ITU-T H.264, 8.5 and 8.7).

Planes are 0..1 (a grey level is 1/255), blocks of a macroblock are (.., h, w, blocks, coefficients).
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange

from dvcc.qp import MAX_QP
from dvcc.surrogate.transform import quantizer_step

LUMA_SIDE, CHROMA_SIDE = 16, 8
"""Of a macroblock, in samples of a 4:2:0 plane."""

CHROMA_QP_OFFSET = -2
"""Of x264 with psy on, its default; chroma is then a little finer than the standard's table has it."""

_INTEGER: dict[int, list[list[int]]] = {
    4: [[1, 1, 1, 1], [2, 1, -1, -2], [1, -1, -1, 1], [1, -2, 2, -1]],
    8: [
        [8, 8, 8, 8, 8, 8, 8, 8],
        [12, 10, 6, 3, -3, -6, -10, -12],
        [8, 4, -4, -8, -8, -4, 4, 8],
        [10, -3, -12, -6, 6, 12, 3, -10],
        [8, -8, -8, 8, 8, -8, -8, 8],
        [6, -12, 3, 10, -10, -3, 12, -6],
        [4, -8, 8, -4, -4, 8, -8, 4],
        [3, -6, 10, -12, 12, -10, 6, -3],
    ],
}
_CHROMA_FROM = 30  # the QP up to which chroma has luma's
_CHROMA_QPS = (29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39)


def basis(side: int) -> torch.Tensor:
    """float64 (side^2, side^2): the 2-D transform of a block, a basis picture a row, of norm 1.

    The rows of the standard's integer matrices are orthogonal: with them scaled to 1, one step fits every coefficient.
    """
    rows = torch.tensor(_INTEGER[side], dtype=torch.float64)
    rows = rows / rows.norm(dim=1, keepdim=True)
    return rearrange(einsum(rows, rows, "i a, j b -> i j a b"), "i j a b -> (i j) (a b)")


def nested_basis(side: int) -> torch.Tensor:
    """Return the two-stage transform of a block of 8 (chroma) or 16 (luma predicted as a whole), float64 (side^2, side^2).

    It is 4x4 transforms whose means are transformed again by a Hadamard transform. The first rows are these, then the others, 15
    of each small block.
    """
    per_side = side // 4
    small = basis(4).view(16, 4, 4)
    rows = torch.zeros(per_side, per_side, 16, per_side, 4, per_side, 4, dtype=torch.float64)
    for i in range(per_side):
        for j in range(per_side):
            rows[i, j, :, i, :, j] = small
    flat = rows.view(per_side**2, 16, side * side)
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < per_side**2:
        hadamard = torch.kron(hadamard, two) / 2**0.5
    return torch.cat([hadamard @ flat[:, 0], flat[:, 1:].flatten(0, 1)])


def to_blocks(plane: torch.Tensor, *, macroblock: int, side: int) -> torch.Tensor:
    """(.., H, W) to (.., h, w, blocks, side^2): the square blocks of every macroblock."""
    per_side = macroblock // side
    return rearrange(plane, "... (h a i) (w b j) -> ... h w (a b) (i j)", a=per_side, b=per_side, i=side, j=side)


def to_plane(blocks: torch.Tensor, *, macroblock: int, side: int) -> torch.Tensor:
    """Return the inverse of `to_blocks`."""
    per_side = macroblock // side
    return rearrange(blocks, "... h w (a b) (i j) -> ... (h a i) (w b j)", a=per_side, b=per_side, i=side, j=side)


def chroma_qp(qp: torch.Tensor, offset: int = CHROMA_QP_OFFSET) -> torch.Tensor:
    """QPs of chroma for luma's (any shape), linear between whole ones and so differentiable."""
    qp = qp + offset
    table = torch.tensor([*range(_CHROMA_FROM), *_CHROMA_QPS], dtype=qp.dtype, device=qp.device)
    below = qp.detach().floor().clamp(0, MAX_QP - 1).long()
    low = table[below]
    return torch.where(qp < 0, torch.zeros_like(qp), low + (qp - below) * (table[below + 1] - low))


def quantise(
    coefficients: torch.Tensor, qp: torch.Tensor, dead_zone: torch.Tensor, *, noise: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels >= 0 and reconstructed coefficients of (M, h, w, blocks, K), at QPs (M, h, w).

    dead_zone: 0..0.5, broadcast to the coefficients: a level is floor(|c| / step + 0.5 - dead_zone). The gradient is straight
    through the rounding: that of the error is what a larger step makes of the same levels. noise: uniform noise instead of the
    rounding.
    """
    step = quantizer_step(qp)[..., None, None]
    size = torch.relu(coefficients.abs() / step - dead_zone)
    rounded = (size + torch.rand_like(size) - 0.5).clamp(min=0) if noise else size.round()
    levels = size + (rounded - size).detach() if torch.is_grad_enabled() else rounded
    return levels, coefficients.sign() * levels * step
