"""Intra prediction as one matrix per block size (ITU-T H.264, 8.3), and the planes that everything works on.

A prediction is linear in the samples around a block, so all modes of all blocks are one product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from einops import einsum, rearrange
from torch import nn
from torch.nn import functional as F

_BT601 = torch.tensor([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
_GREY = 0.5  # what stands for samples outside the picture


def to_planes(rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma (N, H, W) and chroma (N, 2, H/2, W/2) of pictures (N, 3, H, W) 0..1: BT.601, limited range, 0..1 for 0..255."""
    y, u, v = einsum(_BT601.to(rgb), rgb, "k c, n c h w -> k n h w")
    return y + 16 / 255, F.avg_pool2d(torch.stack([u, v], 1), 2) + 128 / 255


def rgb_difference(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W): what differences of planes (N, H, W) and (N, 2, H/2, W/2) are in RGB."""
    full = F.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    return einsum(torch.linalg.inv(_BT601).to(luma), torch.cat([luma[:, None], full], 1), "c k, n k h w -> n c h w")


class IntraModes(nn.Module):
    """Predictions of square blocks of `side` samples from those around.

    All modes of the standard for 4 and 8; for 16 horizontal, vertical, the mean and a plane; for chroma (8, `few`) the first
    three.
    """

    weights: torch.Tensor

    def __init__(self, side: int, *, few: bool = False) -> None:
        super().__init__()
        self.side = side
        modes = [_vertical, _horizontal, _mean]
        if side == 16:
            modes += [_plane]
        elif not few:
            modes += [_down_left, _down_right, _vertical_right, _horizontal_down, _vertical_left, _horizontal_up]
        self.register_buffer("weights", torch.stack([_matrix(mode, side) for mode in modes]), persistent=False)

    def forward(self, plane: torch.Tensor) -> torch.Tensor:
        """(N, H/side, W/side, modes, side^2) of a plane (N, H, W): every block from what is around it in this same plane."""
        return einsum(self._around(plane), self.weights, "n h w k, m p k -> n h w m p")

    def chosen(self, plane: torch.Tensor, modes: torch.Tensor, *, where: torch.Tensor | None = None) -> torch.Tensor:
        """(N, H, W): the predictions with `modes` int64 (N, H/side, W/side). where: bool, of as many blocks; the others are 0."""
        around = self._around(plane).flatten(0, 2)
        index = modes.flatten() if where is None else torch.where(where, modes, -1).flatten()
        blocks = plane.new_zeros(len(index), self.side**2)
        for mode, matrix in enumerate(self.weights):
            rows = (index == mode).nonzero()[:, 0]
            blocks[rows] = around[rows] @ matrix.T
        blocks = blocks.unflatten(0, modes.shape)
        return rearrange(blocks, "n h w (i j) -> n (h i) (w j)", i=self.side)

    def _around(self, plane: torch.Tensor) -> torch.Tensor:
        """(N, h, w, 3 side + 1): above and to the left of every block, the corner, above, above to the right, left."""
        side, width = self.side, plane.shape[-1]
        padded = F.pad(plane[:, None], (1, side, 1, 0), value=_GREY)[:, 0]
        rows = padded[:, ::side][:, : plane.shape[1] // side]
        above = rows.unfold(-1, 2 * side + 1, side)[:, :, : width // side]
        left = rearrange(padded[:, 1:, :width:side], "n (h i) w -> n h w i", i=side)
        return torch.cat([above, left], -1)


Mode = Callable[[int, int, int], dict[int, float]]
"""Weights of samples for the pixel (x, y) of a block of a side. A sample is a place on the edge that runs up the left side (-side
.. -1), through the corner (0), along the top (1 .. 2 side)."""


@lru_cache
def _matrix(mode: Mode, side: int) -> torch.Tensor:
    """(side^2, 3 side + 1)."""
    rows = [[0.0] * (3 * side + 1) for _ in range(side * side)]
    for y in range(side):
        for x in range(side):
            for place, weight in mode(x, y, side).items():
                place = max(-side, min(2 * side, place))
                rows[y * side + x][place if place >= 0 else 2 * side - place] += weight
    return torch.tensor(rows)


def _two(a: int, b: int) -> dict[int, float]:
    return {a: 0.5, b: 0.5}


def _three(a: int, b: int, c: int) -> dict[int, float]:
    weights: dict[int, float] = {}
    for place, weight in ((a, 0.25), (b, 0.5), (c, 0.25)):
        weights[place] = weights.get(place, 0) + weight
    return weights


def _vertical(x: int, y: int, side: int) -> dict[int, float]:
    return {x + 1: 1.0}


def _horizontal(x: int, y: int, side: int) -> dict[int, float]:
    return {-y - 1: 1.0}


def _mean(x: int, y: int, side: int) -> dict[int, float]:
    return dict.fromkeys((*range(-side, 0), *range(1, side + 1)), 0.5 / side)


def _down_left(x: int, y: int, side: int) -> dict[int, float]:
    last = 2 * side
    return _three(min(x + y + 1, last), min(x + y + 2, last), min(x + y + 3, last))


def _down_right(x: int, y: int, side: int) -> dict[int, float]:
    return _three(x - y - 1, x - y, x - y + 1)


def _vertical_right(x: int, y: int, side: int) -> dict[int, float]:
    place = x - y // 2
    if 2 * x - y < -1:
        place = 2 * x - y + 1
        return _three(place - 1, place, place + 1)
    return _two(place, place + 1) if y % 2 == 0 else _three(place - 1, place, place + 1)


def _horizontal_down(x: int, y: int, side: int) -> dict[int, float]:
    return {-place: weight for place, weight in _vertical_right(y, x, side).items()}


def _vertical_left(x: int, y: int, side: int) -> dict[int, float]:
    place = x + y // 2 + 1
    return _two(place, place + 1) if y % 2 == 0 else _three(place, place + 1, place + 2)


def _horizontal_up(x: int, y: int, side: int) -> dict[int, float]:
    place = y + x // 2
    places = [-min(place + k, side - 1) - 1 for k in range(3)]
    if places[0] == places[1]:
        return {places[0]: 1.0}
    if x % 2:
        return _three(*places)
    return _two(*places[:2])


def _plane(x: int, y: int, side: int) -> dict[int, float]:
    """Linear in x and y: its slopes are those of the samples around, weighted by their distance from the middle."""
    weights = {-side: 0.5, side: 0.5}
    for k in range(1, 9):
        for sign, along in ((1, x), (-1, y)):
            for place, slope in ((sign * (8 + k), k), (sign * (8 - k), -k)):
                weights[place] = weights.get(place, 0) + slope * 5 / 64 * (along - 7) / 32
    return weights
