"""Times of decoding in containers that store none (Matroska, NUT): FFmpeg works them out from those of presentation."""

from __future__ import annotations

from bisect import insort

import av

NO_DECODING_TIMES = ("matroska,webm", "nut")
"""FFmpeg's names of such containers."""

_UNKNOWN_STEP = 0.04  # seconds


class DecodingTimes:
    """Times of decoding after a clock went back.

    FFmpeg then repeats those of presentation, which do not rise where there are B frames.
    """

    def __init__(self) -> None:
        self._ahead = 0  # ticks from decoding a key frame to showing it
        self._last: int | None = None  # time of decoding
        self._shown: list[int] | None = None  # sorted times of presentation that are no packet's time of decoding yet
        self._before: tuple[int, list[int] | None] | None = None  # what both were when the clock went back
        self._since = 0  # packets since then

    def correct(self, packet: av.Packet, *, step: float, reordering: float) -> None:
        """Give the next packet of the video its time.

        step: seconds from picture to picture; reordering: seconds by which no encoder reorders pictures.
        """
        pts = packet.pts
        if pts is None or packet.dts is None or not packet.time_base:
            return
        most, ticks = reordering / float(packet.time_base), max(1, round((step or _UNKNOWN_STEP) / float(packet.time_base)))
        delay = round(self._ahead / ticks)
        self._since += 1
        if self._before is not None and self._since <= delay + 1 and 0 <= pts - self._before[0] <= most:
            self._last, self._shown = self._before  # a single wrong stamp
            self._before = None
        if self._last is not None and pts < self._last:  # nothing is shown before it is decoded
            self._before, self._since = (self._last, self._shown), 0
            self._shown = [pts - ticks * place for place in range(delay, 0, -1)]
        if self._shown is not None:
            insort(self._shown, pts)
            packet.dts = self._shown.pop(0)
        elif packet.is_keyframe:
            self._ahead = pts - packet.dts
        self._last = packet.dts
