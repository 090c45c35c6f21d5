"""Encoders of FFmpeg's at one constant level, in 4:2:0 or 4:4:4: what a sweep compares, with no map and no rate control."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange

from dvcc.clip import SWSCALE_MATRIX, Clip
from dvcc.codecs.base import CQP, CRF, Codec, EncodedClip, Quantizer, Rate
from dvcc.codecs.bitstream import split_settings
from dvcc.codecs.x264 import X264
from dvcc.errors import CodecError, ConfigError
from dvcc.rgb_clip import RGBClip

PixelFormat = Literal["yuv420p", "yuv444p"]


@dataclass(frozen=True)
class PlainCodec(Codec):
    """An encoder with all frames of a clip in one go; a member is a subclass below.

    pixel_format: what is coded; 4:4:4 takes pictures of odd sizes. gop: frames from one I frame to the next. preset: the
    encoder's own name or number. Raises `ConfigError` where FFmpeg comes without the encoder.
    """

    library: ClassVar[str]
    coded_as: ClassVar[Literal["h264", "hevc", "av1", "vp9"]]
    formats: ClassVar[tuple[PixelFormat, ...]] = ("yuv420p", "yuv444p")

    preset: str = "medium"
    gop: int = 8
    pixel_format: PixelFormat = "yuv420p"

    def __post_init__(self) -> None:
        if self.library not in av.codecs_available:
            raise ConfigError(f"this FFmpeg comes without {self.library}: choose another codec, or install PyAV's own wheel")
        if self.pixel_format not in self.formats:
            raise ConfigError(f"{self.library} codes {' or '.join(self.formats)}, not {self.pixel_format}: choose another")

    @abstractmethod
    def options(self, rate: Rate) -> dict[str, str]:
        """FFmpeg's options for a rate. Raises `CodecError` for a rate that it does not take."""

    def encode(self, clip: Clip | RGBClip, rate: Rate) -> EncodedClip:
        """Encode `clip`. Raises `CodecError` for a rate or a size that the encoder does not take, and when it fails."""
        odd = clip.height % 2 or clip.width % 2
        if odd and self.pixel_format == "yuv420p":
            raise CodecError(f"4:2:0 has no odd sizes, got {clip.height}x{clip.width}: take pixel_format=yuv444p, or cut them")
        buffer, sizes, text = io.BytesIO(), list[tuple[int, int]](), ""
        options = self.options(rate)
        try:
            with _ordinary_priority(), av.open(buffer, "w", format="mp4") as container:
                stream: Any = container.add_stream(self.library, rate=clip.fps, options=options)
                context = stream.codec_context
                context.width, context.height, context.pix_fmt = clip.width, clip.height, self.pixel_format
                context.gop_size, context.thread_type, context.thread_count = self.gop, "FRAME", 1
                context.colorspace, context.color_range = SWSCALE_MATRIX["bt601"], ColorRange.MPEG
                for frame in [*_frames(clip, self.pixel_format), None]:
                    for packet in stream.encode(frame):
                        packet_text, text_bytes = self._text(bytes(packet)) if not sizes else (None, 0)
                        text = packet_text or text
                        sizes.append((packet.pts, 8 * (packet.size - text_bytes)))
                        container.mux(packet)
                header = len(context.extradata or b"")
        except (av.FFmpegError, ValueError) as error:
            raise CodecError(f"{self.library} failed ({error}) for {clip} with {options}: change these options") from error
        bits = np.array([size for _, size in sorted(sizes)], np.int64)
        if self.coded_as in ("h264", "hevc"):  # the mp4 has their parameter sets in its header alone
            bits[0] += 8 * header - 8 * self._text_in_header(context.extradata or b"")
        settings = text or f"{self.library} {' '.join(f'{key}={value}' for key, value in options.items())}"
        return EncodedClip(buffer.getvalue(), bits, clip.fps, clip.height, clip.width, self.coded_as, settings)

    def _text(self, packet: bytes) -> tuple[str | None, int]:
        """Return the encoder's own text about its settings, and the bytes it takes of the first packet."""
        return split_settings(packet) if self.coded_as in ("h264", "hevc") else (None, 0)

    def _text_in_header(self, header: bytes) -> int:
        return split_settings(header)[1] if header else 0

    def _refuse(self, rate: Rate, *taken: str) -> CodecError:
        return CodecError(f"{type(self).__name__} takes {' or '.join(taken)} as rate, not {rate!r}")


