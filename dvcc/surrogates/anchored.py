"""The anchored surrogate: real encodes at a ladder of constant QPs, composed macroblock by macroblock.

A macroblock coded at QP q looks much like the co-located one of the rungs around q, and costs its share of what the
frame costs there. Only the share is learned (the correction network is a later stage).
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import nn
from torch.nn import functional as F

from dvcc.surrogates.base import Prediction, Surrogate, interpolation_weights
from dvcc.tasks.base import as_float
from dvcc.units import MACROBLOCK, macroblock_grid


class AnchoredSurrogate(Surrogate):
    """qps: QPs of the rungs, rising, as in the ladder of every sample. width: channels of the share network.

    Flat maps at a rung are exact, frames and bits.
    """

    _rung_weights: torch.Tensor

    def __init__(self, *, qps: tuple[int, ...], width: int = 32) -> None:
        super().__init__()
        self.qps = tuple(qps)
        self.register_buffer("_rung_weights", interpolation_weights(self.qps), persistent=False)
        # Per macroblock: log activity in space and time, and the log coding error of every rung.
        self.share = nn.Sequential(
            nn.Conv2d(2 + len(qps), width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, len(qps), 1),
        )
        for parameter in self.share[-1].parameters():
            nn.init.zeros_(parameter)
        # Bits to signal a QP that differs from its left neighbour's by one, in the first frame and in the others: no rung
        # pays for it. H.264 codes the difference in unary, so the cost is about proportional.
        self.log_signal_bits = nn.Parameter(torch.zeros(2))

    def forward(self, sample: dict[str, torch.Tensor], qp: torch.Tensor) -> Prediction:
        """See `Surrogate.forward`."""
        frames = as_float(sample["frames"])
        rungs = rearrange(as_float(sample["ladder_frames"]), "b r t c h w -> b t r c h w")
        grid = macroblock_grid(*frames.shape[-2:])
        return Prediction(
            self._compose(rungs, self._sample_rungs(qp), frames.shape[-2:]),
            self._log_bits(frames, rungs, sample["ladder_bits"], qp, grid),
        )

    def _sample_rungs(self, qp: torch.Tensor) -> torch.Tensor:
        """(B, T, h, w, R): one rung per macroblock, drawn from the two around its QP; straight-through.

        A blend of rungs averages their coding noise and looks better than any real encode (by about 1 dB), which
        would reward a control for being undecided.
        """
        soft = qp @ self._rung_weights
        if not self.training:
            chosen = soft.argmax(-1)
        else:
            chosen = torch.distributions.Categorical(probs=soft.detach().clamp(min=1e-9)).sample()
        hard = F.one_hot(chosen, len(self.qps)).to(soft.dtype)
        return hard + soft - soft.detach()

    def _compose(self, rungs: torch.Tensor, weights: torch.Tensor, size: torch.Size) -> torch.Tensor:
        per_pixel = repeat(weights, "b t h w r -> b t r 1 (h mh) (w mw)", mh=MACROBLOCK, mw=MACROBLOCK)
        return reduce(rungs * per_pixel[..., : size[0], : size[1]], "b t r c h w -> b t c h w", "sum")

    def _log_bits(
        self, frames: torch.Tensor, rungs: torch.Tensor, ladder_bits: torch.Tensor, qp: torch.Tensor, grid: tuple[int, int]
    ) -> torch.Tensor:
        """(B, T): log of sum over macroblocks and QPs of weight x share x the frame's bits at that QP."""
        bits_at_qp = torch.exp(einsum(self._rung_weights, torch.log(ladder_bits), "q r, b r t -> b t q"))
        share_at_qp = einsum(self._shares(frames, rungs, grid), self._rung_weights, "b t r h w, q r -> b t h w q")
        texture = einsum(qp, share_at_qp, bits_at_qp, "b t h w q, b t h w q, b t q -> b t")
        return torch.log(texture + self._signal_bits(qp))

    def _signal_bits(self, qp: torch.Tensor) -> torch.Tensor:
        """(B, T): bits spent on differences between the QPs of neighbours."""
        level = qp @ torch.arange(qp.shape[-1], dtype=qp.dtype, device=qp.device)
        steps = reduce((level[..., 1:] - level[..., :-1]).abs(), "b t h w -> b t", "sum")
        cost = self.log_signal_bits.exp()
        return steps * torch.cat([cost[:1], cost[1:].expand(qp.shape[1] - 1)])

    def _shares(self, frames: torch.Tensor, rungs: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """(B, T, R, h, w): share of every macroblock in its frame's bits at every rung; sums to 1 over h, w."""
        luma = reduce(frames, "b t c h w -> b t h w", "mean")
        activity = (luma[..., 1:, :] - luma[..., :-1, :]).abs()[..., :-1] + (luma[..., :, 1:] - luma[..., :, :-1]).abs()[
            ..., :-1, :
        ]
        motion = torch.cat([torch.zeros_like(luma[:, :1]), (luma[:, 1:] - luma[:, :-1]).abs()], 1)
        error = reduce((rungs - frames[:, :, None]).abs(), "b t r c h w -> b t r h w", "mean")
        features = [_per_macroblock(x, grid) for x in (F.pad(activity, (0, 1, 0, 1))[:, :, None], motion[:, :, None], error)]
        logs = torch.log(torch.cat(features, 2) + 1e-3)
        # Bits follow activity to begin with: in space for the first frame, in time for the others.
        start = torch.cat([logs[:, :1, :1], logs[:, 1:, 1:2]], 1)
        learned = self.share(rearrange(logs, "b t f h w -> (b t) f h w"))
        logits = start + rearrange(learned, "(b t) r h w -> b t r h w", b=len(frames))
        return rearrange(logits, "b t r h w -> b t r (h w)").softmax(-1).unflatten(-1, grid)


def _per_macroblock(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Mean over every macroblock: (B, T, F, H, W) to (B, T, F, h, w); the last ones may be cut by the frame."""
    height, width = x.shape[-2:]
    padding = (0, grid[1] * MACROBLOCK - width, 0, grid[0] * MACROBLOCK - height)
    padded = F.pad(rearrange(x, "b t f h w -> (b t) f h w"), padding, mode="replicate")
    pooled = reduce(padded, "n f (h mh) (w mw) -> n f h w", "mean", mh=MACROBLOCK, mw=MACROBLOCK)
    return rearrange(pooled, "(b t) f h w -> b t f h w", b=len(x))
