"""What the layers leave of the coded frames (trellis, psy, motion searched otherwise): a small network answers on average."""

from __future__ import annotations

import torch
from einops import repeat
from torch import nn
from torch.nn import functional as F

from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.transform import quantizer_step

_FOLD = 4


class PlaneCorrection(nn.Module):
    """Residual of coded planes, in units of the quantiser's step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        folded = _FOLD**2 + 2 * (_FOLD // 2) ** 2
        self.head = nn.Conv2d(3 * folded + 2 + len(FRAME_TYPES), width, 1)
        self.body = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(3)])
        self.tail = nn.Conv2d(width, folded, 3, padding=1)
        for parameter in self.tail.parameters():  # the layers' own answer to begin with
            nn.init.zeros_(parameter)

    def forward(
        self, coded: tuple[torch.Tensor, ...], predicted: tuple[torch.Tensor, ...], source: tuple[torch.Tensor, ...],
        qp: torch.Tensor, kind: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Luma (N, H, W) and chroma (N, 2, H/2, W/2) to be added to the `coded`; each of the three is such a pair of planes.

        qp: (N, h, w); kind: int64 (N,), frame types.
        """
        step = quantizer_step(qp.detach())[:, None] + 2 / 255
        base, prediction, own = (_folded(*planes) for planes in (coded, predicted, source))
        scale = F.interpolate(step, base.shape[-2:], mode="nearest")
        maps = torch.stack([(qp - 32) / 10, F.pad(qp[..., 1:] - qp[..., :-1], (1, 0)) / 10], 1)
        types = repeat(F.one_hot(kind, len(FRAME_TYPES)).to(base), "n k -> n k h w", h=qp.shape[1], w=qp.shape[2])
        maps = F.interpolate(torch.cat([maps, types], 1), base.shape[-2:], mode="nearest")
        differences = [((x - base) / scale).clamp(-4, 4) for x in (own, prediction)]
        x = self.head(torch.cat([2 * base - 1, *differences, maps], 1))
        for layer in self.body:
            x = x + layer(F.silu(x))
        residual = self.tail(F.silu(x)) * scale
        luma, chroma = residual.split([_FOLD**2, residual.shape[1] - _FOLD**2], 1)
        return F.pixel_shuffle(luma, _FOLD)[:, 0], F.pixel_shuffle(chroma, _FOLD // 2)


def _folded(luma: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """(N, 24, H/4, W/4)."""
    return torch.cat([F.pixel_unshuffle(luma[:, None], _FOLD), F.pixel_unshuffle(chroma, _FOLD // 2)], 1)
