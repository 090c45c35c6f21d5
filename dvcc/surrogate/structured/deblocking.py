"""The deblocking filter (ITU-T H.264, 8.7), with thresholds that are smooth in QP and soft decisions.

All vertical edges of a picture are filtered at once, then all horizontal ones; the standard goes macroblock by macroblock.
"""

from __future__ import annotations

import torch

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
    plane = _filtered(plane, qp, strength_x, side)
    plane, qp, strength_y = (x.transpose(-1, -2) for x in (plane, qp, strength_y))
    return _filtered(plane, qp, strength_y, side).transpose(-1, -2)


def _filtered(plane: torch.Tensor, qp: torch.Tensor, strength: torch.Tensor, side: int) -> torch.Tensor:
    """Vertical edges."""
    half = side // 2
    width = plane.shape[-1]
    groups = plane[..., half : width - half].unflatten(-1, (-1, side))  # around every edge but the frame's own
    p, q = groups[..., :half].flip(-1), groups[..., half:]  # from the edge outwards

    def of_edges(x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(side, 1)

    mean_qp = of_edges((qp[..., 1:] + qp[..., :-1]) / 2)
    bs = of_edges(strength[..., 1:])
    alpha, beta = thresholds(mean_qp)
    p0, p1, q0, q1 = p[..., 0], p[..., 1], q[..., 0], q[..., 1]

    def below(x: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((limit - x.abs()) / (_SOFT * limit + 1e-4))

    gate = below(p0 - q0, alpha) * below(p1 - p0, beta) * below(q1 - q0, beta) * (bs > 0.5)
    smooth_p, smooth_q = (below(x[..., min(2, half - 1)] - x[..., 0], beta) if side == 8 else gate.new_ones(()) for x in (p, q))
    limit = clipping(mean_qp, bs) + (smooth_p + smooth_q if side == 8 else 1.0) / 255 * 0.5
    delta = torch.clamp((4 * (q0 - p0) + p1 - q1) / 8, -limit, limit)
    strong = gate * (bs > 3.5)
    weak = gate - strong
    close = below(p0 - q0, alpha / 4 + 2 / 255) if side == 8 else gate.new_zeros(())
    sides = []
    for near, far, smooth, sign in ((p, q, smooth_p, 1), (q, p, smooth_q, -1)):
        a, b, other, beyond = near[..., 0], near[..., 1], far[..., 0], far[..., 1]
        short = (2 * b + a + beyond) / 4
        if side == 8:
            long = smooth * close
            c = near[..., 2]
            first = long * (c + 2 * b + 2 * a + 2 * other + beyond) / 8 + (1 - long) * short
            second = b + strong * long * ((c + b + a + other) / 4 - b)
            third = c + strong * long * ((2 * near[..., 3] + 3 * c + b + a + other) / 8 - c)
            rest = [second, third, near[..., 3]]
        else:
            first, rest = short, [b]
        sides.append(torch.stack([a + strong * (first - a) + sign * weak * delta, *rest], -1))
    middle = torch.cat([sides[0].flip(-1), sides[1]], -1).flatten(-2)
    return torch.cat([plane[..., :half], middle, plane[..., width - half :]], -1)
