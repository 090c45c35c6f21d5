"""What decides the QP offsets of a video, frame by frame in memory that does not grow: a trained control, or objects."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dvcc.codecs import VideoCodec
from dvcc.codecs.passes import MappedFrame
from dvcc.control.runtime import Control
from dvcc.control.stream import ControlStream, chunks, reduced_planes
from dvcc.media.format import Source, SourceFrame
from dvcc.rate_control.objects import Objects, ObjectStream

_MOST_HELD = 2**28  # bytes of pictures that wait for the end of their GOP


class OffsetGenerator(AbstractBase):
    """Offsets on what the encoder itself decides, int8 (h, w), for the frames of one video in order."""

    @abstractmethod
    def generate(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """Frames with their offsets; some may wait for others of their GOP."""

    @abstractmethod
    def generate_next(self, frame: SourceFrame) -> np.ndarray:
        """The offsets of the next frame of a stream, by what has come up to it."""

    def follow(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """Frames with offsets as of a stream: none waits for a later one."""
        return ((frame, self.generate_next(frame)) for frame in frames)

    def words(self) -> str:
        """What was done so far, in a line; "" where pictures tell it better."""
        return ""


class ObjectOffsets(OffsetGenerator):
    """The rule of objects. The frames of a GOP wait for its last, or a piece of them where they would fill the memory."""

    def __init__(self, objects: Objects, source: Source, target_kbps: float, codec: VideoCodec) -> None:
        picture = source.picture
        self._codec = codec
        self._stream = ObjectStream(
            objects,
            height=picture.height,
            width=picture.width,
            matrix=source.matrix,
            full_range=picture.full_range,
            quarter_turns=round(source.rotation / 90) % 4,
        )
        self._most = max(self._stream.every, _MOST_HELD // (picture.height * picture.width * 3 // 2))

    def generate(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """See `OffsetGenerator.generate`."""
        for held in chunks(frames, self._codec.gop, most=self._most):
            yield from zip(held, self._stream.decide([frame.planes for frame in held]), strict=True)

    def generate_next(self, frame: SourceFrame) -> np.ndarray:
        """See `OffsetGenerator.generate_next`."""
        return self._stream.decide_next(frame.planes)

    def words(self) -> str:
        """See `OffsetGenerator.words`."""
        return self._stream.words(self._codec.name)


class LearnedOffsets(OffsetGenerator):
    """A trained control, whose GOPs are the codec's."""

    def __init__(self, control: Control, source: Source, target_kbps: float, codec: VideoCodec) -> None:
        picture, self._source, self._gop = source.picture, source, codec.gop
        self.stream = ControlStream(
            control,
            target_kbps,
            fps=picture.fps,
            height=picture.height,
            width=picture.width,
            matrix=source.matrix,
            full_range=picture.full_range,
            gop=codec.gop,
            quarter_turns=round(source.rotation / 90) % 4,
        )

    def generate(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """See `OffsetGenerator.generate`."""
        for chunk in chunks(frames, self._gop):
            yield from zip(chunk, self._decide(chunk), strict=True)

    def generate_next(self, frame: SourceFrame) -> np.ndarray:
        """See `OffsetGenerator.generate_next`."""
        return self._decide([frame])[0]

    def _decide(self, frames: Sequence[SourceFrame]) -> np.ndarray:
        small = np.stack([reduced_frame(self._source, frame) for frame in frames])
        return np.rint(self.stream.decide(small, [frame.planes for frame in frames])).astype(np.int8)


def reduced_frame(source: Source, frame: SourceFrame) -> np.ndarray:
    """float32 (3, 4h, 4w): what a control's network is shown of a frame."""
    return reduced_planes(*frame.planes, matrix=source.matrix, full_range=source.picture.full_range)


def begin_offsets(
    control: Control | Objects | None, source: Source, target_kbps: float, codec: VideoCodec
) -> OffsetGenerator | None:
    """What decides the offsets of `source` under `control`, at its first frame; None: nothing, the encoder is alone."""
    if control is None:
        return None
    kind = ObjectOffsets if isinstance(control, Objects) else LearnedOffsets
    return kind(control, source, target_kbps, codec)  # type: ignore[arg-type]  # the kind is the control's
