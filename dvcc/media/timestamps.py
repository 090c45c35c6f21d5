"""Correct the time stamps of a container while it is read: restarts, jumps, single wrong ones, unset ones, wrapped clocks.

The rule, for everything that reads a video. A stamp that differs from its neighbours' while the next ones go on as before is an
outlier: that picture alone gets another time. Where the stamps go back, and stay back, the recording was joined or its clock was
set: the rest is moved so that it follows on, sound with it. Where they go forward, and stay forward, it is a gap of a recording
that pauses, and is kept, up to `STREAM_GAP` in containers whose clock may restart at any time (MPEG-TS, MPEG-PS, Ogg, FLV), up to
`FILE_GAP` in all others; beyond that it is a broken clock, and is closed. Rate control never sees a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any

import av
from av.format import Flags

from dvcc.media.arrivals import MEASURED, Arrivals
from dvcc.media.clocks import StreamClock, filled, is_untimed
from dvcc.media.corrections import Corrections
from dvcc.media.losses import Losses
from dvcc.media.packets import drop_times, duration_of, end_of, move, set_time, time_of, to_be_shown
from dvcc.media.rates import is_gap, rate_of
from dvcc.media.reordering import NO_DECODING_TIMES, DecodingTimes

STREAM_GAP, FILE_GAP = 3600.0, 86400.0
"""Seconds: the longest gap that is kept in a container whose clock may restart, and in another."""

_FOLLOWERS = 4  # video packets that tell an outlier from a jump
_REORDERED = 8  # video packets within which those that are decoded after a pause have begun to be
_AT_FIRST = 50  # video packets looked at before the first is passed on, for their rate
_AT_FIRST_BYTES = 16_000_000
_WRAP = 2**33 / 90000  # seconds: the clock of MPEG-2 systems
_MOST_HELD = 4000  # packets: of a file whose video ends long before the rest
_ENDS_SO = ("mpjpeg", "smjpeg")  # with an error, though nothing is missing
_AUDIO_SLACK = 1.0  # seconds by which packets of audio or subtitles may miss the end of those before
_NEAR, _NEAR_SPARSE = 3.0, 30.0  # seconds around the video in which a packet of audio, or subtitles, may be
_FRAGMENTS = "mov,mp4,m4a,3gp,3g2,mj2"  # the format that may have them
_RESTARTING = ("flv", "live_flv", "rtsp", "rtp", "sdp")  # whose clocks restart, though FFmpeg has no flag for it
_CLOCK_RESTARTS: int = Flags.ts_discont.value  # type: ignore[assignment]  # the stub's mistake


class Timeline:
    """Packets of an open container with corrected time stamps, in the order of the file: iterate once.

    index: of the video stream that decides. quick: look at fewer packets before the first is passed on, as live streams need.
    clock: the time of a packet of the video is when it arrives, whatever the container says. is_sparse: most packets of the video
    have no time, as in MPEG-PS the pictures after the first of a pack.
    Every packet passes, those of other streams with the offset of the video around them.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        index: int,
        corrections: Corrections | None = None,
        *,
        quick: bool = False,
        clock: bool = False,
    ) -> None:
        self.corrections = corrections or Corrections()
        self.untimed = is_untimed(container) and not clock
        self._arrivals = Arrivals() if clock else None
        self._container, self._index = container, index
        restarting = bool(container.format.flags & _CLOCK_RESTARTS) or container.format.name in _RESTARTING
        self._longest_gap = STREAM_GAP if restarting else FILE_GAP
        self._wraps = container.format.name in ("mpegts", "mpeg", "hls", "rtsp", "rtp", "sdp")
        self._packets: Iterator[Any] = iter(container.demux())
        self._held: deque[av.Packet] = deque()
        self._waiting: dict[int, deque[av.Packet]] = {}  # of other streams
        self._clocks: dict[int, StreamClock] = {}
        self._offsets = [0.0]
        self._ended = False
        self._error: Exception | None = None
        self._decoding = DecodingTimes() if container.format.name in NO_DECODING_TIMES else None
        self._has_dts = False  # of the video
        self._number = 0  # of packets of the video that were read
        self.last_packet: av.Packet | None = None  # of the video
        # What an mp4's edit list leaves out is in its index. In fragments FFmpeg marks those whose clock restarts, too.
        self._indexed = container.streams[index].frames if container.format.name == _FRAGMENTS else 2**62
        self.read_to = 0  # bytes of the file, as far as packets say
        self.reached: float | None = None  # seconds, as stored: where the last packet of any stream ends
        self._losses = Losses()
        self._look_ahead(MEASURED if clock else _FOLLOWERS + 1 if quick else _AT_FIRST)

    def _look_ahead(self, count: int) -> None:
        """Hold packets until `count` of them are video, and know the typical step from them."""
        num_bytes = num_video = 0
        while num_video < count and num_bytes < _AT_FIRST_BYTES and self._pull():
            packet = self._held[-1]
            num_bytes += packet.size
            num_video += bool(packet.stream.index == self._index and packet.size)
        if self._arrivals is not None:
            self._arrivals.settle(self._video_held())
        times = [self._video_time(packet) for packet in self._video_held()]
        keys = [key for key in times if key is not None]
        self.is_sparse = 2 * len(keys) < len(times)
        keys = filled(times) if self.is_sparse else keys
        steps = [after - before for before, after in pairwise(keys) if after > before]
        clock = self._clock(self._index)
        clock.typical = median(steps) if steps else 0.04
        sizes = [packet.size for packet in self._video_held()]
        self.mean_bytes = sum(sizes) / len(sizes) if sizes else 0.0
        # Times of decoding have no holes where pictures come out of order, as times of presentation have at both ends.
        if not self.is_sparse and (not self._has_dts or len(keys) < len(sizes) or len(steps) < len(keys) - 1):
            keys = [float(p.pts * p.time_base) for p in self._video_held() if p.pts is not None and p.time_base]
        self.picture_times = sorted(keys)

    def rate(self, stream: av.VideoStream) -> tuple[Fraction | None, bool]:
        """Return what `rate_of` says of `stream`, by the times of its pictures."""
        return rate_of(stream, self.picture_times, untimed=self.untimed, container=self._container)

    def __iter__(self) -> Iterator[av.Packet]:
        """All packets. Raises `av.FFmpegError` after the last one where the container can be read no further."""
        while self._held or self._pull():
            packet = self._held[0]
            index = packet.stream.index
            if index == self._index:
                if not self._video(packet):
                    self._pull()
                    continue
                yield self._held.popleft()
                for other in self._waiting:
                    self._clock(other).waited += 1
                    yield from self._settled(other)
            else:
                self._waiting.setdefault(index, deque()).append(self._held.popleft())
                yield from self._settled(index)
        for index in self._waiting:
            yield from self._settled(index, patient=False)
        if self._error is not None:
            raise self._error

    @property
    def lossy(self) -> int:
        """Packets of the video that arrived incomplete, by the container; known after the last."""
        self._losses.close()
        return self._losses.count

    def _pull(self) -> bool:
        """Hold one more packet; False after the last."""
        if self._ended:
            return False
        try:
            self._held.append(next(self._packets))
        except StopIteration:
            self._ended = True
        except (av.FFmpegError, EOFError) as error:
            ends_so = isinstance(error, av.InvalidDataError) and self._container.format.name in _ENDS_SO
            self._ended, self._error = True, None if ends_so else error
        if not self._ended:
            packet = self._held[-1]
            if packet.stream.index == self._index and packet.size:
                self._number, self.last_packet = self._number + 1, packet
                if packet.is_discard and self._number > self._indexed:
                    packet = self._held[-1] = to_be_shown(packet)
            if self._arrivals is not None and packet.stream.index == self._index and packet.size:
                self._arrivals.stamp(packet)
            self.read_to = max(self.read_to, (packet.pos or 0) + packet.size)
            if packet.stream.index == self._index and self._decoding is not None:
                clock = self._clock(self._index)
                self._decoding.correct(packet, step=clock.typical, reordering=clock.reordering)
            self._has_dts |= packet.stream.index == self._index and packet.dts is not None
            if (end := end_of(packet)) is not None:
                self.reached = end if self.reached is None else max(self.reached, end)
        return not self._ended

    def _settled(self, index: int, *, patient: bool = True) -> Iterator[av.Packet]:
        """Yield the packets of another stream whose times are known; the others wait for the video."""
        waiting = self._waiting[index]
        while waiting and self._other(waiting[0], patient=patient and len(waiting) < _MOST_HELD):
            self._clock(index).waited = 0
            yield waiting.popleft()

    def _video(self, packet: av.Packet) -> bool:
        """Correct the first held packet, of the video; False if more have to be seen for that."""
        key, clock = self._video_time(packet), self._clock(self._index)
        if key is None or self.untimed:
            move(packet, clock.offset)
            clock.unstamped += 1
            return True
        patient = not self._ended and len(self._held) < _MOST_HELD
        all_followers = [k for k in map(self._video_time, self._video_held()[1 : 1 + _REORDERED]) if k is not None]
        followers = all_followers[:_FOLLOWERS]
        now, limit = key + clock.offset, clock.limit
        if clock.last is None:
            if patient and len(followers) < 2:
                return False
            apart = bool(followers) and not key < followers[0] <= key + self._longest_gap
            if apart and len(followers) > 1 and 0 < followers[1] - followers[0] <= limit:
                now = followers[0] - clock.typical  # the first of all is the outlier
                set_time(packet, now)
                self.corrections.outliers += 1
        elif not 0 < now - clock.last <= limit:
            if patient and len(followers) < _FOLLOWERS:
                return False
            if clock.is_outlier(now, [follower + clock.offset for follower in followers]):
                move(packet, clock.offset)
                drop_times(packet, last=clock.last, reordering=clock.reordering)
                return True
            now = self._jumped(key, clock)
        if packet.pts is not None and packet.dts is not None and packet.time_base:
            ahead = float((packet.pts - packet.dts) * packet.time_base)
            if abs(ahead) > clock.reordering:
                if patient and len(all_followers) < _REORDERED:
                    return False
                if not self._catches_up(key + ahead, all_followers, clock):
                    packet.pts = None
        move(packet, clock.offset)
        step = 0.0 if clock.last is None else now - clock.last
        self._losses.add(packet, step, clock.next)
        clock.advance(now, gap=is_gap(step, clock.next))
        return True

    def _catches_up(self, seconds: float, followers: list[float], clock: StreamClock) -> bool:
        """Return whether a picture that is shown long after it is decoded is the one after a pause.

        It is where those that follow are decoded as late, or none follows, where a clock does not restart.
        """
        if any(abs(follower - seconds) <= clock.reordering for follower in followers):
            return True
        at_end = len(followers) < _REORDERED
        return at_end and 0 < seconds - (clock.last or 0.0) <= self._longest_gap == FILE_GAP

    def _jumped(self, key: float, clock: StreamClock) -> float:
        """Return the corrected time of the first packet after a jump that lasts.

        Moves the clock unless the jump is a gap to keep.
        """
        assert clock.last is not None
        limit = clock.limit
        for offset in reversed(self._offsets):  # a clock that comes back to where it was
            if 0 < key + offset - clock.last <= limit:
                break
        else:
            delta = key + clock.offset - clock.last
            if 0 < delta <= self._longest_gap:
                return key + clock.offset
            if self._wraps and 0 < delta + _WRAP <= limit:
                offset = clock.offset + _WRAP
            else:
                offset = clock.last + clock.next - key
            self._offsets.append(offset)
        clock.offset = offset
        self.corrections.joined += 1
        self._losses.forget()
        return key + offset

    def _other(self, packet: av.Packet, *, patient: bool) -> bool:
        """Correct a packet of another stream, by the offset that lets it follow its own last one.

        False if the video has to be seen further for that.
        """
        key, video, clock = time_of(packet), self._clock(self._index), self._clock(packet.stream.index)
        if self.untimed:
            return True
        if key is None:  # only the first of several that came together has a time
            if clock.last is not None and packet.size and (length := duration_of(packet)):
                set_time(packet, clock.end)
                clock.last, clock.end = clock.end, clock.end + length
            return True
        sparse = packet.stream.type != "audio"
        if clock.last is None:
            if video.last is None and patient:
                return False
            clock.offset = video.offset
            if video.last is not None and abs(key + clock.offset - video.last) > STREAM_GAP:  # on another clock
                clock.offset = video.last - key
                self.corrections.audio_moved += 1
        elif not self._follows(key + clock.offset, clock, sparse=sparse):
            fitting = [o for o in (video.offset, *reversed(self._offsets)) if self._follows(key + o, clock, sparse=sparse)]
            if fitting:
                clock.offset = fitting[0]
            elif patient and clock.waited < _FOLLOWERS:
                return False  # the video may be about to jump, too
            elif key + video.offset >= clock.end and abs(key + video.offset - (video.last or 0.0)) < _NEAR_SPARSE:
                clock.offset = video.offset
            else:
                near = video.last is None or abs(clock.end - video.last) < _NEAR_SPARSE
                clock.offset = (clock.end if near else video.last) - key  # type: ignore[operator]  # not None where it is not near
                self.corrections.audio_moved += 1
        move(packet, clock.offset)
        clock.last = key + clock.offset
        clock.end = clock.last + duration_of(packet)
        return True

    def _follows(self, time: float, clock: StreamClock, *, sparse: bool) -> bool:
        """Whether a packet at `time` can come next in its stream."""
        video = self._clock(self._index).last
        if sparse:
            return video is None or abs(time - video) < _NEAR_SPARSE
        return abs(time - clock.end) <= _AUDIO_SLACK or (video is not None and clock.end <= time and abs(time - video) < _NEAR)

    def _video_time(self, packet: av.Packet) -> float | None:
        """As `time_of`.

        None, too, for a picture that FFmpeg gives no time of decoding though it does others: the first ones of a Matroska file,
        whose times of presentation do not rise with those that follow.
        """
        return None if packet.dts is None and self._has_dts else time_of(packet)

    def _clock(self, index: int) -> StreamClock:
        return self._clocks.setdefault(index, StreamClock())

    def _video_held(self) -> list[av.Packet]:
        return [packet for packet in self._held if packet.stream.index == self._index and packet.size]
