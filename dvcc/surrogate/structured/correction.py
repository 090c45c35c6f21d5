"""What the layers leave of the coded frames (trellis, psy, motion searched otherwise): a small network answers on average."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.transform import quantizer_step

_FOLD = 4
_FOLDED = _FOLD**2 + 2 * (_FOLD // 2) ** 2

Pair = tuple[torch.Tensor, torch.Tensor]
"""Luma (N, H, W) and chroma (N, 2, H/2, W/2)."""


class PlaneCorrection(nn.Module):
    """Residual of coded planes, in units of the quantiser's step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3 * _FOLDED + 2 + len(FRAME_TYPES), width, 1)
        self.body = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(3)])
        self.tail = nn.Conv2d(width, _FOLDED, 3, padding=1)
        for parameter in self.tail.parameters():  # the layers' own answer to begin with
            nn.init.zeros_(parameter)

    def forward(self, coded: Pair, predicted: Pair, source: Pair, qp: torch.Tensor, kind: torch.Tensor) -> Pair:
        """Return what is to be added to the `coded` planes.

        qp: (N, h, w); kind: int64 (N,), frame types.
        """
        step = quantizer_step(qp.detach()) + 2 / 255
        first, second = _differences(source, coded, step), _differences(predicted, coded, step)
        luma, chroma = (torch.stack(planes, 1) for planes in zip(coded, first, second, strict=True))
        # Few channels: with those of a pixel side by side a convolution takes less than half the time.
        x = self._first(luma, chroma, qp, kind).contiguous(memory_format=torch.channels_last)
        for layer in self.body:
            x = x + layer(F.silu(x))
        residual = self.tail(F.silu(x)).contiguous()
        residual = (_by_macroblock(residual) * step[:, None, :, None, :, None]).view_as(residual)
        luma, chroma = residual.split([_FOLD**2, residual.shape[1] - _FOLD**2], 1)
        return F.pixel_shuffle(luma, _FOLD)[:, 0], F.pixel_shuffle(chroma, _FOLD // 2)

    def _first(self, luma: torch.Tensor, chroma: torch.Tensor, qp: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        """Return the head: coded planes and two differences, folded to a quarter of the size as it is read.

        Luma is (N, 3, H, W) and chroma (N, 3, 2, H/2, W/2). QPs and frame types are on the grid of macroblocks.
        """
        weight, half = self.head.weight[..., 0, 0], _FOLD // 2
        of_planes, of_maps = weight[:, : 3 * _FOLDED].unflatten(1, (3, _FOLDED)), weight[:, 3 * _FOLDED :]
        scale = weight.new_tensor([2.0, 1.0, 1.0])[:, None]  # planes are shown from -1 to 1
        of_luma, of_chroma = (of_planes * scale).split([_FOLD**2, _FOLDED - _FOLD**2], 2)
        x = F.conv2d(luma, of_luma.unflatten(2, (_FOLD, _FOLD)), stride=_FOLD)
        x = x + F.conv2d(chroma.flatten(1, 2), of_chroma.unflatten(2, (2, half, half)).flatten(1, 2), stride=half)
        before = F.pad(qp[..., 1:] - qp[..., :-1], (1, 0))
        maps = torch.stack([(qp - 32) / 10, before / 10], 1)
        assert self.head.bias is not None
        constant = self.head.bias - of_planes[:, 0].sum(1) + of_maps[:, 2:].T[kind]  # (N, width)
        shift = F.conv2d(maps, of_maps[:, :2, None, None]) + constant[:, :, None, None]
        return (_by_macroblock(x) + shift[:, :, :, None, :, None]).view_as(x)


def _by_macroblock(x: torch.Tensor) -> torch.Tensor:
    """(N, C, h, 4, w, 4) of what is folded, (N, C, 4h, 4w)."""
    return x.unflatten(2, (-1, _FOLD)).unflatten(4, (-1, _FOLD))


def _differences(planes: Pair, base: Pair, step: torch.Tensor) -> Pair:
    """`planes` less `base`, in steps (N, h, w), within -4 and 4."""
    luma, chroma = ((x - y) for x, y in zip(planes, base, strict=True))
    height, width = step.shape[1:]
    luma = luma.unflatten(1, (height, -1)).unflatten(3, (width, -1)) / step[:, :, None, :, None]
    chroma = chroma.unflatten(2, (height, -1)).unflatten(4, (width, -1)) / step[:, None, :, None, :, None]
    return luma.clamp(-4, 4).flatten(3).flatten(1, 2), chroma.clamp(-4, 4).flatten(4).flatten(2, 3)
