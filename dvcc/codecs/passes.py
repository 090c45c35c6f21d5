"""Passes of an encoder over a video of any length: the one place that goes through its frames, for files, streams and clips."""

from __future__ import annotations

import os
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

import av
import numpy as np

from dvcc._files import temporary_folder
from dvcc.clip import planes_of
from dvcc.codecs.base import ABR, CRF, EncodedClip, Rate
from dvcc.codecs.decode import decode
from dvcc.codecs.encoder import GivenQPs, Pass, SimpleRate, StreamEncoder
from dvcc.codecs.retarget import RetargetedEncoder
from dvcc.codecs.stats import EncodeStats
from dvcc.errors import DvccError
from dvcc.media.format import ClipSource, Planes, Source, SourceFrame, VideoFormat
from dvcc.media.prefetch import prefetch
from dvcc.qp import QPMap, QPOffsets

if TYPE_CHECKING:
    from dvcc.codecs.ffmpeg import VideoCodec

MappedFrame = tuple[SourceFrame, np.ndarray]
Maps = Callable[[Iterable[SourceFrame]], Iterator[MappedFrame]]
"""Gives frames their offsets or QPs, int (h, w); called once for each pass, and the same each time."""
Progress = Callable[[str, int], None]
"""Told the name of a pass, and how many frames it has done."""
Look = Callable[[int, SourceFrame, np.ndarray | None], None]
"""Shown frames by index, with the offsets or QPs (h, w) that were asked for."""


class Watch(Protocol):
    """Shown the 4:2:0 pictures of an encode by their number, each before it is coded and, in order, after."""

    def uncoded(self, index: int, planes: Planes) -> None: ...
    def coded(self, index: int, planes: Planes) -> None: ...


def no_progress(name: str, done: int) -> None:
    """Tell nobody."""


