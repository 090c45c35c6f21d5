"""The maps that a trained control decides for a whole video, frame by frame, for `dvcc encode` and `dvcc export` alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np

from dvcc.codecs import CRF, VideoCodec
from dvcc.codecs.bitstream import CodedStream
from dvcc.control.runtime import Control
from dvcc.control.stream import ControlStream, chunks
from dvcc.encode.coding import Progress, code, unmapped
from dvcc.encode.presets import control_stream, object_stream, reduced_frames
from dvcc.errors import VideoError
from dvcc.media.source import SourceFrame, VideoSource
from dvcc.qp import Delivery, QPMap, QPOffsets, fill_skipped_qps
from dvcc.rate_control.learned import dithered, shift_to_target
from dvcc.rate_control.objects import Objects, ObjectStream

_LOOK_EVERY = 16
_MOST_HELD = 2**28  # bytes of pictures that wait for the end of their GOP

Decided = Iterator[tuple[SourceFrame, np.ndarray]]
"""Frames with what the control decides of them, int (h, w)."""


def by_gop(decided: Decided, gop: int, delivery: Delivery) -> Iterator[QPMap | QPOffsets]:
    """One map for every `gop` frames, the last one of what is left."""
    kind, maps = QPOffsets if delivery == "offsets" else QPMap, (values for _, values in decided)
    while some := list(islice(maps, gop)):
        yield kind(np.stack(some).astype(np.int16))


def paired(source: VideoSource, frames: Iterable[SourceFrame], maps: Iterator[np.ndarray]) -> Decided:
    """Frames of the source with maps of an earlier pass. Raises `VideoError` when there are fewer of these."""
    for frame in frames:
        values = next(maps, None)
        if values is None:
            raise VideoError(f"{source.path} has other frames than a moment ago: it must not change while it is read")
        yield frame, values


class ObjectMaker:
    """The rule of objects before a video. The frames of a GOP wait for its last, or a piece of them where they would fill the
    memory."""

    def __init__(self, source: VideoSource, objects: Objects, codec: VideoCodec) -> None:
        self.source, self.objects, self.codec = source, objects, codec
        self._stream: ObjectStream | None = None

    def offsets(self, frames: Iterable[SourceFrame]) -> Decided:
        """Offsets, int8, on what the encoder itself decides."""
        stream = self._stream = object_stream(self.source, self.objects)
        most = max(stream.every, _MOST_HELD // (self.source.picture.height * self.source.picture.width * 3 // 2))
        held: list[SourceFrame] = []
        for number, frame in enumerate(frames):
            if held and (number % self.codec.gop == 0 or len(held) == most):
                yield from self._decided(stream, held)
                held = []
            held.append(frame)
        if held:
            yield from self._decided(stream, held)

    def words(self) -> str:
        """What was done, in a line, once all frames have been decided."""
        return self._stream.words(self.codec.name) if self._stream else ""

    @staticmethod
    def _decided(stream: ObjectStream, held: list[SourceFrame]) -> Decided:
        yield from zip(held, stream.decide([frame.planes for frame in held]), strict=True)


@dataclass(frozen=True)
class Analysis:
    """An encode that told the QPs x264 would take, in the file at `path`. shift: by which they have to move, in QPs, to meet the
    target."""

    path: Path
    shift: float


@dataclass(frozen=True)
class MapMaker:
    """A control before a video, whose GOPs are the codec's."""

    source: VideoSource
    control: Control
    target_kbps: float
    codec: VideoCodec

    def decided(self, frames: Iterable[SourceFrame], analysis: Analysis | None) -> Decided:
        """Offsets, or with an `analysis` every QP."""
        return self.offsets(frames) if analysis is None else self.qps(frames, analysis)

    def offsets(self, frames: Iterable[SourceFrame]) -> Decided:
        """Offsets, int8, on what the encoder itself decides."""
        control = self._beginning()
        for chunk, small in self._chunks(frames):
            yield from zip(chunk, np.rint(control.decide(small)).astype(np.int8), strict=True)

    def words(self) -> str:
        """Nothing: what a network decides is told by the report's pictures."""
        return ""

    def qps(self, frames: Iterable[SourceFrame], analysis: Analysis, *, correction: float = 0.0) -> Decided:
        """Every QP, 0..51: those of the analysis plus the offsets. correction: QPs by which to move them all."""
        control = self._beginning()
        analysed = (frame.qp for frame in CodedStream(analysis.path))
        for chunk, small in self._chunks(frames):
            read = np.stack([values for _, values in paired(self.source, chunk, analysed)])
            # Whole but for what all have in common: only that has to be dithered.
            qp = np.rint(fill_skipped_qps(read) + control.decide(small)) + analysis.shift + correction
            yield from zip(chunk, dithered(qp).values, strict=True)

    def analyse(self, folder: Path, progress: Progress) -> Analysis:
        """The analysis encode into `folder`, at a constant rate factor near the target by the network's prior."""
        path, frames = folder / "analysis.mkv", unmapped(self.source.frames())
        with av.open(str(path), "w", format="matroska") as container:
            tally = code("analysis", self.codec, CRF(self._level(progress)), self.source, frames, container, progress=progress)
        return Analysis(path, shift_to_target(tally.bitrate_kbps, self.target_kbps))

    def _beginning(self) -> ControlStream:
        return control_stream(self.source, self.control, self.target_kbps, gop=self.codec.gop)

    def _level(self, progress: Progress) -> float:
        """The prior's QP for the whole video, from two frames in a row out of every few: a title says little of the film."""
        control, levels, before = self._beginning(), list[float](), None
        for index, frame in enumerate(self.source.frames()):
            if index % _LOOK_EVERY == 0:
                before = reduced_frames(self.source, [frame])
            elif index % _LOOK_EVERY == 1 and before is not None:
                both = np.concatenate([before, reduced_frames(self.source, [frame])])
                levels.append(control.level(both))
            progress("look", index + 1)
        if not levels and before is not None:  # a single frame
            levels.append(control.level(before))
        return sum(levels) / len(levels)

    def _chunks(self, frames: Iterable[SourceFrame]) -> Iterator[tuple[list[SourceFrame], np.ndarray]]:
        """A few frames at a time, and what the network is shown of them."""
        return ((chunk, reduced_frames(self.source, chunk)) for chunk in chunks(frames, self.codec.gop))
