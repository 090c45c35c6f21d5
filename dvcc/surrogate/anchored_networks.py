"""The two networks of the anchored surrogate: one on the macroblock grid, one on pixels."""

from __future__ import annotations

import torch
from einops import repeat
from torch import nn
from torch.nn import functional as F

from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.transform import error_bits
from dvcc.units import MACROBLOCK

_FOLD = 4  # the correction works on pixels folded into channels
_LARGEST_GAIN = 4.0  # of log bits: a factor of 55


class MacroblockNetwork(nn.Module):
    """How far a macroblock takes over its references' quality, and what its bits are beyond its share of a flat map's.

    The log gain of the bits is the answer less the answer to the same QPs without any differences (to the references, to the
    neighbours), so a flat map changes nothing, whatever was learned.
    """

    def __init__(self, num_static: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(num_static + 14 + 6, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()
        )
        self.head = nn.Conv2d(width, 2 + 1 + 2, 1)
        zero_(self.head)
        # Mostly its own QP to begin with, and little signalling or mending.
        self.head.bias = nn.Parameter(torch.tensor([-2.0, -2.0, 0.0, -1.0, -4.0]))

    def forward(
        self,
        qp: torch.Tensor,
        past: torch.Tensor,
        future: torch.Tensor,
        *,
        static: torch.Tensor,
        errors: list[torch.Tensor],
        costs: list[torch.Tensor],
        bits: torch.Tensor,
        mean_bits: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """From QPs (M, h, w) and the effective ones of the references: weights of these, gain of the bits, bits beyond.

        The weights (M, 2, h, w) are in 0..1. The gain (M, h, w) is a logarithm. The bits beyond (M, h, w) are for signalling QPs,
        and for correcting a reference that is worse than the macroblock is to be.
        """
        around = F.avg_pool2d(F.pad(qp[:, None], (1, 1, 1, 1), mode="replicate"), 3, 1)[:, 0]
        # H.264 codes the difference to the macroblock before, in unary: the cost is about proportional.
        step = F.pad(qp[..., 1:] - qp[..., :-1], (1, 0)).abs()
        to_past, to_future = past - qp, future - qp
        differences = torch.stack([to_past, to_future, to_past.abs(), to_future.abs(), around - qp, step], 1) / 5
        levels = [(x - 32) / 10 for x in (qp, past, future)]
        centred = [(cost - 5) / 2 for cost in costs]
        at_qp, *of_references = (error_bits(error.exp(), qp) for error in errors)
        seen = [*errors, *centred, *(x / 100 for x in (at_qp, *of_references)), bits - mean_bits, mean_bits / 4, *levels]
        same = torch.cat([static, torch.stack(seen, 1)], 1)
        mixed, flat = (torch.cat([same, d], 1) for d in (differences, torch.zeros_like(differences)))
        # Channels last: twice as fast on a CPU.
        both = torch.cat([mixed, flat]).contiguous(memory_format=torch.channels_last)
        output, without = self.head(self.body(both)).chunk(2)
        gain = _LARGEST_GAIN * torch.tanh((output[:, 2] - without[:, 2]) / _LARGEST_GAIN)
        mending = (torch.minimum(*of_references) - at_qp).clamp(min=0) * output[:, 4].sigmoid()
        return output[:, :2].sigmoid(), gain, step * F.softplus(output[:, 3]) + mending


class CorrectionNetwork(nn.Module):
    """Residual for composed frames; sees and answers in units of the coding error of each macroblock."""

    def __init__(self, width: int) -> None:
        super().__init__()
        pictures, maps = 1 + 2 + 2 * 2, 4 + len(FRAME_TYPES)
        self.head = nn.Conv2d(3 * pictures * _FOLD**2 + maps, width, 3, padding=1)
        self.body = nn.Sequential(*(_Residual(width) for _ in range(2)))
        self.tail = nn.Conv2d(width, 3 * _FOLD**2, 3, padding=1)
        zero_(self.tail)

    def forward(self, drawn: torch.Tensor, *others: torch.Tensor, maps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """(T, 3, H, W) of `drawn` and pictures like it (T, 3 or 6, H, W), maps (T, 7, h, w), scale (T, 1, H, W)."""
        height, width = drawn.shape[-2:]
        base = torch.cat([drawn, drawn], 1)
        differences = [((x - base[:, : x.shape[1]]) / (2 * scale)).clamp(-4, 4) for x in others]
        pixels = torch.cat([2 * drawn - 1, *differences], 1)
        pixels = F.pad(pixels, (0, -width % MACROBLOCK, 0, -height % MACROBLOCK), mode="replicate")
        side = MACROBLOCK // _FOLD
        coarse = repeat(maps, "t c h w -> t c (h a) (w b)", a=side, b=side)
        features = self.head(torch.cat([F.pixel_unshuffle(pixels, _FOLD), coarse], 1))
        return F.pixel_shuffle(self.tail(self.body(features)), _FOLD)[..., :height, :width] * scale


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def to_pixels(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """(T, C, h, w) to (T, C, H, W), constant within a macroblock."""
    return repeat(x, "t c h w -> t c (h a) (w b)", a=MACROBLOCK, b=MACROBLOCK)[..., : size[0], : size[1]]


def zero_(layer: nn.Module) -> None:
    """Start a last layer at zero: what it is added to is the answer to begin with."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
