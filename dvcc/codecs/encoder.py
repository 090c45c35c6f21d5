"""libx264 on frames that come one by one: the one place that opens it, for clips in memory and for videos of any length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import av
import av.logging
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange
from numpy._core._multiarray_umath import __cpu_features__ as _cpu_features  # private, but Python itself cannot tell

from dvcc.clip import write_plane
from dvcc.codecs.base import ABR, CQP, CRF
from dvcc.codecs.bitstream import split_settings
from dvcc.codecs.regions import borrow_canvas
from dvcc.errors import CodecError

if TYPE_CHECKING:
    from dvcc.codecs.ffmpeg import X264

BASE_QP = 26  # the QP that zero offsets would give; any works, the middle keeps both signs in use
# The rest of rate control stands still and offsets become exact QPs. Strength 0.0001 changes no QP, but at 0, or with
# AQ off, x264 drops the offsets without a word.
EXACT_MAP = {
    "aq-mode": "1",
    "aq-strength": "0.0001",
    "mbtree": "0",
    "qcomp": "1",
    "ipratio": "1",
    "pbratio": "1",
    "scenecut": "0",
}
# What x264's own settings text must say for the map to have been obeyed.
_EXACT_SETTINGS = {
    **{"rc": "crf", "mbtree": "0", "qcomp": "1.00", "ip_ratio": "1.00", "pb_ratio": "1.00", "aq": "1:0.00"},
    **{"qpmin": "0", "qpmax": "69", "crf": f"{BASE_QP}.0"},
}
Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one 4:2:0 picture: uint8 (H, W) and twice (H/2, W/2)."""
_MOVES_QPS = ("vbv_maxrate", "zones")

# libx264's AVX-512 code for mbtree reads memory it never wrote when the frame is not a multiple of 64 wide (build 165: up to 11
# different bitstreams in 24 runs of one clip), and at 640x272 and 1280x720 its answer is always the same and not that of AVX2,
# which costs 4 % more time and does not depend on the machine.
_REPEATABLE = {"asm": "AVX2"} if _cpu_features.get("AVX512F") else {}


@dataclass(frozen=True)
class GivenQPs:
    """The rate of a frame-by-frame encode whose every QP is given."""


SimpleRate = GivenQPs | CQP | CRF | ABR
"""What one pass of the encoder is opened with; a map comes with the frames."""


@dataclass(frozen=True)
class Pass:
    """One of two passes: its number, 1 or 2, and the path that x264 keeps its statistics under."""

    number: int
    stats: str

    @property
    def flag(self) -> Flags:
        """FFmpeg's."""
        return Flags.pass1 if self.number == 1 else Flags.pass2


@dataclass(frozen=True)
class Picture:
    """What all frames of a video have in common. Even height and width in luma pixels, frames per second, the unit of time
    stamps in seconds, FFmpeg's numbers of the colour tags, and the shape of a pixel (None: not said)."""

    height: int
    width: int
    fps: Fraction
    time_base: Fraction
    matrix: int
    full_range: bool = False
    primaries: int | None = None
    transfer: int | None = None
    pixel_aspect: Fraction | None = None


class StreamEncoder:
    """x264 on `container`'s first stream, one frame at a time.

    mapped: every frame comes with a value per macroblock: an offset on x264's rate control (with `ABR`), or a QP (`GivenQPs`).
    settings: x264's own account, known with the first packet. header_bits: parameter sets less the version text, to be added to
    the sizes of packets. The encoder lives as long as its container: two passes need a container each.

    Raises `CodecError` when FFmpeg refuses the options or fails, and when x264 would have ignored the map.
    """

    def __init__(
        self,
        codec: X264,
        container: av.container.OutputContainer,
        rate: SimpleRate,
        picture: Picture,
        *,
        number: Pass | None = None,
        mapped: bool = False,
    ) -> None:
        self.exact, self.mapped = isinstance(rate, GivenQPs), mapped
        self.settings, self.header_bits = "", 0
        self.picture = picture
        self._started = False
        self._options = _options(codec, rate)
        if number is not None:
            self._options["stats"] = number.stats
        with self._explained():
            stream = container.add_stream("libx264", rate=picture.fps, options=self._options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
        context.time_base = picture.time_base
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
        if number is not None:
            context.flags |= number.flag
        self.stream = stream
        self._borrowed = ExitStack()
        self._canvas = self._borrowed.enter_context(borrow_canvas(picture.height, picture.width)) if mapped else None

    def encode(self, planes: Planes, pts: int, values: np.ndarray | None = None) -> Iterator[av.Packet]:
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
        yield from self._packets(frame)

    def flush(self) -> Iterator[av.Packet]:
        """The packets that are left."""
        yield from self._packets(None)
        self._borrowed.close()

    def _packets(self, frame: av.VideoFrame | None) -> Iterator[av.Packet]:
        with self._explained():
            packets = self.stream.encode(frame)
        for packet in packets:
            if not self._started:
                self._begin(packet)
            yield packet

    def _begin(self, packet: av.Packet) -> None:
        text, text_bytes = split_settings(bytes(packet))
        self._started, self.settings = True, text or ""
        self.header_bits = 8 * (len(self.stream.codec_context.extradata or b"") - text_bytes)
        if self.mapped:
            _check_map_obeyed(self.settings, exact=self.exact, options=self._options)

    def _explained(self) -> _Explained:
        return _Explained(f"for {self.picture} with {self._options}")


@dataclass(frozen=True)
class _Explained:
    """FFmpeg's errors with the options that led there."""

    where: str

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (av.FFmpegError, ValueError)) and not isinstance(error, CodecError):
            raise CodecError(
                f"x264 failed ({error}) {self.where}: change these options, or free space where it keeps its statistics"
            ) from error


