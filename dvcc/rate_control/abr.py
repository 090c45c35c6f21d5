"""The encoder's own rate control: alone it is the rival, and with offsets the way in which controls are delivered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dvcc.codecs import ABR, X264, VideoCodec
from dvcc.codecs.passes import Destination, encode
from dvcc.control.deployed.runtime import Control
from dvcc.media.format import Source
from dvcc.rate_control.base import R, RateController, encode_near
from dvcc.rate_control.kept_maps import kept_offsets
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import begin_offsets


@dataclass(frozen=True)
class AverageBitrate(RateController):
    """One- or two-pass ABR with the encoder's defaults (x264: AQ, psy and mbtree on).

    control: a trained one or the rule of objects, which decides offsets on the encoder's QPs; None: the encoder alone. corrected:
    when the result misses the target (`needs_correction`), encode once more, asking for that much less or more. vbv: one pass for
    a stream (`streamed`), and offsets that know nothing of later frames.
    """

    codec: VideoCodec = field(default_factory=X264)
    passes: Literal[1, 2] = 2
    corrected: bool = False
    vbv: bool = False
    control: Control | Objects | None = None

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`. Offsets are decided in the first pass, and are the same in all others."""
        generator = begin_offsets(self.control, source, target_kbps, self.codec)
        with kept_offsets(generator, source, causal=self.vbv) as maps:

            def encode_at(kbps: float) -> R:
                rate = streamed(kbps) if self.vbv else ABR(kbps, passes=self.passes)
                return encode(self.codec, source, rate, into, maps)

            coded = encode_near(encode_at, target_kbps, corrected=self.corrected)
        into.decided = generator.words() if generator else ""
        return coded


def streamed(target_kbps: float) -> ABR:
    """Return what a camera that cannot look ahead asks for.

    That is one pass, and a channel of `target_kbps` with a buffer of one second.
    """
    return ABR(target_kbps, passes=1, vbv=(target_kbps, target_kbps))
