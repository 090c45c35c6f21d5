"""Block motion search in the manner of an encoder: from coarse to quarter pixels, blocks of 16 and, where that pays, of 8."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch.nn import functional as F

from dvcc.units import MACROBLOCK

BLOCK = 8
"""Pixels to a side of the smallest block that moves."""

_REACH = (8, 12)  # down and across, in pixels of the picture at a quarter of the size
_PER_VECTOR = 0.5 / 255  # grey levels of mean error that one more pixel of motion must save, at a quarter of the size
_SMOOTH = 1.0 / 255  # grey levels of mean error that one bit less must save in the smoothest field: about x264's at QP 35
_SWEEPS = 3


def upsample(plane: torch.Tensor) -> torch.Tensor:
    """(M, H, W) to (M, 2H, 2W): half pixels by the standard's six taps (8.4.2.2.1), the border repeated."""
    for dim, padding in ((1, (0, 0, 2, 3)), (2, (2, 3, 0, 0))):
        padded, count = F.pad(plane[:, None], padding, mode="replicate")[:, 0], plane.shape[dim]
        outer, middle, inner = (padded.narrow(dim, k, count) + padded.narrow(dim, 5 - k, count) for k in range(3))
        half = torch.add(torch.add(outer, middle, alpha=-5), inner, alpha=20) / 32
        plane = torch.stack([plane, half], dim + 1).flatten(dim, dim + 1)
    return plane


