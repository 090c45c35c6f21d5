"""The clock of one stream of a container, and whether there is one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

import av
from av.format import Flags

_IRREGULAR = 2.5  # typical steps: what is nearer needs no second look
_STEPS = 25  # whose median is typical
_NO_TIMESTAMPS: int = Flags.no_timestamps.value  # type: ignore[assignment]  # the stub's mistake
_UNTIMED = ("mjpeg", "mpjpeg", "image2", "image2pipe")


def is_untimed(container: av.container.InputContainer) -> bool:
    """Whether the format carries no time stamps, so that FFmpeg counts pictures at a rate of its own."""
    form = container.format
    return bool(form.flags & _NO_TIMESTAMPS) or form.name in _UNTIMED or form.name.endswith("_pipe")


def filled(times: list[float | None]) -> list[float]:
    """Return the times from the first to the last that is known, the others at equal steps between them.

    MPEG-PS stamps the first of several pictures.
    """
    known = [(place, time) for place, time in enumerate(times) if time is not None]
    between = [
        time + (after_time - time) * step / (after - place)
        for (place, time), (after, after_time) in pairwise(known)
        for step in range(after - place)
    ]
    return between + [time for _, time in known[-1:]]


@dataclass
class StreamClock:
    """What is known of one stream's clock.

    last, end: corrected time of the last packet, and its end, seconds; unstamped: packets without a time since then; offset: what
    is added; steps: the last ones; typical: their median; waited: video packets while the next packet had no time.
    """

    last: float | None = None
    end: float = 0.0
    unstamped: int = 0
    offset: float = 0.0
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=_STEPS))
    typical: float = 0.0
    waited: int = 0

    @property
    def reordering(self) -> float:
        """Seconds by which no encoder reorders pictures."""
        return max(1.0, 20 * self.typical)

    @property
    def limit(self) -> float:
        """Seconds up to which a step needs no second look."""
        return _IRREGULAR * self.typical * (1 + self.unstamped) + 0.002

    @property
    def next(self) -> float:
        """Seconds from the last packet at which the next one is expected."""
        return self.typical * (1 + self.unstamped)

    def advance(self, now: float, *, gap: bool) -> None:
        """Go on to the next packet, at `now`; gap: after a pause."""
        if self.last is not None and not gap:
            self.steps.append((now - self.last) / (1 + self.unstamped))
            self.typical = median(self.steps) if len(self.steps) > 4 else self.typical
        self.last, self.unstamped = now, 0

    def is_outlier(self, now: float, after: list[float]) -> bool:
        """Return whether the times `after` the one of `now` go on from the last as if that were not there.

        A step back that none follows is such a time, too.
        """
        assert self.last is not None
        if not after:
            return now <= self.last
        for place, follower in enumerate(after, start=2):
            if self.last < follower <= self.last + place * self.limit:
                return not self.last < now < follower
        return False
