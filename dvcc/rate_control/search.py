"""Per-clip optimisation on the real codec: how much a map could gain at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import default_collate

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip
from dvcc.codecs.cache import EncodeCache
from dvcc.control.descent import LARGEST_OFFSET, descend
from dvcc.control.objective import Response
from dvcc.pixels import as_float
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import ClipController, best_within, corrected_kbps, needs_correction
from dvcc.surrogate import AnchoredSurrogate
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks.base import Task

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
class Search(ClipController):
    """Offsets on two-pass ABR with the least real task loss that `tries` real encodes find: an upper bound, not a controller. It
    spends the ladder, `tries` encodes of two passes and a correction, and asks the task network about all of them.

    It starts from the offsets that lower the loss most at equal bits as the surrogate reads them off the clip's own ladder, at
    half and full strength, and goes on by random smooth changes that are kept if the real loss falls.
    """

    task: Task
    surrogate: AnchoredSurrogate
    cache: EncodeCache
    codec: X264 = field(default_factory=X264)
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

        def better(one: Try, offsets: torch.Tensor) -> Try:
            coded, loss = real(offsets, asked)
            other = Try(offsets, coded, loss + price * np.log(coded.bits / plain.bits))
            return min(one, other, key=lambda candidate: candidate.loss)

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

    def descend(self, clip: Clip, base: torch.Tensor) -> torch.Tensor:
        """(T, h, w): offsets from x264's own QPs `base` (T, h, w), the same in all frames, see `control.descent.descend`."""
        rungs = tuple(int(qp) for qp in self.surrogate.rungs.qps)
        samples = LadderSamples([clip], codec=self.codec, cache=self.cache, qps=rungs)
        sample = default_collate([samples[0]])
        degradation = JudgedLadders(self.task, samples).degradation(0, sample)
        with torch.no_grad():
            analysis = self.surrogate.analyse({**sample, "ladder_degradation": degradation})
        analysis = self.surrogate.without_pixels(analysis)

        def answers(qp: torch.Tensor) -> Response:
            predicted = self.surrogate.predict(analysis, soft_qp(qp), shown=[])
            assert predicted.degradation is not None
            return self.task.loss_of(predicted.degradation), predicted.log_clip_bits

        return descend(answers, base[None])[0].expand_as(base)


def smooth_noise(shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """(T, h, w): a smooth random field, the same in every frame."""
    coarse = torch.randn(1, 1, max(2, shape[1] // _FIELD), max(2, shape[2] // _FIELD), generator=generator)
    return _MUTATION_QPS * F.interpolate(coarse, tuple(shape[1:]), mode="bilinear", align_corners=True)[0].expand(
        shape[0], -1, -1
    )
