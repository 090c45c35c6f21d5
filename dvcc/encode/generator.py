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
from dvcc.encode.presets import control_stream, reduced_frames
from dvcc.errors import VideoError
from dvcc.media.source import SourceFrame, VideoSource
from dvcc.qp import Delivery, QPMap, QPOffsets, fill_skipped_qps
from dvcc.rate_control.learned import dithered, shift_to_target

_LOOK_EVERY = 16

Decided = Iterator[tuple[SourceFrame, np.ndarray]]
"""Frames with what the control decides of them, int (h, w)."""


def by_gop(decided: Decided, gop: int, delivery: Delivery) -> Iterator[QPMap | QPOffsets]:
    """One map for every `gop` frames, the last one of what is left."""
    kind, maps = QPOffsets if delivery == "offsets" else QPMap, (values for _, values in decided)
    while some := list(islice(maps, gop)):
        yield kind(np.stack(some).astype(np.int16))


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

    def qps(self, frames: Iterable[SourceFrame], analysis: Analysis, *, correction: float = 0.0) -> Decided:
        """Every QP, 0..51: those of the analysis plus the offsets. correction: QPs by which to move them all."""
        control = self._beginning()
        analysed = (frame.qp for frame in CodedStream(analysis.path))
        for chunk, small in self._chunks(frames):
            read = np.stack([values for _, values in self.paired(chunk, analysed)])
            # Whole but for what all have in common: only that has to be dithered.
            qp = np.rint(fill_skipped_qps(read) + control.decide(small)) + analysis.shift + correction
            yield from zip(chunk, dithered(qp).values, strict=True)

    def analyse(self, folder: Path, progress: Progress) -> Analysis:
        """The analysis encode into `folder`, at a constant rate factor near the target by the network's prior."""
        path, frames = folder / "analysis.mkv", unmapped(self.source.frames())
        with av.open(str(path), "w", format="matroska") as container:
            tally = code("analysis", self.codec, CRF(self._level(progress)), self.source, frames, container, progress=progress)
        return Analysis(path, shift_to_target(tally.bitrate_kbps, self.target_kbps))

    def paired(self, frames: Iterable[SourceFrame], maps: Iterator[np.ndarray]) -> Decided:
        """Frames with maps of an earlier pass. Raises `VideoError` when there are fewer of these."""
        for frame in frames:
            values = next(maps, None)
            if values is None:
                raise VideoError(f"{self.source.path} has other frames than a moment ago: it must not change while it is read")
            yield frame, values

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
