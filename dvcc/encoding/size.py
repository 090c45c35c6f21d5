"""A file of at most so many bytes: the bitrate that leaves room for the other streams and the container, and corrections."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dvcc.encoding.file import EncodeResult
from dvcc.encoding.plan import EncodePlan
from dvcc.errors import ConfigError
from dvcc.media.container import opened_file
from dvcc.media.copied import plan_stream_copy
from dvcc.media.output import CONTAINERS
from dvcc.media.source import VideoSource

_UNITS = {"": 1, "k": 1000, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d*)?) ?([kmg]i?)?b?", re.IGNORECASE)
_OF_FILE, _OF_PACKET = 2000, 14  # bytes that a container takes: its index, and per packet
_IN_TS, _OF_TS_PACKET, _OF_TS_SECOND = 188 / 184, 130, 4200  # MPEG-TS: pieces of 188 bytes, the last of every packet half full
_AIM = 0.985  # of the size: two passes miss a bitrate by about one in a hundred
_CORRECTIONS = 3
_LEAST_USED = 0.97  # of the size: below, a correction is worth its encode


def size_of(word: str) -> int:
    """Bytes that a word says: a number with B, kB, MB, GB (powers of 1000), KiB, MiB or GiB (of 1024). Raises `ConfigError`."""
    match = _SIZE.fullmatch(word.strip())
    size = round(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if size < 1:
        raise ConfigError(f"--target-size {word} is no size: give one as 20MB or 700kB")
    return size


@dataclass(frozen=True)
class SizePlan:
    """What a file of `size` bytes is made of. frames: of the video. other: bytes of what is copied. packets: of all streams."""

    size: int
    source: VideoSource
    out: Path
    frames: int
    other: int
    packets: int

    @classmethod
    def look(cls, size: int, source: VideoSource, out: Path) -> SizePlan:
        """Go through the packets of `source`, without decoding them."""
        muxer = CONTAINERS[out.suffix.lower()]
        frames = other = packets = 0
        with opened_file(source.path) as container:
            carried = {stream.index for stream in plan_stream_copy(container, source, muxer, out.suffix)[0]}
            for packet in container.demux():
                frames += bool(packet.size) and packet.stream.index == source.index
                if packet.stream.index in carried and packet.size:
                    other, packets = other + packet.size, packets + 1
        return cls(size, source, out, frames, other, packets + frames)

    @property
    def kbps(self) -> float:
        """The bitrate of the video that gives a file of the size. Raises `ConfigError` where nothing is left for the video."""
        seconds = max(self.frames, 1) / float(self.source.picture.fps)
        if CONTAINERS[self.out.suffix.lower()] == "mpegts":
            container = _OF_TS_SECOND * seconds + _OF_TS_PACKET * self.packets
            left = _AIM * self.size / _IN_TS - self.other - container
        else:
            left = _AIM * self.size - self.other - _OF_FILE - _OF_PACKET * self.packets
        if left <= 0:
            raise ConfigError(
                f"a file of {self.size} bytes leaves nothing for the video: its other streams and the container take about "
                f"{self.size - round(left)}"
            )
        return left / 125 / seconds


def encode_to_size(look: SizePlan, plan: EncodePlan, encode: Callable[[EncodePlan], EncodeResult]) -> EncodeResult:
    """`encode` a plan, and again, up to three times, where its file is larger than `look.size`, or smaller than it might be."""
    coded, asked, aim = encode(plan), plan.target_kbps, _AIM
    for _ in range(_CORRECTIONS):
        actual, video = plan.out.stat().st_size, coded.bits / 8
        if _LEAST_USED * look.size <= actual <= look.size:
            break
        asked *= (aim * look.size - (actual - video)) / video
        try:
            again = encode(replace(plan, target_kbps=asked))
        except ConfigError:  # the encoder cannot go as low, or as high
            break
        aim -= 1 - _AIM
        coded = replace(
            again,
            num_encodes=coded.num_encodes + again.num_encodes,
            elapsed_seconds=coded.elapsed_seconds + again.elapsed_seconds,
        )
    return coded