def moved(plane: torch.Tensor, vectors: torch.Tensor, *, scale: float) -> torch.Tensor:
    """Return what `plane` (M, C, ..) shows of every block of 8 pixels moved by vectors (M, 2, H/8, W/8) in pixels.

    Bilinear, the border repeated. scale: samples of the plane per pixel of luma; 2 of its half pixels makes (M, C, H, W), 0.5 of
    chroma half of it.
    """
    step = max(1, round(1 / scale))  # pixels of luma from one of the result to the next
    size = torch.tensor([plane.shape[-1] - 1, plane.shape[-2] - 1], dtype=plane.dtype, device=plane.device).clamp(min=1)
    unit = 2 * scale / size  # of a pixel, where the plane goes from -1 to 1
    h, w = vectors.shape[-2:]
    x, y = (torch.arange(0, n * BLOCK, step, dtype=plane.dtype, device=plane.device) * unit[k] - 1 for k, n in enumerate((w, h)))
    still = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(h, BLOCK // step, -1)
    # A row of blocks is the same for each of its lines: added as whole lines, which is what makes it fast.
    lines = (vectors.movedim(1, -1) * unit).repeat(1, 1, 1, BLOCK // step).flatten(2)[:, :, None]
    places = (still + lines).view(len(vectors), len(y), len(x), 2)
    return F.grid_sample(plane, places, padding_mode="border", align_corners=True)


class Fields(NamedTuple):
    """Three fields of vectors, of blocks of 8, of 16, and of 16 like their neighbours: an encoder chooses by what bits are worth.

    vectors: (.., 3, 2, H/8, W/8), x then y, in pixels, quarters. error: (.., 3, h, w), mean absolute error of every macroblock.
    bits: (.., 3, h, w), about what the vectors of a macroblock cost.
    """

    vectors: torch.Tensor
    error: torch.Tensor
    bits: torch.Tensor

    def at(self, qp: torch.Tensor) -> torch.Tensor:
        """(M, 2, H/8, W/8): the vectors that cost least, with error, at QPs (M, h, w); of fields of M frames."""
        # x264's lambda, for absolute differences: one bit is worth so many grey levels of one pixel.
        price = torch.exp2((qp.detach() - 12) / 6) / 255 / MACROBLOCK**2
        chosen = (self.error + price[:, None] * self.bits).argmin(1)
        index = chosen.repeat_interleave(2, -2).repeat_interleave(2, -1)[:, None, None]
        return self.vectors.gather(1, index.expand(-1, -1, 2, -1, -1))[:, 0]


@torch.no_grad()
def block_motion(current: torch.Tensor, reference: torch.Tensor) -> Fields:
    """Where every block of `current` (P, H, W) comes from in `reference`: P fields. H and W are multiples of 16.

    Encoders search from the vectors around; this one looks at all within 48 pixels across and 32 down, at a quarter of the size.
    """
    halves = upsample(reference)
    large = _refined(current, reference, halves, _coarse(current, reference), side=16)
    fine = _refined(current, reference, halves, _spread(large[0]), side=8)
    smooth = _smoothed(current, halves, large[0])
    of_fine = F.avg_pool2d(fine[1][:, None], 2)[:, 0]
    vectors = [fine[0], *(x.repeat_interleave(2, -2).repeat_interleave(2, -1) for x in (large[0], smooth[0]))]
    bits = [4 * F.avg_pool2d(_bits(fine[0])[:, None], 2)[:, 0], _bits(large[0]), _bits(smooth[0])]
    return Fields(torch.stack(vectors, 1), torch.stack([of_fine, large[1], smooth[1]], 1), torch.stack(bits, 1))


def _bits(vectors: torch.Tensor, around: torch.Tensor | None = None) -> torch.Tensor:
    """(P, h, w): about what vectors (P, 2, h, w) cost: a code of their difference to the mean of those around."""
    padded = F.pad(vectors if around is None else around, (1, 1, 1, 0), mode="replicate")
    height, width = vectors.shape[-2:]
    left, up, right = padded[..., 1:, :width], padded[..., :height, 1:-1], padded[..., :height, 2:]
    # The median of three, as the standard predicts it.
    expected = torch.stack([left, up, right]).median(0).values
    return (1 + 2 * torch.log2(1 + 4 * (vectors - expected).abs())).sum(1)


def _smoothed(current: torch.Tensor, halves: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (P, 2, H/16, W/16) of blocks of 16, a neighbour's or none where these cost less; and their error."""
    blocks = rearrange(current, "p (h a) (w b) -> p h w a b", a=16, b=16)

    def error(quarters: torch.Tensor) -> torch.Tensor:
        below = torch.div(quarters, 2, rounding_mode="floor")
        window = _windows(halves, below, side=16, margin=1, step=2)[..., 1:, 1:]
        x, y = ((quarters - 2 * below)[:, k, ..., None, None] / 2 for k in range(2))
        across = window[..., :-1] * (1 - x) + window[..., 1:] * x
        moved = across[..., :-1, :] * (1 - y) + across[..., 1:, :] * y
        return (moved[..., ::2, ::2] - blocks).abs().mean((-2, -1))

    quarters = (4 * vectors).round().long()
    cost = error(quarters)
    for _ in range(_SWEEPS):
        padded = F.pad(quarters.float(), (1, 1, 1, 1), mode="replicate").long()
        height, width = quarters.shape[-2:]
        around = [padded[..., y : y + height, x : x + width] for y, x in ((1, 0), (0, 1), (1, 2), (2, 1))]
        middle = torch.stack(around).float().median(0).values.long()
        now = quarters.float() / 4
        for candidate in (torch.zeros_like(quarters), middle, around[0], around[1]):
            other = error(candidate)
            dearer = _bits(candidate.float() / 4, now) - _bits(quarters.float() / 4, now)
            better = other + _SMOOTH * dearer < cost
            quarters, cost = torch.where(better[:, None], candidate, quarters), torch.where(better, other, cost)
    return quarters.to(current) / 4, cost


def _coarse(current: torch.Tensor, reference: torch.Tensor) -> list[torch.Tensor]:
    """Candidate vectors (P, 2, H/16, W/16) of whole pixels: the best for a block, the best with its neighbours, none."""
    small, other = (F.avg_pool2d(x[:, None], 4) for x in (current, reference))
    height, width = small.shape[-2:]
    down, across = _REACH
    padded = F.pad(other, (across, across, down, down), mode="replicate")
    best: list[tuple[torch.Tensor, torch.Tensor]] = []
    for dy in range(-down, down + 1):
        for dx in range(-across, across + 1):
            moved = padded[..., down + dy : down + dy + height, across + dx : across + dx + width]
            error = F.avg_pool2d((small - moved).abs(), 4) + _PER_VECTOR / 4 * (abs(dx) + abs(dy))
            around = F.avg_pool2d(F.pad(error, (1, 1, 1, 1), mode="replicate"), 3, 1)
            vector = 4 * torch.tensor([dx, dy], device=small.device)[None, :, None, None]
            for k, cost in enumerate((error, around)):
                if len(best) == k:
                    best.append((cost, vector.expand(-1, -1, *cost.shape[-2:])))
                else:
                    better = cost < best[k][0]
                    best[k] = torch.minimum(cost, best[k][0]), torch.where(better, vector, best[k][1])
    return [vectors.expand(len(current), -1, -1, -1) for _, vectors in best] + [torch.zeros_like(best[0][1])]


def _spread(vectors: torch.Tensor) -> list[torch.Tensor]:
    """Of vectors of blocks of 16, candidates for those of 8, whole pixels: the block's own, and those of the nearest others."""
    whole = vectors.round().long()
    own = whole.repeat_interleave(2, -2).repeat_interleave(2, -1)
    padded = F.pad(own.float(), (1, 1, 1, 1), mode="replicate").long()
    height, width = own.shape[-2:]
    around = [(1, 0), (1, 2), (0, 1), (2, 1)]
    return [own, *(padded[..., y : y + height, x : x + width] for y, x in around)]


def _refined(
    current: torch.Tensor, reference: torch.Tensor, halves: torch.Tensor, candidates: list[torch.Tensor], *, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best of the candidates (P, 2, h, w) of whole pixels, refined to quarters; and its mean error (P, h, w)."""
    blocks = rearrange(current, "p (h a) (w b) -> p h w a b", a=side, b=side)

    def error(window: torch.Tensor) -> torch.Tensor:
        return (window - blocks).abs().mean((-2, -1))

    vectors, cost = candidates[0], error(_windows(reference, candidates[0], side=side, margin=0))
    for candidate in candidates[1:]:
        other = error(_windows(reference, candidate, side=side, margin=0))
        better = other < cost
        vectors, cost = torch.where(better[:, None], candidate, vectors), torch.minimum(cost, other)
    window = _windows(reference, vectors, side=side, margin=2)
    vectors, cost = _best(
        vectors, {(x, y): error(window[..., y + 2 : y + 2 + side, x + 2 : x + 2 + side]) for y in _FIVE for x in _FIVE}
    )
    window = _windows(halves, 2 * vectors, side=side, margin=1, step=2)
    vectors, cost = _best(
        2 * vectors, {(x, y): error(window[..., y + 1 :: 2, x + 1 :: 2][..., :side, :side]) for y in _THREE for x in _THREE}
    )
    window = _windows(halves, vectors, side=side, margin=1, step=2)
    quarters = {}
    for y in _THREE:
        for x in _THREE:
            far, near = (window[..., 1 + b :: 2, 1 + a :: 2][..., :side, :side] for a, b in ((x, y), (0, 0)))
            quarters[x, y] = error((far + near) / 2)
    vectors, cost = _best(2 * vectors, quarters)
    return vectors.to(current) / 4, cost


_THREE, _FIVE = (0, -1, 1), (0, -1, 1, -2, 2)


def _best(vectors: torch.Tensor, costs: dict[tuple[int, int], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """`vectors` (P, 2, h, w) moved by the offset of the least cost (P, h, w)."""
    offsets = torch.tensor(list(costs), device=vectors.device)
    cost, index = torch.stack(list(costs.values())).min(0)
    return vectors + offsets[index].movedim(-1, 1), cost


def _windows(plane: torch.Tensor, vectors: torch.Tensor, *, side: int, margin: int, step: int = 1) -> torch.Tensor:
    """Return what `plane` (P, H, W) shows of every block of `side` pixels moved by vectors, (P, h, w, n, n).

    Vectors (P, 2, h, w) are in its samples. There is a margin around a block; a pixel is `step` samples. The border is repeated.
    """
    height, width = plane.shape[-2:]
    h, w = vectors.shape[-2:]
    along = torch.arange(-margin, step * side + margin, device=plane.device)
    rows, columns = (torch.arange(n, device=plane.device) * side * step for n in (h, w))
    y = (vectors[:, 1] + rows[:, None])[..., None] + along
    x = (vectors[:, 0] + columns)[..., None] + along
    index = y.clamp(0, height - 1)[..., :, None] * width + x.clamp(0, width - 1)[..., None, :]
    return plane.flatten(1).gather(1, index.flatten(1)).view(index.shape)