def _options(codec: X264, rate: SimpleRate) -> dict[str, str]:
    forced: dict[str, str] = {}
    match rate:
        case GivenQPs():
            options, forced = {"crf": str(BASE_QP)}, EXACT_MAP
        case CQP():
            options = {"qp": str(rate.qp)}
        case CRF():
            options = {"crf": f"{rate.value:g}"}
        case ABR():
            options = {"b": str(round(rate.kbps * 1000))}
            if rate.vbv is not None:
                options |= {"maxrate": str(round(rate.vbv[0] * 1000)), "bufsize": str(round(rate.vbv[1] * 1000))}
    # The codec's own parameters may add to those that make a map exact, not contradict them: `_check_map_obeyed`.
    params = {**_REPEATABLE, **forced, **codec.params}
    options = {**options, "preset": codec.preset, "x264-params": ":".join(f"{k}={v}" for k, v in params.items())}
    if codec.bframes is not None:
        options["bf"] = str(codec.bframes)
    if codec.flags:
        options["flags"] = codec.flags
    if unknown := _opening_complaints(options["preset"], options["x264-params"]):
        raise CodecError(f"x264 would ignore {unknown[-1]!r} (options {options}): check the names and values in params")
    return options


@lru_cache(maxsize=256)
def _opening_complaints(preset: str, params: str) -> list[str]:
    """What FFmpeg says of these options when the encoder opens: it warns of a wrong name or value and goes on.

    Logging is on for this moment only: PyAV's log callback needs the GIL, which codec threads can wait for.
    """
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 64, "yuv420p", Fraction(1, 25)
    context.options = {"preset": preset, "x264-params": params}
    before = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as lines:
            context.open()
    except av.FFmpegError as error:
        lines.append((av.logging.ERROR, "libx264", str(error)))
    finally:
        av.logging.set_level(before)
    return [line.strip() for _, _, line in lines if "rror" in line]


def _check_map_obeyed(settings: str, *, exact: bool, options: dict[str, str]) -> None:
    """Raise `CodecError` if x264's own account of its settings means that the offsets were dropped or shifted."""
    if not settings:
        raise CodecError("x264 wrote no settings text, so a QP map cannot be verified: leave its SEI on")
    said = dict(word.split("=", 1) for word in settings.split("options:", 1)[-1].split() if "=" in word)
    wrong = {}
    if exact:
        wrong = {key: said.get(key) for key, value in _EXACT_SETTINGS.items() if said.get(key, value) != value}
        wrong |= {key: said[key] for key in _MOVES_QPS if key in said}
        if int(said["subme"]) > 9:  # QPRD re-decides the QP of every macroblock
            wrong["subme"] = said["subme"]
    elif said["aq"] == "0" or said["aq"].endswith(":0.00"):  # mbtree turns a refused aq=0 into 1:0.00
        wrong["aq"] = said["aq"]
    if wrong:
        found = ", ".join(f"{key}={value}" for key, value in wrong.items())
        raise CodecError(
            f"x264 would ignore or shift the QP map with {found} (options {options}): "
            f"take a preset up to slower with AQ on, or override with params={{'subme': 9}}"
        )
