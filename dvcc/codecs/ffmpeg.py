"""x264 through PyAV: a clip in memory to a real bitstream, with the bits of every frame."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import av
import numpy as np
from av.video.reformatter import Colorspace

from dvcc.clip import Clip
from dvcc.codecs.base import ABR, CQP, CRF, Codec, EncodedClip, Rate
from dvcc.codecs.encoder import GivenQPs, Pass, Picture, SimpleRate, StreamEncoder
from dvcc.errors import CodecError, ConfigError
from dvcc.qp import QPMap, QPOffsets

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_TAGS = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}


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
                return replace(self._encode_pass(clip, GivenQPs(), rate.values), requested_qp=rate)
            case ABR(offsets=None) | CQP() | CRF():
                offsets = None
            case ABR(offsets=QPOffsets() as given):
                given.check_fits(clip)
                offsets = given.values
            case _:
                raise CodecError(f"X264 takes a QPMap, CQP, CRF or ABR as rate, not {rate!r}")
        if not (isinstance(rate, ABR) and rate.passes == 2):
            return self._encode_pass(clip, rate, offsets)
        with tempfile.TemporaryDirectory(prefix="dvcc-") as folder:  # text statistics; x264 takes nothing but a path
            passes = [self._encode_pass(clip, rate, offsets, Pass(number, f"{folder}/x264")) for number in (1, 2)]
        return replace(passes[1], num_encodes=2)

    def _encode_pass(self, clip: Clip, rate: SimpleRate, values: np.ndarray | None, number: Pass | None = None) -> EncodedClip:
        """One pass, in its own frame: x264 writes its statistics when the last reference to the encoder goes."""
        buffer = io.BytesIO()
        packets: list[tuple[int, int]] = []  # (display index, bits)
        picture = Picture(clip.height, clip.width, clip.fps, 1 / clip.fps, _TAGS[clip.matrix], full_range=clip.full_range)
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
        return EncodedClip(buffer.getvalue(), bits, clip.fps, clip.height, clip.width, "h264", encoder.settings)


def _packets(encoder: StreamEncoder, clip: Clip, values: np.ndarray | None) -> Iterator[av.Packet]:
    for t in range(clip.num_frames):
        yield from encoder.encode((clip.y[t], clip.u[t], clip.v[t]), t, None if values is None else values[t])
    yield from encoder.flush()
