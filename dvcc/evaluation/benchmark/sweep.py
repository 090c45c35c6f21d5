"""What a benchmark tries: a codec at levels of one kind of rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dvcc.codecs import ABR, CQP, CRF, Codec, Quality, Quantizer, Rate
from dvcc.media.protocols import Protocol


@dataclass(frozen=True)
class Sweep:
    """What is tried: a codec at levels of one kind of rate, on pictures that were made to fit by `protocol`."""

    codec: Codec
    rate: str
    levels: tuple[float, ...]
    protocol: Protocol

    def rate_at(self, level: float) -> Rate:
        """Return the codec's rate at a level."""
        if self.rate == "abr":
            return ABR(level)
        if self.rate == "crf":
            return CRF(level)
        kinds: dict[str, Callable[[int], Rate]] = {"cqp": CQP, "quality": Quality, "quantizer": Quantizer}
        return kinds[self.rate](int(level))
