"""A video file of any length, frame by frame, with what belongs to it: time stamps, colour, rotation, damage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dvcc._words import counted
from dvcc.clip import Matrix, frame_to_planar
from dvcc.errors import VideoError
from dvcc.media.format import Planes, VideoFormat

MEND_FILE = "check that the file is complete"
"""What to do about one that cannot be read."""

_MOST_MISSING = 0.03  # of the length: what a file says of it is not exact
_MOST_BROKEN = 2000  # packets in a row: the rest of such a file is not video


@dataclass(frozen=True)
class OtherPacket:
    """A packet of a stream that is not coded. index: of that stream, which FFmpeg forgets with the file: once it is closed,
    `packet.stream` is memory that was freed."""

    index: int
    packet: av.Packet


Others = Callable[[OtherPacket], None]
"""Takes the packets of the streams that are not coded."""


@dataclass(frozen=True)
class SourceFrame:
    """One picture: 4:2:0 planes uint8 (H, W) and twice (H/2, W/2), and its time stamp in units of the source's time base."""

    planes: Planes
    pts: int


@dataclass
class Damage:
    """What was wrong with a file that could be read all the same."""

    packets: int = 0  # that the decoder refused
    frames: int = 0  # that it marked as broken, and concealed
    times: int = 0  # time stamps that were missing or did not rise
    reached: float = 0.0  # seconds: where the last packet of any stream ends
    missing: float = 0.0  # seconds that the file speaks of after that
    resized: int = 0  # frames of another size than the first, and scaled to it
    stopped: str = ""  # why reading stopped before the end

    def __str__(self) -> str:
        found = [(self.packets, "packet", "could not be decoded"), (self.frames, "frame", "had errors that were concealed")]
        found += [(self.times, "time stamp", "had to be made up")]
        found += [(self.resized, "frame", "of another size had to be scaled to that of the first")]
        said = [f"{counted(count, what)} {how}" for count, what, how in found if count]
        if self.missing:
            said.append(f"the last {self.missing:.1f} s that the file speaks of are not there")
        return ", ".join(said + ([f"reading stopped early ({self.stopped})"] if self.stopped else []))