def code(
    codec: VideoCodec,
    rate: SimpleRate | Callable[[], ABR],
    picture: VideoFormat,
    frames: Iterable[tuple[SourceFrame, np.ndarray | None]],
    container: av.container.OutputContainer,
    stats: EncodeStats,
    *,
    mapped: bool = False,
    number: Pass | None = None,
    begin: Callable[[], None] = lambda: None,
    mux: Callable[[av.Packet[Any]], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    look: Look = lambda index, frame, values: None,
    stop_at: tuple[type[BaseException], ...] = (),
) -> EncodeStats:
    """Code `frames` into `container`, and count in `stats` what they come to, which is returned.

    rate: or what is asked for one before every frame, of one pass with a buffer: see `RetargetedEncoder`.
    mapped: the frames come with maps. begin: called when the container has its stream and nothing else. mux: takes the packets
    (None: the container does). stop_at: exceptions that end the video here, as if no frame followed. Raises `CodecError` when the
    encoder fails, and what the frames raise.
    """
    encoder: StreamEncoder | RetargetedEncoder
    if callable(rate):
        encoder = RetargetedEncoder(codec, container, rate, picture, mapped=mapped)
    else:
        encoder = StreamEncoder(codec, container, rate, picture, number=number, mapped=mapped)
    mux = mux or container.mux_one

    def take(packets: Iterable[av.Packet[Any]]) -> None:
        for packet in packets:
            stats.add(packet)
            mux(packet)

    begin()
    first = last = None
    try:
        for index, (frame, values) in enumerate(frames):
            first, last = frame.pts if first is None else first, frame.pts
            look(index, frame, values)
            take(encoder.encode(frame.planes, frame.pts, values))
            stats.most_delay = max(stats.most_delay, index + 1 - stats.num_frames)
            progress(index + 1)
    except stop_at:
        stats.stopped = True
    take(encoder.flush())
    if first is not None and last is not None:
        duration = (last - first) * picture.time_base + 1 / picture.fps
        stats.close(settings=encoder.settings, header_bits=encoder.header_bits, duration=duration)
    return stats


@dataclass(frozen=True)
class EncoderPass:
    """One pass over a source, frames being read and their maps decided while earlier ones are coded."""

    name: str
    codec: VideoCodec
    source: Source
    rate: SimpleRate
    maps: Maps | None = None
    number: Pass | None = None
    progress: Progress = no_progress
    watch: Watch | None = None

    def run(
        self, frames: Iterable[SourceFrame], container: av.container.OutputContainer, *, qps: bool = False, **hooks: Any
    ) -> EncodeStats:
        """Code the source's `frames` into `container`; qps: the stats are to know the coded QPs, which takes time."""
        stats, mapped = EncodeStats(self.source.num_frames, self.codec, qps), self.maps is not None
        reader = None
        if self.watch is not None:
            frames = _shown(frames, self.watch)
            reader = _PacketReader(self.codec, self.watch, hooks.get("mux") or container.mux_one)
            hooks["mux"] = reader.mux
        pairs: Iterator[tuple[SourceFrame, Any]] = self.maps(frames) if self.maps else ((frame, None) for frame in frames)
        with closing(prefetch(pairs)) as prepared:
            hooks |= {"mapped": mapped, "number": self.number, "progress": lambda done: self.progress(self.name, done)}
            code(self.codec, self.rate, self.source.picture, prepared, container, stats, **hooks)
        if reader is not None:
            reader.close()
        return stats


def _shown(frames: Iterable[SourceFrame], watch: Watch) -> Iterator[SourceFrame]:
    for index, frame in enumerate(frames):
        watch.uncoded(index, frame.planes)
        yield frame


class _PacketReader:
    """Decodes the packets of an encoder for a watch, on their way to `mux`."""

    def __init__(self, codec: VideoCodec, watch: Watch, mux: Callable[[av.Packet[Any]], None]) -> None:
        self._watch, self._mux, self._count = watch, mux, 0
        self._context = av.CodecContext.create(codec.coded_as, "r")
        self._context.thread_count = 1

    def mux(self, packet: av.Packet[Any]) -> None:
        if self._count == 0 and self._context.extradata is None:
            self._context.extradata = packet.stream.codec_context.extradata  # the parameter sets, where a container keeps them
        self._show(packet)
        self._mux(packet)

    def close(self) -> None:
        """Show the pictures that are left."""
        self._show(None)

    def _show(self, packet: av.Packet[Any] | None) -> None:
        for frame in self._context.decode(packet):
            self._watch.coded(self._count, planes_of(frame))
            self._count += 1


class Encoded(Protocol):
    """A finished encode, of a clip or of a whole video: a dataclass with a field `num_encodes`, the passes spent."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def num_frames(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def bitrate_kbps(self) -> float: ...
    @property
    def num_encodes(self) -> int: ...


R = TypeVar("R", bound=Encoded)


class Destination(AbstractBase, Generic[R]):
    """Where encodes of a source go. A controller may write several there, and returns the one that counts.

    progress: told of every pass. decided: what a control did, in a line, set by the controller. repeats_headers: whether the
    parameter sets come with every key frame, which the first of two passes has to count as the second does.
    """

    repeats_headers = False

    def __init__(self, progress: Progress = no_progress) -> None:
        self.progress, self.decided = progress, ""

    @abstractmethod
    def write(self, last: EncoderPass) -> R:
        """Run the `last` pass of an encode over its source's frames into a container that is kept.

        The result's `num_encodes` is 1: the passes before it are not known here.
        """


class Memory(Destination[EncodedClip]):
    """Encodes in memory, of clips and of videos: only what is coded is held."""

    def write(self, last: EncoderPass) -> EncodedClip:
        """See `Destination.write`."""
        buffer, sizes, asked = BytesIO(), list[tuple[int, int]](), list[np.ndarray]()
        with av.open(buffer, "w", format="mp4") as container:

            def mux(packet: av.Packet[Any]) -> None:
                assert packet.pts is not None  # the encoder gives back the frames' times
                sizes.append((packet.pts, 8 * packet.size))
                container.mux_one(packet)

            def look(index: int, frame: SourceFrame, values: np.ndarray | None) -> None:
                if values is not None and isinstance(last.rate, GivenQPs):
                    asked.append(values)

            stats = last.run(last.source.frames(), container, mux=mux, look=look)
        bits = np.array([size for _, size in sorted(sizes)], np.int64)  # in display order
        bits[0] += stats.header_bits
        picture, requested = last.source.picture, QPMap(np.stack(asked)) if asked else None
        size, kind = (picture.height, picture.width), last.codec.coded_as
        return EncodedClip(buffer.getvalue(), bits, picture.fps, *size, kind, stats.settings, requested)


def encode(
    codec: VideoCodec,
    source: Source,
    rate: SimpleRate,
    into: Destination[R],
    maps: Maps | None = None,
    *,
    name: str = "encode",
    watch: Watch | None = None,
) -> R:
    """Code `source` at `rate`, in two passes if it says so; `maps` has offsets, or with `GivenQPs` every QP.

    name: of a single pass, for `into.progress`. watch: shown the pictures of the last pass. Raises `CodecError` when the encoder
    fails or would have ignored the map, and what `source`, `maps` and `into` raise.
    """
    if codec.cache is not None and isinstance(source, ClipSource) and isinstance(into, Memory):
        coded = codec.cache.encode(replace(codec, cache=None), source.clip, _in_full(rate, source, maps))
        if watch is not None:
            _watch_cached(coded, source, watch)
        return cast(R, coded)
    single = EncoderPass(name, codec, source, rate, maps, progress=into.progress, watch=watch)
    if not (isinstance(rate, ABR) and rate.passes == 2):
        return into.write(single)
    with temporary_folder() as folder:  # text statistics; encoders take nothing but a path
        first, second = (
            replace(single, name=f"{word} pass", number=Pass(number, f"{folder}/stats"), watch=watch if number == 2 else None)
            for number, word in ((1, "first"), (2, "second"))
        )
        num_frames = _run_dry(first, repeats_headers=into.repeats_headers)
        _check_statistics(folder / "stats", num_frames)
        return replace(into.write(second), num_encodes=2)


def _watch_cached(coded: EncodedClip, source: ClipSource, watch: Watch) -> None:
    decoded = ClipSource(decode(coded.bitstream))
    for index, (before, after) in enumerate(zip(source.frames(), decoded.frames(), strict=True)):
        watch.uncoded(index, before.planes)
        watch.coded(index, after.planes)


def _in_full(rate: SimpleRate, source: ClipSource, maps: Maps | None) -> Rate:
    """Return the rate with its maps; offsets that are all 0 are none: the encoder alone makes the same of it."""
    if maps is None:
        assert not isinstance(rate, GivenQPs)  # its QPs are maps
        return rate
    values = np.stack([values for _, values in maps(source.frames())]).astype(np.int16)
    if isinstance(rate, GivenQPs):
        return QPMap(values)
    assert isinstance(rate, (ABR, CRF))  # no other rate takes offsets
    return replace(rate, offsets=QPOffsets(values)) if values.any() else rate


def _run_dry(first: EncoderPass, *, repeats_headers: bool) -> int:
    """Run a pass for its statistics, and return the number of its frames.

    An encoder writes them when the last reference to it goes: when this function is left.
    """
    with av.open(os.devnull, "w", format="mpegts" if repeats_headers else "matroska") as container:
        return first.run(first.source.frames(), container, mux=lambda packet: None).num_frames


def _check_statistics(path: Path, num_frames: int) -> None:
    """Raise `DvccError` unless every frame has its line: of a full disk x264 says nothing, and misses its rate or crashes."""
    lines, last = 0, b""
    with path.open("rb") as file:
        for last in file:
            lines += last.startswith(b"in:")
    if lines != num_frames or not last.endswith(b"\n"):
        folder = path.parent.parent
        raise DvccError(
            f"{folder} took only a part of the encoder's statistics: free some space, or set TMPDIR to another folder"
        )
