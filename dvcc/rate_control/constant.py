"""One number for the whole video, searched for until the bits fit: CRF and constant QP."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from dvcc.codecs import CQP, CRF, X264, VideoCodec
from dvcc.codecs.passes import Destination, encode
from dvcc.media.format import Source
from dvcc.qp import MAX_QP
from dvcc.rate_control.base import R, RateController, best_within
from dvcc.rate_control.kept_maps import kept_offsets
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import begin_offsets

_LOG_BITS_PER_QP = -0.11  # one QP step is 6 to 11 % of the bits
_CLOSE_ENOUGH = 0.02
_LEAST_CRF = 1.0  # below, x264 codes without loss and drops offsets


@dataclass(frozen=True)
class ConstantQuality(RateController):
    """One pass at the rate factor `crf`, with the offsets of the rule of objects on top (control; None: the encoder alone).

    Its target is no average but the most that is spent, over a buffer of a second: infinite for a video without a cap.
    """

    codec: VideoCodec = field(default_factory=X264)
    crf: float = 23.0
    control: Objects | None = None

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`."""
        generator = begin_offsets(self.control, source, target_kbps, self.codec)
        with kept_offsets(generator, source) as maps:
            coded = encode(self.codec, source, capped(self.crf, target_kbps), into, maps)
        into.decided = generator.words() if generator else ""
        return coded


@dataclass(frozen=True)
class ConstantRateFactor(RateController):
    """The CRF whose bits come nearest to the target from below, within `max_encodes` tries.

    control: the rule of objects, whose offsets are on top in all of them. peak: a cap, in multiples of the target, over a buffer
    of a second; None: no cap.
    """

    codec: VideoCodec = field(default_factory=X264)
    max_encodes: int = 6
    control: Objects | None = None
    peak: float | None = None

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`."""
        most = math.inf if self.peak is None else self.peak * target_kbps
        generator = begin_offsets(self.control, source, target_kbps, self.codec)
        with kept_offsets(generator, source) as maps:

            def at(value: float) -> R:
                least = 0.0 if maps is None else _LEAST_CRF
                return encode(self.codec, source, capped(max(least, round(value, 2)), most), into, maps)

            coded = search_level(at, target_kbps, self.max_encodes, step=0.05)
        into.decided = generator.words() if generator else ""
        return coded


def capped(crf: float, most_kbps: float) -> CRF:
    """Return a rate factor that spends at most so many kbit/s over a buffer of a second; infinite: no cap."""
    return CRF(crf, vbv=(most_kbps, most_kbps) if math.isfinite(most_kbps) else None)


@dataclass(frozen=True)
class ConstantQP(RateController):
    """The integer QP (x264's CQP: I frames finer, B frames coarser) that comes nearest from below."""

    codec: VideoCodec = field(default_factory=X264)
    max_encodes: int = 6

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`."""

        def at(value: float) -> R:
            return encode(self.codec, source, CQP(max(1, round(value))), into)  # QP 0 is lossless mode

        return search_level(at, target_kbps, self.max_encodes, step=1)


def search_level(encode_at: Callable[[float], R], target_kbps: float, max_encodes: int, *, step: float) -> R:
    """Bracket the target and narrow by the secant of log bits; every encode is a candidate.

    encode_at: of a level 0..51, in `step`s, fewer bits at a higher one.
    """
    log_target = math.log(target_kbps)
    low, high = 0.0, float(MAX_QP)  # too fine (over the target), too coarse (under it)
    at_low: float | None = None
    at_high: float | None = None
    value, candidates = 30.0, list[R]()
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
