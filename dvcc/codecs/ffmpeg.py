"""Video encoders through PyAV: a clip in memory to a real bitstream, with the bits of every frame."""

from __future__ import annotations

import io
import re
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar, Literal

import av
import numpy as np
from av.video.reformatter import Colorspace

from dvcc.clip import Clip
from dvcc.codecs.base import ABR, CQP, CRF, Codec, EncodedClip, Rate
from dvcc.codecs.encoder import BASE_QP, GivenQPs, Pass, SimpleRate, StreamEncoder, complaints
from dvcc.errors import CodecError, ConfigError
from dvcc.media.format import VideoFormat
from dvcc.qp import QPMap, QPOffsets
from dvcc.units import LONGEST_GOP

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_SPECIAL, _ESCAPED = r"[\\':\s]", r"\\\g<0>"
_TAGS = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}


@dataclass(frozen=True)
class VideoCodec(Codec):
    """An encoder of FFmpeg's; a member is a file of its own.

    preset: the encoder's name. gop: frames from one I frame to the next at most, closed. bframes: at most so many B frames in
    a row (None: the preset's). threads: frame threads; fixed, because the output depends on them. flags: FFmpeg
    flags, "" for none. params: parameters by the encoder's names, over those that dvcc sets. Raises `ConfigError` for a wrong
    argument.

    name, library: the encoder's own name and FFmpeg's. coded_as: FFmpeg's name of the format. tag: how mp4 calls it, None for
    FFmpeg's choice. most_threads: that it takes.
    """

    name: ClassVar[str]
    library: ClassVar[Literal["libx264", "libx265"]]
    coded_as: ClassVar[Literal["h264", "hevc"]]
    tag: ClassVar[str | None] = None
    most_threads: ClassVar[int]

    preset: str = "medium"
    gop: int = 8
    bframes: int | None = None
    threads: int = 1
    flags: str = ""
    params: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"{self.name} has no preset {self.preset!r}: choose one of {', '.join(PRESETS)}")
        for name, value, low, high in (("gop", self.gop, 1, LONGEST_GOP), ("threads", self.threads, 1, self.most_threads)):
            if not low <= value <= high:
                raise ConfigError(f"{type(self).__name__}({name}=...) goes from {low} to {high}, got {value}")
        if self.bframes is not None and not 0 <= self.bframes <= 16:
            raise ConfigError(f"{type(self).__name__}(bframes=...) goes from 0 to 16, got {self.bframes}")
        object.__setattr__(self, "params", MappingProxyType({str(k): str(v) for k, v in self.params.items()}))

    def __reduce__(self) -> tuple:  # mapping proxies do not pickle, and codecs travel to worker processes
        return type(self), (self.preset, self.gop, self.bframes, self.threads, self.flags, dict(self.params))

    @abstractmethod
    def own_params(self, rate: SimpleRate) -> dict[str, str]:
        """Parameters that dvcc sets at a rate, by the encoder's names."""

    @abstractmethod
    def pass_options(self, number: Pass) -> tuple[dict[str, str], dict[str, str]]:
        """What makes it one of two passes: FFmpeg's options, and parameters."""

    @abstractmethod
    def account(self, packet: bytes, rate: SimpleRate, picture: VideoFormat) -> tuple[str | None, int]:
        """The encoder's own text about its settings, None without one, and the bytes it takes of the first packet."""

    @abstractmethod
    def check_obeyed(self, settings: str, *, exact: bool, options: dict[str, str]) -> None:
        """Raise `CodecError` if the encoder's own account of its settings means that it drops a map or, `exact`, shifts it."""

    def mean_qp_of(self, packet: av.Packet) -> tuple[str, float] | None:
        """The type (I, P, B) and the mean QP of the packet's frame, where the encoder says it; None: it has to be decoded."""
        return None

    def options(self, rate: SimpleRate, number: Pass | None = None) -> dict[str, str]:
        """FFmpeg's options for a rate. Raises `CodecError` for a parameter that the encoder does not know."""
        match rate:
            case GivenQPs():
                options = {"crf": str(BASE_QP)}
            case CQP():
                options = {"qp": str(rate.qp)}
            case CRF():
                options = {"crf": f"{rate.value:g}"}
            case ABR():
                options = {"b": str(round(rate.kbps * 1000))}
                if rate.vbv is not None:
                    options |= {"maxrate": str(round(rate.vbv[0] * 1000)), "bufsize": str(round(rate.vbv[1] * 1000))}
        if self.bframes is not None:
            options["bf"] = str(self.bframes)
        if self.flags:
            options["flags"] = self.flags
        params = {**self.own_params(rate), **self.params}
        fixed = {"preset": self.preset, f"{self.name}-params": _joined(params)}
        if unknown := complaints(self.library, tuple(fixed.items())):
            raise CodecError(
                f"{self.name} would ignore {unknown[-1]!r} (options {options | fixed}): check the names and values in params"
            )
        more, more_params = ({}, {}) if number is None else self.pass_options(number)
        return {**options, **fixed, f"{self.name}-params": _joined({**params, **more_params}), **more}

    def encode(self, clip: Clip, rate: Rate) -> EncodedClip:
        """Encode `clip` with `rate` (`QPMap`, `CQP`, `CRF` or `ABR`).

        Raises `CodecError` when FFmpeg refuses the options or fails, and when the encoder would have ignored the map;
        `ConfigError` when the map does not fit the clip.
        """
        match rate:
            case QPMap():
                rate.check_fits(clip)
                return replace(self._encode_pass(clip, GivenQPs(), rate.values), requested_qp=rate)
            case ABR(offsets=None) | CQP() | CRF():
                offsets = None
            case ABR(offsets=QPOffsets() as given):
                given.check_fits(clip)
                offsets = given.values
            case _:
                raise CodecError(f"{type(self).__name__} takes a QPMap, CQP, CRF or ABR as rate, not {rate!r}")
        if not (isinstance(rate, ABR) and rate.passes == 2):
            return self._encode_pass(clip, rate, offsets)
        with tempfile.TemporaryDirectory(prefix="dvcc-") as folder:  # text statistics; encoders take nothing but a path
            passes = [self._encode_pass(clip, rate, offsets, Pass(number, f"{folder}/stats")) for number in (1, 2)]
        return replace(passes[1], num_encodes=2)

    def _encode_pass(self, clip: Clip, rate: SimpleRate, values: np.ndarray | None, number: Pass | None = None) -> EncodedClip:
        """One pass, in its own frame: an encoder writes its statistics when the last reference to the encoder goes."""
        buffer = io.BytesIO()
        packets: list[tuple[int, int]] = []  # (display index, bits)
        picture = VideoFormat(clip.height, clip.width, clip.fps, 1 / clip.fps, _TAGS[clip.matrix], full_range=clip.full_range)
        with av.open(buffer, "w", format="mp4") as container:
            encoder = StreamEncoder(self, container, rate, picture, number=number, mapped=values is not None)
            for packet in _packets(encoder, clip, values):
                assert packet.pts is not None  # `_packets` numbers the frames
                packets.append((round(packet.pts * packet.time_base * clip.fps), 8 * packet.size))
                container.mux(packet)
        bits = np.zeros(clip.num_frames, np.int64)
        for index, size in packets:
            bits[index] += size
        bits[0] += encoder.header_bits
        return EncodedClip(buffer.getvalue(), bits, clip.fps, clip.height, clip.width, self.coded_as, encoder.settings)


def _packets(encoder: StreamEncoder, clip: Clip, values: np.ndarray | None) -> Iterator[av.Packet]:
    for t in range(clip.num_frames):
        yield from encoder.encode((clip.y[t], clip.u[t], clip.v[t]), t, None if values is None else values[t])
    yield from encoder.flush()


def _joined(params: Mapping[str, str]) -> str:
    """As FFmpeg takes them apart: what means something to it is escaped, as in the path of a file."""
    return ":".join(f"{key}={re.sub(_SPECIAL, _ESCAPED, value)}" for key, value in params.items())