@dataclass(frozen=True)
class VideoSource:
    """The video stream of a file that is to be coded.

    index: of the stream in the file. picture: its size, even (an odd last row or column is left out), rate and colour.
    num_frames: about, as the file says or its length suggests, None if it does not. rotation: degrees by which a player turns it,
    anticlockwise. notes: what is not kept of it, one sentence each. quarter_turns: by which `frames` turns what is stored,
    anticlockwise; `picture` and `rotation` are of what that gives.
    """

    path: Path
    index: int
    picture: VideoFormat
    matrix: Matrix
    num_frames: int | None
    rotation: int
    notes: tuple[str, ...]
    quarter_turns: int = 0

    def upright(self) -> VideoSource:
        """The same video with its pictures turned as a player shows them."""
        turns, picture = round(self.rotation / 90) % 4, self.picture
        if turns % 2:
            aspect = picture.pixel_aspect and 1 / picture.pixel_aspect
            picture = replace(picture, height=picture.width, width=picture.height, pixel_aspect=aspect)
        return replace(self, picture=picture, rotation=0, quarter_turns=(self.quarter_turns + turns) % 4)

    def __str__(self) -> str:
        length = f", about {counted(self.num_frames, 'frame')}" if self.num_frames else ""
        return f"{self.path.name}: {self.picture.width}x{self.picture.height} at {float(self.picture.fps):.5g} fps{length}"

    def frames(self, damage: Damage | None = None, *, others: Others | None = None) -> Iterator[SourceFrame]:
        """All frames in order, with rising time stamps that begin where the file does. `others` is given the packets of all other
        streams as they come.

        Counts in `damage` what could not be decoded, and goes on. Raises `VideoError` if nothing at all can be, or if a later
        frame is interlaced.
        """
        damage = damage or Damage()
        with opened(self.path) as container:
            yield from self.read(container, decoded(container, self.index, damage, others), damage)

    def read(
        self, container: av.container.InputContainer, frames: Iterator[av.VideoFrame], damage: Damage
    ) -> Iterator[SourceFrame]:
        """The same of `frames` that the open `container` gives."""
        start = Fraction(container.start_time or 0, av.time_base)
        time_base = self.picture.time_base
        step = max(1, round(1 / self.picture.fps / time_base))
        last: int | None = None
        untimed = container.format.name == "avi"  # it has no times to show a frame at, only an order of packets
        for frame in frames:
            refuse_interlaced(self.path, frame)
            damage.frames += frame.is_corrupt
            stamp = frame.dts if untimed and frame.dts is not None else frame.pts
            pts = None if stamp is None else round((stamp * (frame.time_base or time_base) - start) / time_base)
            if pts is None or (last is not None and pts <= last):
                damage.times += not untimed
                # A wrong time stamp gives way by as little as can be: those after it may be right.
                pts = 0 if last is None else last + (step if pts is None else 1)
            last = pts
            yield SourceFrame(self._planes(frame, damage), pts)
        if last is None:
            raise nothing_in(self.path)
        if container.duration is not None:
            late = 0 if "matroska" in container.format.name else start  # whose length counts from 0
            length = container.duration / av.time_base
            missing = float(late + Fraction(container.duration, av.time_base)) - damage.reached
            if missing > max(_MOST_MISSING * length, float(2 / self.picture.fps)):
                damage.missing = missing

    def _planes(self, frame: av.VideoFrame, damage: Damage) -> Planes:
        height, width = self.picture.height, self.picture.width
        if self.quarter_turns % 2:  # as it is stored
            height, width = width, height
        # A stream that changes its size half-way is scaled to the size that it began with.
        same = 0 <= frame.height - height <= 1 and 0 <= frame.width - width <= 1
        damage.resized += not same
        planar, _, _ = frame_to_planar(frame, None if same else (height, width))
        y, u, v = (np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size) for plane in planar.planes)
        stored = y[:height, :width], u[: height // 2, : width // 2], v[: height // 2, : width // 2]
        if not self.quarter_turns:
            return stored
        turned_y, turned_u, turned_v = (np.ascontiguousarray(np.rot90(plane, self.quarter_turns)) for plane in stored)
        return turned_y, turned_u, turned_v


@contextmanager
def opened(
    path: str | Path,
    *,
    form: str | None = None,
    options: dict[str, str] | None = None,
    name: str | None = None,
    advice: str = MEND_FILE,
) -> Iterator[av.container.InputContainer]:
    """FFmpeg's reader of a file, or of whatever else FFmpeg opens in that form. Raises `VideoError` when it cannot be read, which
    calls it `name` and ends in `advice`."""
    try:
        container = av.open(str(path), "r", format=form, options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{name or path} cannot be read as video ({reason}): {advice}") from error
    with container:
        yield container


def nothing_in(path: str | Path, advice: str = MEND_FILE) -> VideoError:
    """The error of a file that opens and has no picture."""
    return VideoError(f"{path} holds no frame that can be decoded: {advice}")


def refuse_interlaced(path: str | Path, frame: av.VideoFrame) -> None:
    """Raise `VideoError`: two moments woven into one picture would be coded as comb teeth."""
    if frame.interlaced_frame:
        raise VideoError(
            f"{path} is interlaced, and maps are made for whole pictures: deinterlace it first, e.g. ffmpeg -i IN -vf bwdif OUT"
        )


def decoded(
    container: av.container.InputContainer,
    index: int,
    damage: Damage,
    others: Others | None,
    *,
    ahead: bool = True,
) -> Iterator[av.VideoFrame]:
    """Every frame that the decoder gives, over packets that it refuses. ahead: it may work on several frames at once, and so
    give each of them later."""
    stream = container.streams[index]
    assert isinstance(stream, av.VideoStream)
    stream.thread_type = "AUTO" if ahead else "SLICE"
    packets: Iterator[Any] = iter(container.demux())
    in_a_row = 0
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, EOFError) as error:
            damage.stopped = str(getattr(error, "strerror", None) or error)
            with contextlib.suppress(av.FFmpegError, EOFError):
                yield from stream.decode(None)  # what the decoder still holds
            return
        if packet.dts is not None and packet.time_base:
            damage.reached = max(damage.reached, float((packet.dts + (packet.duration or 0)) * packet.time_base))
        if packet.stream.index != index:  # `stream_index` is 0 of every stream's last, empty packet
            if others is not None:
                others(OtherPacket(packet.stream.index, packet))
            continue
        try:
            frames = packet.decode()
        except EOFError:
            return
        except av.FFmpegError as error:
            damage.packets += 1
            in_a_row += 1
            if in_a_row > _MOST_BROKEN:
                damage.stopped = str(error.strerror or error)
                return
            continue
        in_a_row = 0
        yield from frames
