"""x264 through PyAV: encode in memory, count bits per frame, verify that a map was not ignored, read QPs back."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

import av
import av.logging
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange, Colorspace
from numpy._core._multiarray_umath import __cpu_features__ as _cpu_features  # private, but Python itself cannot tell

from dvcc.clip import Clip
from dvcc.codecs.base import ABR, CQP, CRF, Codec, EncodedClip, Rate
from dvcc.codecs.bitstream import split_settings
from dvcc.codecs.regions import borrow_canvas
from dvcc.errors import CodecError, ConfigError
from dvcc.qp import QPMap

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_BASE_QP = 26  # the QP that zero offsets would give; any works, the middle keeps both signs in use
# The rest of rate control stands still and offsets become exact QPs. Strength 0.0001 changes no QP, but at 0, or with
# AQ off, x264 drops the offsets without a word.
_EXACT_MAP = {
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
    **{"qpmin": "0", "qpmax": "69", "crf": f"{_BASE_QP}.0"},
}
_MOVES_QPS = ("vbv_maxrate", "zones")
_TAGS = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}


# libx264's AVX-512 code for mbtree reads memory it never wrote when the frame is not a multiple of 64 wide (build 165:
# up to 11 different bitstreams in 24 runs of one clip). Its AVX2 code computes the same without.
_REPEATABLE = {"asm": "AVX2"} if _cpu_features.get("AVX512F") else {}


@dataclass(frozen=True)
class X264(Codec):
    """H.264 by libx264, stock and unpatched.

    preset: x264's name. gop: frames from one I frame to the next, closed. bframes: at most so many B frames in a
    row (None: the preset's). threads: frame threads; fixed, because x264's output depends on them. flags: FFmpeg
    flags, "" for none. params: x264 parameters by x264's names, over those that dvcc sets.

    With x264's defaults left alone (psy, AQ, mbtree on) this is the baseline; `QPMap` and `QPOffsets` are honoured
    exactly or refused. Raises `ConfigError` for a wrong argument.
    """

    preset: str = "medium"
    gop: int = 8
    bframes: int | None = None
    threads: int = 1
    flags: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"x264 has no preset {self.preset!r}: choose one of {', '.join(PRESETS)}")
        for name, value, low, high in (("gop", self.gop, 1, 10_000), ("threads", self.threads, 1, 128)):
            if not low <= value <= high:
                raise ConfigError(f"X264({name}=...) goes from {low} to {high}, got {value}")
        if self.bframes is not None and not 0 <= self.bframes <= 16:
            raise ConfigError(f"X264(bframes=...) goes from 0 to 16, got {self.bframes}")
        object.__setattr__(self, "params", MappingProxyType({str(k): str(v) for k, v in self.params.items()}))

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple:  # mapping proxies do not pickle, and codecs travel to worker processes
        return X264, (self.preset, self.gop, self.bframes, self.threads, self.flags, dict(self.params))

    @classmethod
    def perspective(cls) -> X264:
        """The constant-QP settings of "A Perspective on Deep Vision Performance" (use with `CQP`).

        `-preset medium -g 8 -flags +cgop+mv4 -mbtree 0 -aq-mode 0 -b_strategy 0 -psy 0`; here on 4:2:0 planes,
        where the paper's command, given PNG frames, codes yuv444p.
        """
        return cls(flags="+cgop+mv4", params={"mbtree": "0", "aq-mode": "0", "b-adapt": "0", "psy": "0"})

    def encode(self, clip: Clip, rate: Rate) -> EncodedClip:
        """Encode `clip` with `rate` (`QPMap`, `CQP`, `CRF` or `ABR`).

        Raises `CodecError` when FFmpeg refuses the options or fails, and when x264 would have ignored the map;
        `ConfigError` when the map does not fit the clip.
        """
        match rate:
            case QPMap():
                rate.check_fits(clip)
                offsets = rate.values.astype(np.int32) - _BASE_QP
                coded = self._encode_pass(clip, {"crf": str(_BASE_QP)}, _EXACT_MAP, offsets)
                return replace(coded, requested_qp=rate)
            case CQP():
                return self._encode_pass(clip, {"qp": str(rate.qp)})
            case CRF():
                return self._encode_pass(clip, {"crf": f"{rate.value:g}"})
            case ABR():
                return self._encode_abr(clip, rate)
        raise CodecError(f"X264 takes a QPMap, CQP, CRF or ABR as rate, not {rate!r}")

    def _encode_abr(self, clip: Clip, rate: ABR) -> EncodedClip:
        offsets = None
        if rate.offsets is not None:
            rate.offsets.check_fits(clip)
            offsets = rate.offsets.values.astype(np.int32)
        options = {"b": str(round(rate.kbps * 1000))}
        if rate.vbv is not None:
            options |= {"maxrate": str(round(rate.vbv[0] * 1000)), "bufsize": str(round(rate.vbv[1] * 1000))}
        if rate.passes == 1:
            return self._encode_pass(clip, options, offsets=offsets)
        with tempfile.TemporaryDirectory(prefix="dvcc-") as folder:  # text statistics; x264 takes nothing but a path
            options["stats"] = f"{folder}/x264"
            self._encode_pass(clip, options, offsets=offsets, flag=Flags.pass1)
            coded = self._encode_pass(clip, options, offsets=offsets, flag=Flags.pass2)
        return replace(coded, num_encodes=2)

    def _encode_pass(
        self,
        clip: Clip,
        options: dict[str, str],
        forced: Mapping[str, str] = MappingProxyType({}),
        offsets: np.ndarray | None = None,
        flag: Flags | None = None,
    ) -> EncodedClip:
        """One pass, in its own frame: x264 writes its statistics when the last reference to the encoder goes.

        forced: x264 parameters that make a map exact; the codec's own may add to them, not contradict them.
        """
        params = {**_REPEATABLE, **forced, **self.params}
        options = {**options, "preset": self.preset, "x264-params": ":".join(f"{k}={v}" for k, v in params.items())}
        if self.bframes is not None:
            options["bf"] = str(self.bframes)
        if self.flags:
            options["flags"] = self.flags
        if unknown := _opening_complaints(options["preset"], options["x264-params"]):
            raise CodecError(f"x264 would ignore {unknown[-1]!r} (options {options}): check the names and values in params")
        buffer = io.BytesIO()
        packets: list[tuple[int, int]] = []  # (display index, bits)
        settings, header_bits = "", 0
        try:
            with av.open(buffer, "w", format="mp4") as container:
                stream = container.add_stream("libx264", rate=clip.fps, options=options)
                context = stream.codec_context
                context.width, context.height, context.pix_fmt = clip.width, clip.height, "yuv420p"
                context.time_base = 1 / clip.fps
                context.gop_size = self.gop
                context.thread_type, context.thread_count = "FRAME", self.threads  # SLICE, PyAV's default, costs 9 % BD-rate
                context.colorspace = _TAGS[clip.matrix]
                context.color_range = ColorRange.JPEG if clip.full_range else ColorRange.MPEG
                if flag is not None:
                    context.flags |= flag
                for packet in _packets(stream, clip, offsets):
                    payload = bytes(packet)
                    if not packets:
                        text, text_bytes = split_settings(payload)
                        settings = text or ""
                        header_bits = 8 * (len(context.extradata or b"") - text_bytes)
                    assert packet.pts is not None  # `_packets` numbers the frames
                    packets.append((round(packet.pts * packet.time_base * clip.fps), 8 * len(payload)))
                    container.mux(packet)
        except (av.FFmpegError, ValueError) as error:
            raise CodecError(f"x264 failed ({error}) for {clip!r} with {options}: change these options") from error
        if offsets is not None:
            _check_map_obeyed(settings, exact=bool(forced), options=options)
        bits = np.zeros(clip.num_frames, np.int64)
        for index, size in packets:
            bits[index] += size
        bits[0] += header_bits
        return EncodedClip(buffer.getvalue(), bits, clip.fps, clip.height, clip.width, "h264", settings)


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


def _packets(stream: av.VideoStream, clip: Clip, offsets: np.ndarray | None) -> Iterator[av.Packet]:
    with ExitStack() as stack:
        canvas = None if offsets is None else stack.enter_context(borrow_canvas(clip.height, clip.width))
        for t in range(clip.num_frames):
            if canvas is None or offsets is None:
                frame = clip.frame(t)
            else:
                frame = canvas.paint((clip.y[t], clip.u[t], clip.v[t]), offsets[t])
            frame.pts, frame.time_base = t, 1 / clip.fps
            yield from stream.encode(frame)
        yield from stream.encode(None)


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
