"""The deblocking filter (ITU-T H.264, 8.7), with thresholds that are smooth in QP and soft decisions.

All vertical edges of a picture are filtered at once, then all horizontal ones; the standard goes macroblock by macroblock.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange

_SOFT = 0.15  # of a threshold: how far around it a decision is in between


def thresholds(qp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and beta (of 1, a grey level is 1/255) at QPs: what table 8-16 has; 0 where it has 0, below 16."""
    alpha = 0.8 * (torch.exp2(qp / 6) - 1)
    beta = 0.5 * qp - 7
    used = qp >= 15.5
    return torch.where(used, alpha.clamp(max=255), 0) / 255, torch.where(used, beta.clamp(min=0), 0) / 255


def clipping(qp: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """tC0 of 1 at QPs and strengths 0..3: table 8-17 doubles about every 7.3 QPs up to 13, 17 and 25 at QP 51."""
    largest = torch.where(strength > 2.5, 25.0, torch.where(strength > 1.5, 17.0, 13.0)).to(qp)
    return torch.where(strength > 0.5, largest * torch.exp2((qp - 51) / 7.3), 0) / 255


def deblock(
    plane: torch.Tensor, *, qp: torch.Tensor, strength_x: torch.Tensor, strength_y: torch.Tensor, side: int
) -> torch.Tensor:
    """Filter the edges between blocks of `side` samples (8 for luma, 4 for chroma) of a plane (M, H, W).

    qp: (M, H/side, W/side). strength_x: (M, H/side, W/side), 0..4, of the edge left of every block; strength_y: above it.
    """
    half = side // 2
    # Samples at one distance from their edge lie together: (side, M, h, side, edges) with rows of a block before the edges.
    inside = plane[..., half : plane.shape[-1] - half]
    taps = rearrange(inside, "m (h i) (e t) -> t m h i e", i=side, t=side).contiguous()
    taps = _filtered(taps, _Edges.between(qp, strength_x, dim=2, side=side), side)
    middle = rearrange(taps, "t m h i e -> m (h i) (e t)")
    plane = torch.cat([plane[..., :half], middle, plane[..., plane.shape[-1] - half :]], -1)
    inside = plane[:, half : plane.shape[1] - half]
    taps = rearrange(inside, "m (e t) (w i) -> t m e w i", i=side, t=side)
    taps = _filtered(taps, _Edges.between(qp, strength_y, dim=1, side=side), side)
    middle = rearrange(taps, "t m e w i -> m (e t) (w i)")
    return torch.cat([plane[:, :half], middle, plane[:, plane.shape[1] - half :]], 1)


class _Edges(NamedTuple):
    """What decides the filter of all edges in one direction.

    Thresholds, limits of a change, whether they are filtered, and strongly; broadcast to samples along an edge.
    """

    alpha: torch.Tensor
    beta: torch.Tensor
    limit: torch.Tensor
    on: torch.Tensor
    strong: torch.Tensor

    @staticmethod
    def between(qp: torch.Tensor, strength: torch.Tensor, *, dim: int, side: int) -> _Edges:
        """Between blocks (M, h, w) and those before them along `dim`."""
        count = qp.shape[dim] - 1
        mean_qp = (qp.narrow(dim, 1, count) + qp.narrow(dim, 0, count)) / 2
        bs = strength.narrow(dim, 1, count)
        axis = 2 if dim == 2 else 3  # of samples along an edge
        found = (*thresholds(mean_qp), clipping(mean_qp, bs), (bs > 0.5).to(qp), (bs > 3.5).to(qp))
        return _Edges(*(x.unsqueeze(axis) for x in found))


def _filtered(taps: torch.Tensor, edges: _Edges, side: int) -> torch.Tensor:
    """Return the samples (side, ..) across edges, after the filter."""
    half = side // 2
    p, q = taps[:half].flip(0).unbind(0), taps[half:].unbind(0)  # from the edge outwards
    alpha, beta = edges.alpha, edges.beta
    soft_alpha, soft_beta = (1 / (_SOFT * limit + 1e-4) for limit in (alpha, beta))

    def below(x: torch.Tensor, limit: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((limit - x.abs()) * scale)

    across = p[0] - q[0]
    gate = below(across, alpha, soft_alpha) * below(p[1] - p[0], beta, soft_beta) * below(q[1] - q[0], beta, soft_beta) * edges.on
    if side == 8:
        smooth_p, smooth_q = (below(x[2] - x[0], beta, soft_beta) for x in (p, q))
        limit = edges.limit + (smooth_p + smooth_q) * (0.5 / 255)
    else:
        smooth_p = smooth_q = across
        limit = edges.limit + 0.5 / 255
    delta = torch.clamp((p[1] - q[1] - 4 * across) / 8, -limit, limit)
    change = (gate - gate * edges.strong) * delta
    sides = [[p[0] + change, *p[1:]], [q[0] - change, *q[1:]]]
    if bool(edges.strong.any()):
        strong = gate * edges.strong
        narrow = alpha / 4 + 2 / 255
        close = below(across, narrow, 1 / (_SOFT * narrow + 1e-4)) if side == 8 else across
        for result, near, far, smooth in zip(sides, (p, q), (q, p), (smooth_p, smooth_q), strict=True):
            a, b, other, beyond = near[0], near[1], far[0], far[1]
            first = (2 * b + a + beyond) / 4
            if side == 8:
                long = smooth * close
                c = near[2]
                first = first + long * ((c + 2 * b + 2 * a + 2 * other + beyond) / 8 - first)
                result[1] = b + strong * long * ((c + b + a + other) / 4 - b)
                result[2] = c + strong * long * ((2 * near[3] + 3 * c + b + a + other) / 8 - c)
            result[0] = result[0] + strong * (first - a)
    return torch.stack([*reversed(sides[0]), *sides[1]])
