"""Decode one video stream of an open container, over whatever of it is damaged, and pass the packets of the others on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av

from dvcc.media.damage import Damage
from dvcc.media.timestamps import Timeline

_MOST_BROKEN = 2000  # packets in a row: the rest of such a file is not video
_ONE_PICTURE = ("h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "ffv1", "rawvideo", "prores", "dnxhd")
"""Codecs whose every packet gives a picture: others have packets that only serve as references."""
_LATE_ERRORS = ("h264",)
"""Codecs of which FFmpeg, working on several frames at once, may give a picture before it knows of errors in it: in one of twenty
runs nothing was said of a broken one."""


@dataclass(frozen=True)
class OtherPacket:
    """A packet of a stream that is not coded.

    index: of that stream, which FFmpeg forgets with the file: once it is closed, `packet.stream` is memory that was freed.
    """

    index: int
    packet: av.Packet


Others = Callable[[OtherPacket], None]
"""Takes the packets of the streams that are not coded."""


def decoded(
    timeline: Timeline, stream: av.VideoStream, damage: Damage, others: Others | None, *, ahead: bool = True
) -> Iterator[av.VideoFrame]:
    """Every frame of `stream` that the decoder gives, over packets that it refuses.

    ahead: it may work on several frames at once, and so give each of them later.
    """
    stream.thread_type = "AUTO" if ahead and stream.codec_context.name not in _LATE_ERRORS else "SLICE"
    counts = _Counts(damage)
    try:
        for packet in timeline:
            if packet.stream.index != stream.index:  # `stream_index` is 0 of every stream's last, empty packet
                if others is not None:
                    others(OtherPacket(packet.stream.index, packet))
                continue
            counts.sent(packet)
            try:
                frames = packet.decode()
            except EOFError:
                break
            except av.FFmpegError as error:
                if counts.refused():
                    damage.stopped = str(error.strerror or error)
                    return
                continue
            yield from counts.given(frames)
    except (av.FFmpegError, EOFError) as error:
        damage.stopped = str(getattr(error, "strerror", None) or error)
        with contextlib.suppress(av.FFmpegError, EOFError):
            yield from counts.given(stream.decode(None))  # what the decoder still holds
    if stream.codec_context.name in _ONE_PICTURE:
        counts.close()


class _Counts:
    """Packets that went into a decoder, against the frames that came out."""

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._sent = self._given = self._refused = self._in_a_row = self._before_key = 0
        self._begun = False

    def sent(self, packet: av.Packet) -> None:
        """Count a packet, unless the container says that its picture is not to be shown."""
        if not packet.size or packet.is_discard:
            return
        self._sent += 1
        self._begun |= packet.is_keyframe
        self._before_key += not self._begun

    def refused(self) -> bool:
        """Count a packet that the decoder refused. Returns whether there were too many in a row."""
        self._refused, self._in_a_row = self._refused + 1, self._in_a_row + 1
        if self._begun:
            self._damage.packets += 1
        return self._in_a_row > _MOST_BROKEN

    def given(self, frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Count and pass on frames."""
        self._in_a_row = 0
        self._given += len(frames)
        yield from frames

    def close(self) -> None:
        """Say how many packets gave no picture."""
        lost = max(0, self._sent - self._given)
        self._damage.unstarted = min(lost, self._before_key) if self._begun else 0
        self._damage.pictureless = max(0, lost - self._damage.unstarted - self._damage.packets)
