"""x264's own rate control: the rival."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip
from dvcc.rate_control.base import RateController, best_within, check_target, corrected_kbps, needs_correction


@dataclass(frozen=True)
class AverageBitrate(RateController):
    """One- or two-pass ABR with x264's defaults (AQ, psy and mbtree on).

    corrected: when the result misses the target (`needs_correction`), encode once more, asking for that much less or more.
    """

    codec: X264 = field(default_factory=X264)
    passes: Literal[1, 2] = 2
    corrected: bool = False

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        first = self.codec.encode(clip, ABR(target_kbps, passes=self.passes))
        if not self.corrected or not needs_correction(first, target_kbps):
            return first
        asked = corrected_kbps(target_kbps, first.bitrate_kbps, target_kbps)
        return best_within([first, self.codec.encode(clip, ABR(asked, passes=self.passes))], target_kbps)
