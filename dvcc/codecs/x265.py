"""HEVC by libx265: offsets on its own rate control. Its QPs cannot all be decided, nor read back from the stream."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar

import av
from av.video.frame import PictureType

from dvcc.codecs.base import ABR, CRF
from dvcc.codecs.bitstream import split_settings
from dvcc.codecs.encoder import GivenQPs, Pass, SimpleRate, header
from dvcc.codecs.ffmpeg import VideoCodec
from dvcc.errors import CodecError
from dvcc.media.format import VideoFormat

_LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA: packets say a QP in these units


@dataclass(frozen=True)
class X265(VideoCodec):
    """HEVC by libx265, stock and unpatched: x265's defaults (psy, AQ, cutree on) with closed GOPs.

    `QPOffsets` move its own rate control, on quantization groups of 32x32 pixels (x265's `qg-size`), each of which takes the
    mean of its macroblocks. A `QPMap` is refused: a coding unit of up to 64x64 pixels has one QP, so none would be exact.
    Parameters and errors are those of `VideoCodec`.
    """

    name: ClassVar[str] = "x265"
    library: ClassVar = "libx265"
    coded_as: ClassVar = "hevc"
    most_threads: ClassVar = 16
    least_timed: ClassVar = 3  # its delay for B frames
    tag: ClassVar = "hvc1"  # in mp4; of FFmpeg's own choice Apple's players show nothing

    def own_params(self, rate: SimpleRate) -> dict[str, str]:
        """See `VideoCodec`. Raises `CodecError` for QPs that are all given."""
        if isinstance(rate, GivenQPs):
            raise CodecError(
                "X265 cannot be given every QP (a coding unit of up to 64x64 has one): take ABR(offsets=...), or X264"
            )
        # Its log goes past FFmpeg's onto the terminal, and its text about itself, 2.4 kB, comes with every GOP of a stream.
        params = {"open-gop": "0", "log-level": "none", "info": "0"}
        if isinstance(rate, (ABR, CRF)) and rate.vbv is not None:  # or the bytes are others every time
            params["const-vbv"] = "1"
        return params

    def pass_options(self, number: Pass) -> tuple[dict[str, str], dict[str, str]]:
        """See `VideoCodec`. FFmpeg's own flags for passes do nothing here."""
        return {}, {"pass": str(number.number), "stats": number.stats}

    def encoder_settings(self, packet: bytes, rate: SimpleRate, picture: VideoFormat) -> tuple[str | None, int]:
        """See `VideoCodec`.

        What x265 writes into the header of another stream with the same settings, but for the number of the pass.
        """
        options = self.options(rate)
        options["x265-params"] += ":info=1"
        return split_settings(header(self, options, picture))[0], 0

    def check_obeyed(self, settings: str, *, exact: bool, options: dict[str, str]) -> None:
        """See `VideoCodec`. AQ as weak as 0.005 is refused with none: x265 reports the same."""
        off = " aq-mode=0 ", " aq-mode=1 aq-strength=0.00 "  # cutree turns the first into the second
        if any(words in settings for words in off):
            raise CodecError(f"x265 would ignore the offsets with AQ off (options {options}): take params={{'aq-mode': 2}}")

    def mean_qp_of(self, packet: av.Packet[Any]) -> tuple[str, float]:
        """See `VideoCodec`; the mean is over coding units."""
        quality, kind = struct.unpack_from("<IB", bytes(packet.get_sidedata("quality_stats")))
        return PictureType(kind).name, quality / _LAMBDA
