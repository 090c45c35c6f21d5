"""A video encoder on frames that come one by one: the one place that opens it, for clips in memory and videos of any length."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import av
import av.logging
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.video.reformatter import ColorRange

from dvcc.clip import write_plane
from dvcc.codecs.base import ABR, CQP, CRF
from dvcc.codecs.regions import borrow_canvas
from dvcc.errors import CodecError, ConfigError
from dvcc.media.format import Planes, VideoFormat

if TYPE_CHECKING:
    from dvcc.codecs.ffmpeg import VideoCodec

BASE_QP = 26  # the QP that zero offsets would give; any works, the middle keeps both signs in use
_COMPLAINT = re.compile("[Ee]rror|Unknown option|Invalid value")
_LOGGING = Lock()


@dataclass(frozen=True)
class GivenQPs:
    """The rate of a frame-by-frame encode whose every QP is given."""


SimpleRate = GivenQPs | CQP | CRF | ABR
"""What one pass of the encoder is opened with; a map comes with the frames."""


@dataclass(frozen=True)
class Pass:
    """One of two passes: its number, 1 or 2, and the path that the encoder keeps its statistics under."""

    number: int
    stats: str


class StreamEncoder:
    """`codec` on `container`'s first stream, one frame at a time.

    stream: of an encoder before on the same container, which this one goes on with, its parameter sets in its packets.
    mapped: every frame comes with a value per macroblock: an offset on its own rate control (with `ABR`), or a QP (`GivenQPs`).
    settings: what the encoder reports, known with the first packet. header_bits: parameter sets less the version text, to be
    added to the sizes of packets. The encoder lives as long as its container: two passes need a container each.

    Raises `CodecError` when FFmpeg refuses the options or fails, and when the encoder would have ignored the map.
    """

    def __init__(
        self,
        codec: VideoCodec,
        container: av.container.OutputContainer,
        rate: SimpleRate,
        picture: VideoFormat,
        *,
        number: Pass | None = None,
        mapped: bool = False,
        stream: av.VideoStream | None = None,
    ) -> None:
        self.exact, self.mapped = isinstance(rate, GivenQPs), mapped
        self.settings, self.header_bits = "", 0
        self.codec, self.picture, self._rate = codec, picture, rate
        self._started, self._num_frames = False, 0
        self._options = codec.options(rate, number)
        with self._explained(number):
            self.stream = stream or container.add_stream(codec.library, rate=picture.fps, options=self._options)
            self._context = self.stream.codec_context if stream is None else av.CodecContext.create(codec.library, "w")
            if stream is not None:
                self._context.options = self._options
            elif codec.tag and container.format.name in ("mp4", "mov"):
                self._context.codec_tag = codec.tag
            _configure(self._context, codec, picture)
            self._context.open()  # or the first packet of another stream does, and gets the blame
        self._borrowed = ExitStack()
        self._canvas = self._borrowed.enter_context(borrow_canvas(picture.height, picture.width)) if mapped else None

    def encode(self, planes: Planes, pts: int, values: np.ndarray | None = None) -> Iterator[av.Packet[Any]]:
        """Packets that are ready, in coding order, after a frame of 4:2:0 planes at `pts`, in units of the time base.

        values: int (h, w), offsets or QPs; of a mapped encoder.
        """
        if self._canvas is not None:
            assert values is not None
            frame = self._canvas.paint(planes, values.astype(np.int32) - BASE_QP if self.exact else values)
        else:
            frame = av.VideoFrame(self.picture.width, self.picture.height, "yuv420p")
            for plane, pixels in zip(frame.planes, planes, strict=True):
                write_plane(plane, pixels)
        frame.pts, frame.time_base = pts, self.picture.time_base
        self._num_frames += 1
        yield from self._packets(frame)

    def set_kbps(self, kbps: float) -> bool:
        """Ask for another bitrate from the next frame on that is coded.

        Returns whether the encoder takes one while it is open: its channel then follows, if it was as wide as the bitrate, and
        its buffer stays.
        """
        if self.codec.retargets:
            self._context.bit_rate = round(1000 * kbps)
        return self.codec.retargets

    def flush(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets that are left."""
        for packet in self._packets(None):
            if self._num_frames < self.codec.least_timed:
                packet.dts = packet.pts
            yield packet
        self.close()

    def close(self) -> None:
        """Leave what is not coded yet."""
        self._borrowed.close()

    def _packets(self, frame: av.VideoFrame | None) -> Iterator[av.Packet[Any]]:
        with self._explained():
            packets = self._context.encode(frame)
        for packet in packets:
            packet.stream = self.stream
            if not self._started:
                text_bytes = self._begin(packet)
                if text_bytes and self._context is not self.stream.codec_context:  # the first encoder has told it
                    packet = without_sei(packet)
            yield packet

    def _begin(self, packet: av.Packet[Any]) -> int:
        """Look at the first packet; returns the bytes of the encoder's text in it."""
        text, text_bytes = self.codec.encoder_settings(bytes(packet), self._rate, self.picture)
        self._started, self.settings = True, text or ""
        self.header_bits = 8 * (len(self._context.extradata or b"") - text_bytes)
        if self.mapped:
            if not text:
                raise CodecError(f"{self.codec.name} wrote no settings text, so a QP map cannot be verified: leave its SEI on")
            self.codec.check_obeyed(text, exact=self.exact, options=self._options)
        return text_bytes

    @contextmanager
    def _explained(self, number: Pass | None = None) -> Iterator[None]:
        """FFmpeg's errors with what led there: a bitrate that the encoder cannot reach, or the options."""
        try:
            yield
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, CodecError):
                raise
            name = self.codec.name
            if number is not None and number.number == 2 and isinstance(self._rate, ABR):
                least = least_kbps(self.codec, self._rate, number, self.picture)
                if least is not None:
                    raise ConfigError(
                        f"{self._rate.kbps:g} kbit/s is too little for {name} here: ask for at least {least}"
                    ) from error
            raise CodecError(
                f"{name} failed ({error}) for {self.picture} with {self._options}: change these options, "
                "or free space where it keeps its statistics"
            ) from error


