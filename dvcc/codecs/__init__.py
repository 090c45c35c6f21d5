"""Real encoders behind one contract. A codec is one file and one line here."""

from dvcc.codecs.base import ABR, CQP, CRF, Codec, EncodedClip, Quality, Quantizer, Rate
from dvcc.codecs.chain import Chain, coded_once
from dvcc.codecs.ffmpeg import VideoCodec
from dvcc.codecs.jpeg import JPEG
from dvcc.codecs.plain import PLAIN
from dvcc.codecs.x264 import X264
from dvcc.codecs.x265 import X265

VIDEO_CODECS: dict[str, type[VideoCodec]] = {codec.name: codec for codec in (X264, X265)}
CODECS: dict[str, type[Codec]] = {**VIDEO_CODECS, "jpeg": JPEG}

__all__ = [
    "ABR",
    "CODECS",
    "CQP",
    "CRF",
    "JPEG",
    "PLAIN",
    "VIDEO_CODECS",
    "X264",
    "X265",
    "Chain",
    "Codec",
    "EncodedClip",
    "Quality",
    "Quantizer",
    "Rate",
    "VideoCodec",
    "coded_once",
]
