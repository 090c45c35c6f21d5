"""The network surrogate: input frames and QPs in, residual of the coded frames and bits out; no encode needed.

First, small version: the published one aligns the previous frame by optical flow and uses spatially-adaptive
normalisation; this one sees the previous input and the previous prediction as they are.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from torch import nn
from torch.nn import functional as F

from dvcc.surrogates.base import NUM_QPS, Prediction, Surrogate
from dvcc.tasks.base import as_float
from dvcc.units import MACROBLOCK

_STRIDE = 4  # the encoder-decoder works at a quarter of the resolution, on pixels folded into channels


class NetworkSurrogate(Surrogate):
    """width: channels. gop: frames per GOP, as in the codec; the position in it is an input."""

    def __init__(self, *, width: int = 48, gop: int = 8) -> None:
        super().__init__()
        self.gop = gop
        self.qp_embedding = nn.Linear(NUM_QPS, 8, bias=False)
        # A learned start, in which near QPs are alike, is quicker than 52 unrelated vectors.
        angles = torch.linspace(0, 1, NUM_QPS)[None] * torch.arange(1, 9)[:, None]
        self.qp_embedding.weight.data.copy_(torch.cos(torch.pi * angles))
        folded = 3 * _STRIDE * _STRIDE
        self.encode = nn.Conv2d(3 * folded + 8 + 2, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Sequential(_Residual(2 * width), _Residual(2 * width))
        self.up = nn.Conv2d(2 * width, width, 3, padding=1)
        self.decode = nn.Sequential(_Residual(width), nn.Conv2d(width, folded, 3, padding=1))
        self.bits = nn.Sequential(nn.Conv2d(2 * width + 8 + 2, width, 1), nn.SiLU(), nn.Conv2d(width, 1, 1))
        for parameter in self.decode[-1].parameters():  # starts as a copy of the input, the trivial answer
            nn.init.zeros_(parameter)

    def forward(self, sample: dict[str, torch.Tensor], qp: torch.Tensor) -> Prediction:
        """See `Surrogate.forward`; the ladder is not used."""
        frames = as_float(sample["frames"])
        coded: list[torch.Tensor] = []
        log_bits = []
        for t in range(frames.shape[1]):
            first = t % self.gop == 0
            before = torch.zeros_like(frames[:, t]) if first else frames[:, t - 1]
            coded_before = torch.zeros_like(frames[:, t]) if first else coded[-1].clamp(0, 1)  # a run-away cannot feed itself
            picture, bits = self._frame(frames[:, t], before, coded_before, qp[:, t], t % self.gop)
            coded.append(picture)
            log_bits.append(bits)
        return Prediction(torch.stack(coded, 1), torch.stack(log_bits, 1))

    def _frame(
        self, frame: torch.Tensor, before: torch.Tensor, coded_before: torch.Tensor, qp: torch.Tensor, position: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = frame.shape[-2:]
        rows, columns = qp.shape[1:3]
        padding = (0, columns * MACROBLOCK - width, 0, rows * MACROBLOCK - height)
        pixels = F.pad(torch.cat([frame, before - frame, coded_before - frame], 1), padding, mode="replicate")
        place = torch.tensor([float(position == 0), position / self.gop], device=frame.device)
        place = place.expand(len(frame), rows, columns, 2)
        condition = rearrange(torch.cat([self.qp_embedding(qp), place], -1), "b h w f -> b f h w")
        fine = repeat(condition, "b f h w -> b f (h s) (w z)", s=MACROBLOCK // _STRIDE, z=MACROBLOCK // _STRIDE)
        features = F.silu(self.encode(torch.cat([F.pixel_unshuffle(pixels, _STRIDE), fine], 1)))
        deep = self.middle(F.silu(self.down(features)))
        features = features + self.up(F.interpolate(deep, scale_factor=2.0, mode="nearest"))
        residual = F.pixel_shuffle(self.decode(features), _STRIDE)[..., :height, :width]
        per_macroblock = reduce(deep, "b f (h s) (w z) -> b f h w", "mean", s=2, z=2)
        log_bits = self.bits(torch.cat([per_macroblock, condition], 1)) + 4
        return frame + residual, torch.logsumexp(rearrange(log_bits, "b 1 h w -> b (h w)"), 1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x + self.body(x))
