"""Per-clip optimisation on the real codec: how much a map could gain at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from dvcc.clip import Clip
from dvcc.codecs import ABR, EncodedClip
from dvcc.control.descent import LARGEST_OFFSET
from dvcc.pixels import as_float
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import best_within, corrected_kbps, needs_correction
from dvcc.rate_control.descent import LadderDescent

_STRENGTHS = (0.5, 1.0)
_MUTATION_QPS = 1.5
_FIELD = 4  # a random change has a value for so many macroblocks across, and is smooth between


@dataclass(frozen=True)
class Try:
    """Offsets (T, h, w), what they were coded to, and the real task loss, at the target's bits by the price of bits."""

    offsets: torch.Tensor
    coded: EncodedClip
    loss: float


@dataclass(frozen=True)
class Search(LadderDescent):
    """Offsets on two-pass ABR with the least real task loss that `tries` real encodes find: an upper bound, not a controller.

    It spends the ladder, `tries` encodes of two passes and a correction, and asks the task network about all of them.

    It starts from the offsets of the descent, at half and full strength, and goes on by random smooth changes that are kept if
    the real loss falls.
    """

    tries: int = 12

    def encode_clip(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `ClipController.encode_clip`."""
        with torch.no_grad():
            reference = self.task.predict(as_float(clip.frames))[None]
        spent: list[EncodedClip] = []

        def real(offsets: torch.Tensor | None, kbps: float) -> tuple[EncodedClip, float]:
            values = None if offsets is None else QPOffsets(offsets.round().to(torch.int64).numpy())
            coded = self.codec.encode(clip, ABR(kbps, offsets=values))
            spent.append(coded)
            with torch.no_grad():
                return coded, float(self.task.loss(self.task.predict(as_float(coded.frames))[None], reference))

        asked = target_kbps
        plain, loss = real(None, asked)
        if needs_correction(plain, target_kbps):
            asked = corrected_kbps(asked, plain, target_kbps)
            plain, loss = real(None, asked)
        richer, less = real(None, 1.2 * asked)
        price = max(0.0, (loss - less) / max(1e-3, np.log(richer.bits / plain.bits)))
        zero = torch.zeros(plain.realised_qp().values.shape)
        best = Try(zero, plain, loss)

        def better(best_so_far: Try, offsets: torch.Tensor) -> Try:
            coded, loss = real(offsets, asked)
            other = Try(offsets, coded, loss + price * np.log(coded.bits / plain.bits))
            return min(best_so_far, other, key=lambda candidate: candidate.loss)

        descended = self.descend(clip, torch.tensor(plain.realised_qp().values, dtype=torch.float32))
        for strength in _STRENGTHS:
            best = better(best, strength * descended)
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.tries - len(spent)):
            best = better(best, (best.offsets + smooth_noise(zero.shape, generator)).clamp(-LARGEST_OFFSET, LARGEST_OFFSET))
        final = best.coded
        if needs_correction(final, target_kbps):
            again, _ = real(best.offsets, corrected_kbps(asked, final, target_kbps))
            final = best_within([final, again], target_kbps)
        passes = sum(coded.num_encodes for coded in spent) + len(self.surrogate.rungs.qps)
        return replace(final, num_encodes=passes)


def smooth_noise(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """(T, h, w): a smooth random field, the same in every frame."""
    coarse = torch.randn(1, 1, max(2, shape[1] // _FIELD), max(2, shape[2] // _FIELD), generator=generator)
    return _MUTATION_QPS * F.interpolate(coarse, tuple(shape[1:]), mode="bilinear", align_corners=True)[0].expand(
        shape[0], -1, -1
    )
