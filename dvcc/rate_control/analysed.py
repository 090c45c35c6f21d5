"""A trained control that sees an analysis encode: x264's own, as the task's network reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip, VideoCodec
from dvcc.control.analysis import analysis_planes
from dvcc.control.deployed.runtime import Control
from dvcc.media.format import ClipSource
from dvcc.pixels import as_float
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import ClipController, add_encode_cost, encode_near
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.surrogate.base import log_coding_error
from dvcc.surrogate.judged import macroblock_degradation
from dvcc.tasks.base import Task
from dvcc.tasks.judging import check_finite


@dataclass(frozen=True)
class AnalysedControl(ClipController):
    """Two encodes by two-pass ABR. The first is x264's alone; the task's network says where it has lost its answer there, and the
    control decides the offsets of the second. corrected: as of `AverageBitrate`.
    """

    control: Control
    task: Task
    codec: VideoCodec = field(default_factory=X264)
    corrected: bool = False
    _uncoded: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def encode_clip(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `ClipController.encode_clip`."""
        plain = self.codec.encode(clip, ABR(target_kbps))
        offsets = self._offsets(clip, self.planes(clip, plain), target_kbps)
        coded = encode_near(
            lambda kbps: self.codec.encode(clip, ABR(kbps, offsets=offsets)), target_kbps, corrected=self.corrected
        )
        return add_encode_cost(coded, [plain, coded])

    @torch.no_grad()
    def planes(self, clip: Clip, coded: EncodedClip) -> np.ndarray:
        """Return what the control sees of an analysis encode of `clip`, float32 (T, 3, h, w), see `analysis_planes`."""
        if clip.digest not in self._uncoded:  # a comparison encodes a clip at many targets, one after the other
            self._uncoded.clear()
            self._uncoded[clip.digest] = check_finite(self.task, self.task.predict(as_float(clip.frames)))
        degradation = macroblock_degradation(self.task, coded.frames, self._uncoded[clip.digest])
        error = log_coding_error(as_float(coded.frames), as_float(clip.frames))
        return analysis_planes(degradation.numpy(), error.numpy(), gop=self.codec.gop)

    def _offsets(self, clip: Clip, planes: np.ndarray, target_kbps: float) -> QPOffsets:
        source = ClipSource(clip)
        decided = LearnedOffsets(self.control, source, target_kbps, self.codec, analysis=iter(planes))
        return QPOffsets(np.stack([offsets for _, offsets in decided.generate(source.frames())]).astype(np.int64))
