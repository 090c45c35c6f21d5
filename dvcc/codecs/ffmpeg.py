"""Video encoders through PyAV: a clip in memory to a real bitstream, with the bits of every frame."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import av

from dvcc.clip import Clip
from dvcc.codecs.base import ABR, CQP, CRF, Codec, EncodedClip, Rate
from dvcc.codecs.encoder import BASE_QP, GivenQPs, Pass, SimpleRate, complaints
from dvcc.codecs.passes import Maps, Memory, encode
from dvcc.errors import CodecError, ConfigError
from dvcc.media.format import ClipSource, VideoFormat
from dvcc.qp import QPMap, QPOffsets
from dvcc.rgb_clip import RGBClip
from dvcc.units import LONGEST_GOP

if TYPE_CHECKING:
    from dvcc.codecs.cache import EncodeCache

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_SPECIAL, _ESCAPED = r"[\\':\s]", r"\\\g<0>"


@dataclass(frozen=True)
class VideoCodec(Codec):
    """An encoder of FFmpeg's; a member is a file of its own.

    preset: the encoder's name. gop: frames from one I frame to the next at most, closed. bframes: at most so many B frames in
    a row (None: the preset's). threads: frame threads; fixed, because the output depends on them. flags: FFmpeg
    flags, "" for none. params: parameters by the encoder's names, over those that dvcc sets. cache: keeps the encodes of clips.
    Raises `ConfigError` for a wrong argument.

    name, library: the encoder's own name and FFmpeg's. coded_as: FFmpeg's name of the format. tag: how mp4 calls it, None for
    FFmpeg's choice. most_threads: that it takes. retargets: whether it takes another bitrate while it is open. least_timed: fewer
    frames get decoding times that are whatever was in memory.
    """

    name: ClassVar[str]
    library: ClassVar[Literal["libx264", "libx265"]]
    coded_as: ClassVar[Literal["h264", "hevc"]]
    tag: ClassVar[str | None] = None
    most_threads: ClassVar[int]
    retargets: ClassVar[bool] = False
    least_timed: ClassVar[int] = 0

    preset: str = "medium"
    gop: int = 8
    bframes: int | None = None
    threads: int = 1
    flags: str = ""
    params: Mapping[str, str] = field(default_factory=dict, hash=False)
    cache: EncodeCache | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"{self.name} has no preset {self.preset!r}: choose one of {', '.join(PRESETS)}")
        for name, value, low, high in (("gop", self.gop, 1, LONGEST_GOP), ("threads", self.threads, 1, self.most_threads)):
            if not low <= value <= high:
                raise ConfigError(f"{type(self).__name__}({name}=...) goes from {low} to {high}, got {value}")
        if self.bframes is not None and not 0 <= self.bframes <= 16:
            raise ConfigError(f"{type(self).__name__}(bframes=...) goes from 0 to 16, got {self.bframes}")
        object.__setattr__(self, "params", MappingProxyType({str(k): str(v) for k, v in self.params.items()}))

    def __reduce__(self) -> tuple[Any, ...]:  # mapping proxies do not pickle, and codecs travel to worker processes
        return type(self), (self.preset, self.gop, self.bframes, self.threads, self.flags, dict(self.params), self.cache)

    @abstractmethod
    def own_params(self, rate: SimpleRate) -> dict[str, str]:
        """Parameters that dvcc sets at a rate, by the encoder's names."""

    @abstractmethod
    def pass_options(self, number: Pass) -> tuple[dict[str, str], dict[str, str]]:
        """Return what makes it one of two passes: FFmpeg's options, and parameters."""

    @abstractmethod
    def encoder_settings(self, packet: bytes, rate: SimpleRate, picture: VideoFormat) -> tuple[str | None, int]:
        """Return the encoder's own text about its settings, None without one, and the bytes it takes of the first packet."""

    @abstractmethod
    def check_obeyed(self, settings: str, *, exact: bool, options: dict[str, str]) -> None:
        """Raise `CodecError` if what the encoder reports of its settings means that it drops a map or, `exact`, shifts it."""

    def mean_qp_of(self, packet: av.Packet[Any]) -> tuple[str, float] | None:
        """Return the type (I, P, B) and the mean QP of the packet's frame, where the encoder says it.

        None: the frame has to be decoded.
        """
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
        if isinstance(rate, (ABR, CRF)) and rate.vbv is not None:
            options |= {"maxrate": str(round(rate.vbv[0] * 1000)), "bufsize": str(round(rate.vbv[1] * 1000))}
        if self.bframes is not None:
            options["bf"] = str(self.bframes)
        if self.flags:
            options["flags"] = self.flags
        params = {**self.own_params(rate), **self.params}
        if isinstance(rate, ABR) and rate.vbv_init is not None:
            params["vbv-init"] = f"{rate.vbv_init:.2f}"
        fixed = {"preset": self.preset, f"{self.name}-params": _joined(params)}
        if unknown := complaints(self.library, tuple(fixed.items())):
            raise CodecError(
                f"{self.name} would ignore {unknown[-1]!r} (options {options | fixed}): check the names and values in params"
            )
        more, more_params = ({}, {}) if number is None else self.pass_options(number)
        return {**options, **fixed, f"{self.name}-params": _joined({**params, **more_params}), **more}

    def encode(self, clip: Clip | RGBClip, rate: Rate) -> EncodedClip:
        """Encode `clip` with `rate` (`QPMap`, `CQP`, `CRF` or `ABR`).

        Raises `CodecError` when FFmpeg refuses the options or fails, and when the encoder would have ignored the map;
        `ConfigError` when the map does not fit the clip.
        """
        if not isinstance(clip, Clip):
            raise CodecError(f"{type(self).__name__} codes 4:2:0, not {clip!r}: make it a Clip by Clip.from_rgb")
        match rate:
            case QPMap():
                return encode(self, ClipSource(clip), GivenQPs(), Memory(), _fitting(rate, clip))
            case ABR(offsets=QPOffsets() as offsets) | CRF(offsets=QPOffsets() as offsets):
                return encode(self, ClipSource(clip), rate, Memory(), _fitting(offsets, clip))
            case ABR() | CQP() | CRF():
                return encode(self, ClipSource(clip), rate, Memory())
            case _:
                raise CodecError(f"{type(self).__name__} takes a QPMap, CQP, CRF or ABR as rate, not {rate!r}")


def _fitting(maps: QPMap | QPOffsets, clip: Clip) -> Maps:
    """Return the maps of the clip's frames. Raises `ConfigError` unless they fit it."""
    maps.check_fits(clip)
    return lambda frames: zip(frames, maps.values, strict=True)


def _joined(params: Mapping[str, str]) -> str:
    """As FFmpeg takes them apart: what means something to it is escaped, as in the path of a file."""
    return ":".join(f"{key}={re.sub(_SPECIAL, _ESCAPED, value)}" for key, value in params.items())
