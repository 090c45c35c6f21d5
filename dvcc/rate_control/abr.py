"""The encoder's own rate control: the rival."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip, VideoCodec
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import RateController, best_within, check_target, corrected_kbps, needs_correction


@dataclass(frozen=True)
class AverageBitrate(RateController):
    """One- or two-pass ABR with the encoder's defaults (x264: AQ, psy and mbtree on).

    corrected: when the result misses the target (`needs_correction`), encode once more, asking for that much less or more.
    vbv: with one pass, for a stream: see `streamed`.
    """

    codec: VideoCodec = field(default_factory=X264)
    passes: Literal[1, 2] = 2
    corrected: bool = False
    vbv: bool = False

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        return encode_abr(
            self.codec,
            clip,
            streamed(target_kbps) if self.vbv else ABR(target_kbps, passes=self.passes),
            corrected=self.corrected,
        )


def streamed(target_kbps: float, offsets: QPOffsets | None = None) -> ABR:
    """What a camera that cannot look ahead asks for: one pass, and a channel of `target_kbps` with a buffer of one second."""
    return ABR(target_kbps, passes=1, offsets=offsets, vbv=(target_kbps, target_kbps))


def encode_abr(codec: VideoCodec, clip: Clip, rate: ABR, *, corrected: bool) -> EncodedClip:
    """Encode at `rate`, whose kbps are the target, and once more when that misses it and `corrected` is set."""
    first = codec.encode(clip, rate)
    if not corrected or not needs_correction(first, rate.kbps):
        return first
    asked = corrected_kbps(rate.kbps, first, rate.kbps)
    return best_within([first, codec.encode(clip, replace(rate, kbps=asked))], rate.kbps)