def without_sei(packet: av.Packet[Any]) -> av.Packet[Any]:
    """Return a packet of H.264 less its supplemental information, as the encoder's text about itself."""
    (short,) = BitStreamFilterContext("filter_units=remove_types=6", packet.stream).filter(packet)
    short.stream = packet.stream
    return short


def _configure(context: av.VideoCodecContext, codec: VideoCodec, picture: VideoFormat) -> None:
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
    context.framerate, context.time_base = picture.fps, picture.time_base
    context.gop_size = codec.gop
    context.thread_type, context.thread_count = "FRAME", codec.threads  # SLICE, PyAV's default, costs 9 % BD-rate
    context.colorspace = picture.matrix
    context.color_range = ColorRange.JPEG if picture.full_range else ColorRange.MPEG
    if picture.primaries is not None:
        context.color_primaries = picture.primaries
    if picture.transfer is not None:
        context.color_trc = picture.transfer
    if picture.pixel_aspect is not None:
        context.sample_aspect_ratio = picture.pixel_aspect


def least_kbps(codec: VideoCodec, rate: ABR, number: Pass, picture: VideoFormat) -> int | None:
    """Return the least bitrate in whole kbit/s above `rate` that the encoder opens its second pass at, found by trying.

    None if it opens at none up to a thousand times as much.
    """
    low, high = int(rate.kbps), max(2, int(rate.kbps) + 1)
    while not _opens(codec, replace(rate, kbps=high), number, picture):
        low, high = high, 2 * high
        if high > 1000 * rate.kbps + 1000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _opens(codec, replace(rate, kbps=middle), number, picture) else (middle, high)
    return high


def _opens(codec: VideoCodec, rate: ABR, number: Pass, picture: VideoFormat) -> bool:
    context = av.CodecContext.create(codec.library, "w")
    _configure(context, codec, picture)
    context.options = codec.options(rate, number)
    try:
        context.open()
    except av.FFmpegError:
        return False
    return True


def header(codec: VideoCodec, options: dict[str, str], picture: VideoFormat) -> bytes:
    """Return what the encoder writes before the first picture, with these options."""
    context = av.CodecContext.create(codec.library, "w")
    _configure(context, codec, picture)
    context.options, context.flags = options, context.flags | Flags.global_header
    context.open()
    return context.extradata or b""


@lru_cache(maxsize=256)
def complaints(library: Literal["libx264", "libx265"], options: tuple[tuple[str, str], ...]) -> list[str]:
    """Return what FFmpeg says of these options when the encoder opens.

    It warns of a wrong name or value of a parameter and goes on.
    """
    return [line for line in _log(library, options, av.logging.WARNING) if _COMPLAINT.search(line)]


@lru_cache
def cpu_capabilities() -> tuple[str, ...]:
    """Return the kinds of code that x264 chooses on this processor, by its own names, such as AVX2 and AVX512.

    None of them if it says none.
    """
    match = re.search("using cpu capabilities: (.*)", "\n".join(_log("libx264", (), av.logging.INFO)))
    return tuple(match[1].split()) if match else ()


def _log(library: Literal["libx264", "libx265"], options: tuple[tuple[str, str], ...], log_level: int) -> list[str]:
    """Return the lines that FFmpeg logs when the encoder opens.

    Logging is on for this moment only, and for one thread at a time, or it would stay on. PyAV's log callback needs the GIL,
    which a decoder that is closed holds until its threads have ended.
    """
    context = av.CodecContext.create(library, "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 64, "yuv420p", Fraction(1, 25)
    context.options = dict(options)
    with _LOGGING:
        before = av.logging.get_level()
        av.logging.set_level(log_level)
        try:
            with av.logging.Capture() as lines:
                context.open()
        except av.FFmpegError as error:
            lines.append((av.logging.ERROR, library, f"Error: {error}"))
        finally:
            av.logging.set_level(av.logging.PANIC)
            time.sleep(0.001)  # a thread that is about to log compares with the level, and prints a traceback where there is none
            av.logging.set_level(before)
    return [line.strip() for _, _, line in lines]
