"""What decides the QP offsets of a video, frame by frame in memory that does not grow: a trained control, or objects."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np

from dvcc.codecs import VideoCodec
from dvcc.codecs.passes import MappedFrame
from dvcc.control.deployed.runtime import Control
from dvcc.control.deployed.stream import CHUNK, ControlStream, chunks, reduced_planes
from dvcc.control.eyes.base import Look
from dvcc.errors import ConfigError
from dvcc.media.format import Planes, Source, SourceFrame
from dvcc.media.source import VideoSource
from dvcc.networks.detectors.base import Boxes
from dvcc.qp import MAX_QP
from dvcc.rate_control.objects import Objects, ObjectStream
from dvcc.units import quarter_turns

_MOST_HELD = 2**28  # bytes of pictures that wait for the end of their GOP


class OffsetGenerator(AbstractBase):
    """Offsets on what the encoder itself decides, int8 (h, w), for the frames of one video in order."""

    @abstractmethod
    def generate(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """Frames with their offsets; some may wait for others of their GOP."""

    @abstractmethod
    def generate_next(self, frame: SourceFrame) -> np.ndarray:
        """Return the offsets of the next frame of a stream, by what has come up to it."""

    def retarget(self, target_kbps: float) -> None:
        """Decide for another bitrate from the next frame on; what does not depend on it goes on as before."""
        return

    def follow(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """Frames with offsets as of a stream: none waits for a later one."""
        return ((frame, self.generate_next(frame)) for frame in frames)

    def words(self) -> str:
        """Return what was done so far, in a line; "" where pictures tell it better."""
        return ""


class ObjectOffsets(OffsetGenerator):
    """The rule of objects. The frames of a GOP wait for its last, or a piece of them where they would fill the memory."""

    def __init__(self, objects: Objects, source: Source, target_kbps: float, codec: VideoCodec) -> None:
        self._codec = codec
        self._stream = begin_objects(objects, source)
        self._most = most_held(self._stream)

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
    """A trained control, whose GOPs are the codec's.

    analysis: the planes (3, h, w) of an analysis encode for every frame in order, where the control sees one. objects: whose
    offsets are added to the control's, which has no rule of its own then. Raises `ConfigError` without the planes.
    """

    def __init__(
        self,
        control: Control,
        source: Source,
        target_kbps: float,
        codec: VideoCodec,
        *,
        analysis: Iterator[np.ndarray] | None = None,
        objects: Objects | None = None,
    ) -> None:
        if control.analysis and analysis is None:
            raise ConfigError(
                "this control sees an analysis encode, which is made of whole files and clips: give it to dvcc encode, or to "
                "controllers=[learned] of dvcc evaluate control"
            )
        self._analysis = analysis
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
            quarter_turns=quarter_turns(source.rotation),
        )
        self._rule: RuleUnder | RuleBeside | None = None
        if control.rule is not None:
            self._rule = RuleUnder(control, source)
        elif objects is not None:
            self._rule = RuleBeside(objects, source)
        self._most = CHUNK if self._rule is None else most_held(self._rule.stream)

    def generate(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """See `OffsetGenerator.generate`. Over a rule, the frames of a GOP wait for its last."""
        for held in chunks(frames, self._gop, most=self._most):
            seen = None if self._rule is None else self._rule.decide([frame.planes for frame in held])
            for start in range(0, len(held), CHUNK):
                chunk = held[start : start + CHUNK]
                part = None if seen is None else seen.part(start, start + CHUNK)
                yield from zip(chunk, self._decide(chunk, part), strict=True)

    def retarget(self, target_kbps: float) -> None:
        """See `OffsetGenerator.retarget`."""
        self.stream.retarget(target_kbps)

    def generate_next(self, frame: SourceFrame) -> np.ndarray:
        """See `OffsetGenerator.generate_next`."""
        (offsets,) = self._decide([frame], None if self._rule is None else self._rule.decide_next(frame.planes))
        return np.asarray(offsets)

    def _decide(self, frames: Sequence[SourceFrame], seen: RuleSeen | None) -> np.ndarray:
        small, pictures = np.stack([reduced_frame(self._source, frame) for frame in frames]), [frame.planes for frame in frames]
        analysis = None if self._analysis is None else np.stack([next(self._analysis) for _ in frames])
        if seen is None:
            return np.asarray(np.rint(self.stream.decide(small, pictures, analysis=analysis)), np.int8)
        offsets = seen.offsets + self.stream.decide(small, pictures, planes=seen.planes, analysis=analysis)
        return np.asarray(np.rint(offsets.clip(-MAX_QP, MAX_QP)), np.int8)


class RuleSeen(NamedTuple):
    """Of T pictures: the offsets of the rule, int8 (T, h, w), and what eyes saw of them, float32 (T, E, h, w), if they did."""

    offsets: np.ndarray
    planes: np.ndarray | None

    def part(self, start: int, end: int) -> RuleSeen:
        """Of some of the pictures."""
        return RuleSeen(self.offsets[start:end], None if self.planes is None else self.planes[start:end])


class RuleBeside:
    """The rule of objects beside a control, with a detector that the control knows nothing of."""

    def __init__(self, objects: Objects, source: Source) -> None:
        self.stream = begin_objects(objects, source)

    def decide(self, pictures: Sequence[Planes]) -> RuleSeen:
        """Decide for the pictures of a GOP, or a piece of it."""
        return RuleSeen(self.stream.decide(pictures), None)

    def decide_next(self, picture: Planes) -> RuleSeen:
        """Decide for the next picture of a stream."""
        return RuleSeen(self.stream.decide_next(picture)[None], None)


class RuleUnder:
    """The rule of objects under a control that adds to it: one look tells both.

    A picture without a look has the features of the last one, and the painted boxes that the rule has moved to it.
    """

    def __init__(self, control: Control, source: Source) -> None:
        assert control.rule is not None and control.eyes is not None  # a control is trained on a rule with the eyes for it
        self._eyes, self._taken = control.eyes, list[Look]()
        self.stream = begin_objects(Objects(self, control.rule), source)
        self._planes = np.zeros(0, np.float32)

    def detect(self, rgb: np.ndarray, *, least_score: float) -> list[Boxes]:
        """Look at an upright picture, for the rule."""
        self._taken.append(self._eyes.look(rgb))
        boxes = self._taken[-1].boxes
        assert boxes is not None
        return [boxes]

    def decide(self, pictures: Sequence[Planes]) -> RuleSeen:
        """Decide for the pictures of a GOP, or a piece of it."""
        moments = self.stream.moments(len(pictures))
        offsets = self.stream.decide(pictures)
        looks = dict(zip(moments, self._taken, strict=True))
        return RuleSeen(offsets, self._planes_of(looks))

    def decide_next(self, picture: Planes) -> RuleSeen:
        """Decide for the next picture of a stream."""
        offsets = self.stream.decide_next(picture)[None]
        return RuleSeen(offsets, self._planes_of(dict(enumerate(self._taken))))

    def _planes_of(self, looks: Mapping[int, Look]) -> np.ndarray:
        """Return the planes of the pictures that were decided last, by the looks at some of them."""
        stream, planes = self.stream, []
        self._taken = []
        for moment, painted in enumerate(stream.painted):
            if moment in looks:
                turns = stream.quarter_turns
                self._planes = self._eyes.on_grid(looks[moment], stream.height, stream.width, quarter_turns=turns)
            planes.append(np.concatenate([painted[None], self._planes[1:]]))
        return np.stack(planes)


def begin_objects(objects: Objects, source: Source) -> ObjectStream:
    """Return the rule of objects at the first frame of a video. Raises `ConfigError` where its zones have another shape."""
    picture = source.picture
    if objects.zones is not None:
        objects.zones.check_shape(picture, quarter_turns=quarter_turns(source.rotation))
    return ObjectStream(
        objects,
        height=picture.height,
        width=picture.width,
        matrix=source.matrix,
        full_range=picture.full_range,
        quarter_turns=quarter_turns(source.rotation),
        mirrored=isinstance(source, VideoSource) and source.mirrored,
    )


def most_held(stream: ObjectStream) -> int:
    """Return how many pictures may wait for the end of their GOP."""
    return max(stream.every, _MOST_HELD // (stream.height * stream.width * 3 // 2))


def reduced_frame(source: Source, frame: SourceFrame) -> np.ndarray:
    """float32 (3, 4h, 4w): what a control's network is shown of a frame."""
    return reduced_planes(*frame.planes, matrix=source.matrix, full_range=source.picture.full_range)


@overload
def begin_offsets(control: Control | Objects, source: Source, target_kbps: float, codec: VideoCodec) -> OffsetGenerator: ...
@overload
def begin_offsets(
    control: Control | Objects | None, source: Source, target_kbps: float, codec: VideoCodec
) -> OffsetGenerator | None: ...
def begin_offsets(
    control: Control | Objects | None, source: Source, target_kbps: float, codec: VideoCodec
) -> OffsetGenerator | None:
    """Return what decides the offsets of `source` under `control`, at its first frame; None: nothing, the encoder is alone."""
    if control is None:
        return None
    if isinstance(control, Objects):
        return ObjectOffsets(control, source, target_kbps, codec)
    return LearnedOffsets(control, source, target_kbps, codec)
