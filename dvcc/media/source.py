"""A video file of any length, frame by frame, with what belongs to it: time stamps, colour, rotation, damage."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np

from dvcc._words import counted
from dvcc.clip import Matrix, frame_to_planar
from dvcc.errors import VideoError
from dvcc.media.container import LIMITS, MEND_FILE, open_container
from dvcc.media.damage import Damage
from dvcc.media.decode import Others, decoded
from dvcc.media.ending import check_rest, is_cut_picture, is_truncated, unread_bytes
from dvcc.media.format import Planes, SourceFrame, VideoFormat
from dvcc.media.rates import is_gap
from dvcc.media.timestamps import STREAM_GAP, Timeline
from dvcc.units import quarter_turns

_MOST_MISSING = 0.03  # of the length: what a file says of it is not exact
_STEPS = 25  # frames whose median step is typical
_IRREGULAR = 2.5  # steps: a stamp nearer to the last needs no second look
_HELD = 3  # frames that a wrong stamp waits for


@dataclass(frozen=True)
class VideoSource:
    """The video stream of a file that is to be coded.

    index: of the stream in the file. picture: its size, even (an odd last row or column is left out), rate and colour.
    num_frames: about, as the file says or its length suggests, None if it does not. rotation: degrees by which a player turns it,
    anticlockwise. notes: what is not kept of it, one sentence each. quarter_turns: by which `frames` turns what is stored,
    anticlockwise; `picture` and `rotation` are of what that gives. by_number: the time of a frame is its number over the rate,
    whatever the file says. mirrored: whether a player mirrors it, left and right, after it has turned it. flips: whether `frames`
    does so with what is stored.
    """

    path: Path
    index: int
    picture: VideoFormat
    matrix: Matrix
    num_frames: int | None
    rotation: int
    notes: tuple[str, ...]
    quarter_turns: int = 0
    by_number: bool = False
    mirrored: bool = False
    flips: bool = False

    def upright(self) -> VideoSource:
        """Return the same video with its pictures turned and mirrored as a player shows them."""
        turns, picture = quarter_turns(self.rotation), self.picture
        if turns % 2:
            aspect = picture.pixel_aspect and 1 / picture.pixel_aspect
            picture = replace(picture, height=picture.width, width=picture.height, pixel_aspect=aspect)
        turns = (self.quarter_turns + turns) % 4
        return replace(self, picture=picture, rotation=0, mirrored=False, quarter_turns=turns, flips=self.mirrored)

    def __str__(self) -> str:
        length = f", about {counted(self.num_frames, 'frame')}" if self.num_frames else ""
        return f"{self.path.name}: {self.picture.width}x{self.picture.height} at {float(self.picture.fps):.5g} fps{length}"

    def frames(self, damage: Damage | None = None, *, others: Others | None = None) -> Iterator[SourceFrame]:
        """All frames in order, with rising time stamps that begin where the file does.

        `others` is given the packets of all other streams as they come.

        Counts in `damage` what could not be decoded, and goes on. Raises `VideoError` if nothing at all can be, or if a later
        frame is interlaced.
        """
        damage = damage or Damage()
        with open_container(self.path) as container:
            timeline, stream = Timeline(container, self.index, damage.corrections), container.streams[self.index]
            assert isinstance(stream, av.VideoStream)
            yield from self.read(container, timeline, decoded(timeline, stream, damage, others), damage)

    def read(
        self,
        container: av.container.InputContainer,
        timeline: Timeline,
        frames: Iterator[av.VideoFrame],
        damage: Damage,
    ) -> Iterator[SourceFrame]:
        """Yield the same of `frames` that the open `container` gives."""
        gaps = _Gaps(self, damage)
        for frame, ticks in self._timed(container, timeline, frames, damage):
            LIMITS.check_seconds(float(ticks * self.picture.time_base), self.path)
            yield SourceFrame(self._planes(frame, damage), gaps.without(ticks))
        if gaps.last is None:
            raise nothing_in(self.path)
        damage.lossy, name = timeline.lossy, container.format.name
        if container.size > 0 and self.path.is_file():
            if damage.stopped:
                check_rest(self.path, timeline.read_to)
            damage.unread = unread_bytes(self.path, name, timeline.read_to)
            is_cut = is_truncated(self.path, name, timeline.mean_bytes)
            damage.truncated = is_cut or is_cut_picture(container.streams[self.index], timeline.last_packet)
        if name != "avi" or damage.truncated:  # written into a pipe, it says any length
            damage.missing = _missing(container, timeline, self.picture)

    def _timed(
        self, container: av.container.InputContainer, timeline: Timeline, frames: Iterator[av.VideoFrame], damage: Damage
    ) -> Iterator[tuple[av.VideoFrame, int]]:
        """Frames with rising times in ticks of the time base, from where the file begins."""
        packed = container.format.name == "avi"  # it has no times to show a frame at, only an order of packets
        start, count = Fraction(container.start_time or 0, av.time_base), not packed and not timeline.is_sparse
        clock = _Clock(self, damage, start=start, count=count)
        for number, frame in enumerate(frames):
            refuse_interlaced(self.path, frame)
            damage.frames += frame.is_corrupt
            if self.by_number:
                yield frame, round(number / self.picture.fps / self.picture.time_base)
                continue
            stamp = frame.dts if packed and frame.dts is not None else frame.pts
            yield from clock.add(frame, stamp)
        yield from clock.rest()

    def _planes(self, frame: av.VideoFrame, damage: Damage) -> Planes:
        LIMITS.check_size(frame.width, frame.height, self.path)
        height, width = self.picture.height, self.picture.width
        if self.quarter_turns % 2:  # as it is stored
            height, width = width, height
        # A stream that changes its size half-way is scaled to the size that it began with.
        same = 0 <= frame.height - height <= 1 and 0 <= frame.width - width <= 1
        damage.resized += not same
        planar, _, _ = frame_to_planar(frame, None if same else (height, width))
        y, u, v = (np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in planar.planes)
        stored = y[:height, :width], u[: height // 2, : width // 2], v[: height // 2, : width // 2]
        if not self.quarter_turns and not self.flips:
            return stored
        turned = (np.rot90(plane, self.quarter_turns)[:, :: -1 if self.flips else 1] for plane in stored)
        turned_y, turned_u, turned_v = map(np.ascontiguousarray, turned)
        return turned_y, turned_u, turned_v


class _Clock:
    """Gives decoded frames rising times: one whose stamp is unset, or out of line with those around it, is put between them."""

    def __init__(self, source: VideoSource, damage: Damage, *, start: Fraction, count: bool) -> None:
        self._count = count
        self._time_base = source.picture.time_base
        self._corrections = damage.corrections
        self._corrections.start = start
        self._last: int | None = None
        self._steps: deque[int] = deque([max(1, round(1 / source.picture.fps / self._time_base))], maxlen=_STEPS)
        self._held: deque[tuple[av.VideoFrame, int | None]] = deque()

    def add(self, frame: av.VideoFrame, stamp: int | None) -> Iterator[tuple[av.VideoFrame, int]]:
        """Yield the frames whose times are known once `frame` is seen."""
        ticks = None
        if stamp is not None:
            seconds = stamp * (frame.time_base or self._time_base)
            if self._last is None and not self._held:
                # A container says when its first packet comes, which may be a wrong stamp, or of audio on another clock.
                far = seconds < self._corrections.start or seconds - self._corrections.start > STREAM_GAP
                self._corrections.start = seconds if far else self._corrections.start
            ticks = round((seconds - self._corrections.start) / self._time_base)
        self._held.append((frame, ticks))
        yield from self._ready(_HELD)

    def rest(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Yield the frames that are left."""
        self._count = False  # what a decoder still held often has no stamp
        yield from self._ready(0)

    def _ready(self, patience: int) -> Iterator[tuple[av.VideoFrame, int]]:
        while self._held and (ticks := self._time(patience)) is not None:
            frame, _ = self._held.popleft()
            if self._last is not None:
                self._steps.append(ticks - self._last)
            self._last = ticks
            yield frame, ticks

    def _time(self, patience: int) -> int | None:
        """Return the time of the first held frame; None if it takes more frames to tell."""
        first, last, step = self._held[0][1], self._last, round(median(self._steps))
        if last is None:
            return 0 if first is None else first
        late = first is not None and first - last > _IRREGULAR * step + 1
        if first is not None and first > last and not late:
            return first
        after = [ticks for _, ticks in list(self._held)[1:]]
        places = [place for place, ticks in enumerate(after, start=2) if ticks is not None and ticks > last]
        if late and first is not None:
            if not after and patience:
                return None
            if not after or not (after[0] is not None and last < after[0] <= first):
                return first
        elif not places and len(self._held) < patience:
            return None
        self._corrections.outliers += self._count
        if not places:
            return last + step
        room = after[places[0] - 2]
        assert room is not None
        return last + max(1, min(step, (room - last) // places[0]))


class _Gaps:
    """Takes pauses of the recording out of the encoder's clock, so that no bits are spent on them."""

    def __init__(self, source: VideoSource, damage: Damage) -> None:
        self._corrections, self._time_base = damage.corrections, source.picture.time_base
        self._step = max(1, round(1 / source.picture.fps / self._time_base))
        self._steps: deque[int] = deque([self._step], maxlen=_STEPS)
        self._taken = 0
        self.last: int | None = None

    def without(self, ticks: int) -> int:
        """`ticks` less the gaps up to there."""
        if self.last is not None:
            delta, step = ticks - self.last, median(self._steps)
            if is_gap(float(delta * self._time_base), float(step * self._time_base)):
                length = delta - max(1, round(step))
                self._taken += length
                self._corrections.gaps.append((ticks - self._taken, length))
                self._corrections.gap_seconds += float(length * self._time_base)
            else:
                self._steps.append(delta)
        self.last = ticks
        return ticks - self._taken


def nothing_in(path: str | Path, advice: str = MEND_FILE) -> VideoError:
    """Return the error of a file that opens and has no picture."""
    return VideoError(f"{path} holds no frame that can be decoded: {advice}")


def refuse_interlaced(path: str | Path, frame: av.VideoFrame) -> None:
    """Raise `VideoError`: two moments woven into one picture would be coded as comb teeth."""
    if frame.interlaced_frame:
        raise VideoError(
            f"{path} is interlaced, and maps are made for whole pictures: deinterlace it first, e.g. ffmpeg -i IN -vf bwdif OUT"
        )


def _missing(container: av.container.InputContainer, timeline: Timeline, picture: VideoFormat) -> float:
    """Seconds that the file speaks of after its last packet, 0 where that is not to be known."""
    if container.duration is None or timeline.corrections.joined or timeline.reached is None or timeline.is_sparse:
        return 0.0
    late = 0 if "matroska" in container.format.name else container.start_time or 0  # whose length counts from 0
    end = (late + container.duration) / av.time_base
    missing = end - timeline.reached
    allowed = max(_MOST_MISSING * container.duration / av.time_base, float(2 / picture.fps))
    return missing if missing > allowed else 0.0
