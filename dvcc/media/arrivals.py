"""Times of packets by when they arrive, for live streams that carry none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from time import monotonic

import av

from dvcc.media.packets import set_time, time_of

MEASURED = 16  # packets whose arrivals tell the rate; those of the first half may have waited while FFmpeg looked at the stream


class Arrivals:
    """The clock of whoever reads: seconds since the first packet."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._last = -1.0

    def stamp(self, packet: av.Packet) -> None:
        """Give a packet that has just arrived its time, after that of the one before it."""
        now = monotonic()
        self._began = now if self._began is None else self._began
        self._last = max(now - self._began, self._last + 0.001)
        set_time(packet, self._last)

    def settle(self, packets: Sequence[av.Packet]) -> None:
        """Space the first packets, which may have waited and come at once, as the last of them did."""
        times = [stamp for stamp in map(time_of, packets) if stamp is not None]
        steps = [after - before for before, after in pairwise(times[len(times) // 2 :])]
        if not steps:
            return
        step = median(steps)
        for place, packet in enumerate(packets):
            set_time(packet, times[-1] + (place + 1 - len(packets)) * step)
