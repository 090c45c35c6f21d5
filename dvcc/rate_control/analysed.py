"""A trained control that sees an analysis encode: x264's own, as the task's network reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip, VideoCodec
from dvcc.control.analysis import analysis_planes
from dvcc.control.deployed.runtime import Control
from dvcc.media.format import ClipSource
from dvcc.pixels import as_float
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import ClipController, add_encode_cost, corrected_kbps, largest_within, needs_correction
from dvcc.rate_control.offsets import LearnedOffsets
from dvcc.surrogate.base import log_coding_error, per_macroblock
from dvcc.tasks.base import Task


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
        candidates = [self.codec.encode(clip, ABR(target_kbps, offsets=offsets))]
        if self.corrected and needs_correction(candidates[0], target_kbps):
            asked = corrected_kbps(target_kbps, candidates[0], target_kbps)
            candidates.append(self.codec.encode(clip, ABR(asked, offsets=offsets)))
        return add_encode_cost(largest_within(candidates, target_kbps), candidates, others=plain.num_encodes)

    @torch.no_grad()
    def planes(self, clip: Clip, coded: EncodedClip) -> np.ndarray:
        """Return what the control sees of an analysis encode of `clip`, float32 (T, 3, h, w), see `analysis_planes`."""
        uncoded, frames = as_float(clip.frames), as_float(coded.frames)
        if clip.digest not in self._uncoded:  # a comparison encodes a clip at many targets, one after the other
            self._uncoded.clear()
            self._uncoded[clip.digest] = self.task.predict(uncoded)[None]
        degradation = self.task.degradation(self.task.predict(frames)[None], self._uncoded[clip.digest])[0]
        if degradation.shape[-2:] != uncoded.shape[-2:]:
            degradation = F.interpolate(degradation[:, None], uncoded.shape[-2:])[:, 0]
        error = log_coding_error(frames, uncoded)
        return analysis_planes(per_macroblock(degradation).numpy(), error.numpy(), gop=self.codec.gop)

    def _offsets(self, clip: Clip, planes: np.ndarray, target_kbps: float) -> QPOffsets:
        source = ClipSource(clip)
        decided = LearnedOffsets(self.control, source, target_kbps, self.codec, analysis=iter(planes))
        return QPOffsets(np.stack([offsets for _, offsets in decided.generate(source.frames())]).astype(np.int64))
