"""One number for the whole clip, searched for until the bits fit: CRF and constant QP."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from dvcc.clip import Clip
from dvcc.codecs import CQP, CRF, X264, EncodedClip, VideoCodec
from dvcc.codecs.base import Rate
from dvcc.qp import MAX_QP
from dvcc.rate_control.base import RateController, best_within, check_target

_LOG_BITS_PER_QP = -0.11  # one QP step is 6 to 11 % of the bits
_CLOSE_ENOUGH = 0.02


@dataclass(frozen=True)
class ConstantRateFactor(RateController):
    """The CRF whose bits come nearest to the target from below, within `max_encodes` tries."""

    codec: VideoCodec = field(default_factory=X264)
    max_encodes: int = 6

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        return search_level(lambda value: self.codec.encode(clip, CRF(round(value, 2))), target_kbps, self.max_encodes, step=0.05)


@dataclass(frozen=True)
class ConstantQP(RateController):
    """The integer QP (x264's CQP: I frames finer, B frames coarser) that comes nearest from below."""

    codec: VideoCodec = field(default_factory=X264)
    max_encodes: int = 6

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""

        def at(value: float) -> EncodedClip:
            rate: Rate = CQP(max(1, round(value)))  # QP 0 is lossless mode
            return self.codec.encode(clip, rate)

        return search_level(at, target_kbps, self.max_encodes, step=1)


def search_level(encode_at: Callable[[float], EncodedClip], target_kbps: float, max_encodes: int, *, step: float) -> EncodedClip:
    """Bracket the target and narrow by the secant of log bits; every encode is a candidate. encode_at: of a level 0..51, in
    `step`s, fewer bits at a higher one."""
    check_target(target_kbps)
    log_target = math.log(target_kbps)
    low, high = 0.0, float(MAX_QP)  # too fine (over the target), too coarse (under it)
    at_low: float | None = None
    at_high: float | None = None
    value, candidates = 30.0, []
    for _ in range(max_encodes):
        coded = encode_at(value)
        candidates.append(coded)
        excess = math.log(coded.bitrate_kbps) - log_target
        if -_CLOSE_ENOUGH < excess <= 0:
            break
        if excess > 0:
            low, at_low = value, excess
        else:
            high, at_high = value, excess
        if high - low <= step:
            break
        if at_low is not None and at_high is not None:
            value = low + (high - low) * at_low / (at_low - at_high)
        else:
            value -= excess / _LOG_BITS_PER_QP
        margin = min(step, (high - low) / 2)
        value = round(min(max(value, low + margin), high - margin) / step) * step
        if at_low is None and low + margin >= value:
            value = low
        if at_high is None and high - margin <= value:
            value = high
    return best_within(candidates, target_kbps)
