"""Coded twice: most pictures and videos that networks see were coded before anybody codes them again."""

from __future__ import annotations

from dataclasses import dataclass

from dvcc.clip import Clip
from dvcc.codecs.base import Codec, EncodedClip, Rate
from dvcc.rgb_clip import RGBClip


@dataclass(frozen=True)
class Chain(Codec):
    """`second` is given what `first`, at its one `first_rate`, has left. The bits are those of the second."""

    first: Codec
    first_rate: Rate
    second: Codec

    def encode(self, clip: Clip | RGBClip, rate: Rate) -> EncodedClip:
        """Encode `clip` twice, the second time at `rate`. Raises `CodecError` as either codec does."""
        return self.second.encode(coded_once(clip, self.first, self.first_rate), rate)


def coded_once(clip: Clip | RGBClip, codec: Codec, rate: Rate) -> Clip | RGBClip:
    """Return what is left of a clip when it has been coded, as a clip of the same kind. Raises `CodecError` as the codec does."""
    coded = codec.encode(clip, rate)
    if isinstance(clip, RGBClip):
        return RGBClip(coded.frames, clip.fps)
    if coded.codec == "mjpeg":
        return Clip.from_rgb(coded.frames, clip.fps, matrix=clip.matrix)
    return coded.clip()