def _level(codec: PlainCodec, rate: Rate) -> dict[str, str]:
    """`qp` or `crf` of the H.26x encoders."""
    match rate:
        case CQP():
            return {"qp": str(rate.qp)}
        case CRF():
            return {"crf": f"{rate.value:g}"}
        case _:
            raise codec._refuse(rate, "CQP", "CRF")


class PerspectiveX264(PlainCodec):
    """H.264 by the command of `X264.perspective`. Given PNG frames that command codes yuv444p."""

    library = "libx264"
    coded_as = "h264"

    def options(self, rate: Rate) -> dict[str, str]:
        """See `PlainCodec`."""
        paper = X264.perspective()
        params = ":".join(f"{name}={value}" for name, value in paper.params.items())
        return {**_level(self, rate), "preset": self.preset, "flags": paper.flags, "x264-params": params}


class PlainX265(PlainCodec):
    """HEVC by libx265 with closed GOPs, else its defaults."""

    library = "libx265"
    coded_as = "hevc"

    def options(self, rate: Rate) -> dict[str, str]:
        """See `PlainCodec`."""
        return {
            **_level(self, rate),
            "preset": self.preset,
            "x265-params": "open-gop=0:log-level=none:pools=none:frame-threads=1",
        }


class SVTAV1(PlainCodec):
    """AV1 by SVT-AV1, which has presets 0 (slowest) to 13 and codes 4:2:0 alone."""

    library = "libsvtav1"
    coded_as = "av1"
    formats = ("yuv420p",)

    def options(self, rate: Rate) -> dict[str, str]:
        """See `PlainCodec`."""
        if not isinstance(rate, Quantizer):
            raise self._refuse(rate, "Quantizer")
        if rate.value == 0:
            raise CodecError("libsvtav1 takes 0 for no quantizer at all: begin at Quantizer(1)")
        preset = "8" if self.preset == "medium" else self.preset
        return {"qp": str(rate.value), "preset": preset, "svtav1-params": "lp=1:rc=0:aq-mode=0"}


class VP9(PlainCodec):
    """VP9 by libvpx at one quantizer, good quality, speed 3."""

    library = "libvpx-vp9"
    coded_as = "vp9"

    def options(self, rate: Rate) -> dict[str, str]:
        """See `PlainCodec`."""
        if not isinstance(rate, Quantizer):
            raise self._refuse(rate, "Quantizer")
        step = str(rate.value)
        speed = "3" if self.preset == "medium" else self.preset
        return {"qmin": step, "qmax": step, "crf": step, "b": "0", "deadline": "good", "cpu-used": speed, "lag-in-frames": "8"}


PLAIN: dict[str, type[PlainCodec]] = {"x264": PerspectiveX264, "x265": PlainX265, "av1": SVTAV1, "vp9": VP9}
"""By the names of the benchmark's codecs."""


def _frames(clip: Clip | RGBClip, pixel_format: PixelFormat) -> Iterator[av.VideoFrame]:
    """Frames as they are coded, numbered. RGB becomes limited-range BT.601, as ffmpeg makes it of PNG files."""
    for number in range(clip.num_frames):
        if isinstance(clip, RGBClip):
            frame = av.VideoFrame.from_ndarray(clip.rgb(number), "rgb24").reformat(
                format=pixel_format, dst_colorspace=SWSCALE_MATRIX["bt601"], dst_color_range=ColorRange.MPEG
            )
        else:
            frame = clip.frame(number)
            if pixel_format != "yuv420p":
                frame = frame.reformat(format=pixel_format)
        frame.pts, frame.time_base = number, 1 / clip.fps
        yield frame


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """SVT-AV1 makes the process a real-time one, where it may, and leaves it so: nothing else would run. Its log is its own."""
    os.environ.setdefault("SVT_LOG", "1")
    before = (os.sched_getscheduler(0), os.sched_getparam(0)) if hasattr(os, "sched_getscheduler") else None
    try:
        yield
    finally:
        if before is not None and os.sched_getscheduler(0) != before[0]:
            os.sched_setscheduler(0, *before)
