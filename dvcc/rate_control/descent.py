"""Per-clip offsets that the clip's own judged ladder tells: what somebody gains who knows how this clip degrades."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch.utils.data import default_collate

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip
from dvcc.codecs.cache import EncodeCache
from dvcc.control.descent import descend
from dvcc.control.objective import Response
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import ClipController
from dvcc.surrogate import AnchoredSurrogate
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks.base import Task


@dataclass(frozen=True)
class LadderDescent(ClipController):
    """Offsets on two-pass ABR that lower the task loss most at equal bits, as the surrogate reads them off the ladder.

    They are the same in all frames, and read off the clip's own ladder: a mark for a control, which has to predict them. It
    spends the ladder and two encodes, and asks the task network about the ladder.
    """

    task: Task
    surrogate: AnchoredSurrogate
    cache: EncodeCache
    codec: X264 = field(default_factory=X264)

    def encode_clip(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `ClipController.encode_clip`."""
        plain = self.codec.encode(clip, ABR(target_kbps))
        descended = self.descend(clip, torch.tensor(plain.realised_qp().values, dtype=torch.float32))
        coded = self.codec.encode(clip, ABR(target_kbps, offsets=QPOffsets(descended.round().to(torch.int64).numpy())))
        return replace(coded, num_encodes=plain.num_encodes + coded.num_encodes + len(self.surrogate.rungs.qps))

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
            predicted = self.surrogate.predict(analysis, soft_qp(qp), frame_numbers=[])
            assert predicted.degradation is not None
            return self.task.loss_of(predicted.degradation), predicted.log_clip_bits

        return descend(answers, base[None])[0].expand_as(base)
