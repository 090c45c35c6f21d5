"""The deblocking filter (ITU-T H.264, 8.7), with thresholds that are smooth in QP and soft decisions.

All vertical edges of a picture are filtered at once, then all horizontal ones; the standard goes macroblock by macroblock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange

_LARGEST = [limit / 255 for limit in (0, 13, 17, 25, 0)]
"""At QP 51, by strength: a strong filter has no limit."""

_SOFT = 0.15  # of a threshold: how far around it a decision is in between


def thresholds(qp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and beta (of 1, a grey level is 1/255) at QPs: what table 8-16 has; 0 where it has 0, below 16."""
    alpha = 0.8 * (torch.exp2(qp / 6) - 1)
    beta = 0.5 * qp - 7
    used = qp >= 15.5
    return torch.where(used, alpha.clamp(max=255), 0) / 255, torch.where(used, beta.clamp(min=0), 0) / 255


def clipping(qp: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """tC0 of 1 at QPs and strengths 0..3: table 8-17 doubles about every 7.3 QPs up to 13, 17 and 25 at QP 51."""
    return qp.new_tensor(_LARGEST)[strength.long()] * torch.exp2((qp - 51) / 7.3)


def deblock(
    plane: torch.Tensor, *, qp: torch.Tensor, strength_x: torch.Tensor, strength_y: torch.Tensor, side: int
) -> torch.Tensor:
    """Filter the edges between blocks of `side` samples (8 for luma, 4 for chroma) of a plane (M, H, W).

    qp: (M, H/side, W/side). strength_x: (M, H/side, W/side), 0..4, of the edge left of every block; strength_y: above it.
    """
    half = side // 2
    across, down = _edges(qp, strength_x, strength_y)
    # Samples at one distance from their edge lie together: (side, M, h, side, edges) with rows of a block before the edges.
    inside = plane[..., half : plane.shape[-1] - half]
    taps = rearrange(inside, "m (h i) (e t) -> t m h i e", i=side, t=side).contiguous()
    taps = _filtered(taps, across.each(lambda x: x.unsqueeze(2)), side)
    middle = rearrange(taps, "t m h i e -> m (h i) (e t)")
    plane = torch.cat([plane[..., :half], middle, plane[..., plane.shape[-1] - half :]], -1)
    inside = plane[:, half : plane.shape[1] - half]
    taps = rearrange(inside, "m (e t) (w i) -> t m e w i", i=side, t=side)
    taps = _filtered(taps, down.each(lambda x: x.unsqueeze(3)), side)
    middle = rearrange(taps, "t m e w i -> m (e t) (w i)")
    return torch.cat([plane[:, :half], middle, plane[:, plane.shape[1] - half :]], 1)


class _Edges(NamedTuple):
    """What decides the filter of edges: thresholds, limits of a change, whether they are filtered, and strongly."""

    alpha: torch.Tensor
    beta: torch.Tensor
    limit: torch.Tensor
    on: torch.Tensor
    strong: torch.Tensor

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> _Edges:
        """With every tensor changed."""
        return _Edges(*map(change, self))


def _edges(qp: torch.Tensor, strength_x: torch.Tensor, strength_y: torch.Tensor) -> tuple[_Edges, _Edges]:
    """Between blocks (M, h, w) and those to the left, and between them and those above; decided at once, as they are small."""
    across, down = (qp[..., 1:] + qp[..., :-1]) / 2, (qp[:, 1:] + qp[:, :-1]) / 2
    mean_qp, bs = (torch.cat([x.flatten(), y.flatten()]) for x, y in ((across, down), (strength_x[..., 1:], strength_y[:, 1:])))
    decided = _Edges(*thresholds(mean_qp), clipping(mean_qp, bs), (bs > 0.5).to(qp), (bs > 3.5).to(qp))
    count = across.numel()
    return decided.each(lambda x: x[:count].view_as(across)), decided.each(lambda x: x[count:].view_as(down))


def _filtered(taps: torch.Tensor, edges: _Edges, side: int) -> torch.Tensor:
    """Return the samples (side, ..) across edges, after the filter."""
    half = side // 2
    sides = torch.stack([taps[:half].flip(0), taps[half:]], 1)  # before and after, from the edge outwards: (half, 2, ..)
    a, b = sides[0], sides[1]
    alpha, beta = edges.alpha, edges.beta
    soft_alpha, soft_beta = (1 / (_SOFT * limit + 1e-4) for limit in (alpha, beta))

    def below(x: torch.Tensor, limit: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((limit - x.abs()) * scale)

    across = a[0] - a[1]
    flat = below(b - a, beta, soft_beta)
    gate = below(across, alpha, soft_alpha) * flat[0] * flat[1] * edges.on
    if side == 8:
        smooth = below(sides[2] - a, beta, soft_beta)
        limit = edges.limit + (smooth[0] + smooth[1]) * (0.5 / 255)
    else:
        smooth = across
        limit = edges.limit + 0.5 / 255
    delta = torch.clamp((b[0] - b[1] - 4 * across) / 8, -limit, limit)
    change = (gate - gate * edges.strong) * delta
    result = [a + torch.stack([change, -change]), *sides[1:]]
    if bool(edges.strong.any()):
        strong = gate * edges.strong
        other, beyond = a.flip(0), b.flip(0)
        first = (2 * b + a + beyond) / 4
        if side == 8:
            narrow = alpha / 4 + 2 / 255
            long = smooth * below(across, narrow, 1 / (_SOFT * narrow + 1e-4))
            c, d = sides[2], sides[3]
            first = first + long * ((c + 2 * b + 2 * a + 2 * other + beyond) / 8 - first)
            long = strong * long
            result[1] = b + long * ((c + b + a + other) / 4 - b)
            result[2] = c + long * ((2 * d + 3 * c + b + a + other) / 8 - c)
        result[0] = result[0] + strong * (first - a)
    before, after = torch.stack(result).unbind(1)
    return torch.cat([before.flip(0), after])
