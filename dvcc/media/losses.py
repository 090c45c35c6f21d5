"""Packets of which a transport stream lost a part."""

from __future__ import annotations

import av

from dvcc.media.rates import is_gap

_WHOLE = 1.5  # typical steps: beyond, a picture is missing
_FOLLOWERS = 4  # packets after a broken one: until then the next recording begins, or none does


class Losses:
    """Counts the packets of which a transport stream lost a part.

    A stream numbers its pieces. The numbers of recordings that were put behind one another do not go on either, though nothing is
    missing there.
    """

    def __init__(self) -> None:
        self.count = self._open = self._watched = 0

    def add(self, packet: av.Packet, step: float, typical: float) -> None:
        """Look at the next packet of the video, `step` seconds after the last."""
        if self._open:
            self._watched += 1
            if is_gap(abs(step), typical) or step <= 0 or (packet.is_keyframe and step < _WHOLE * typical):
                self.forget()
            elif step >= _WHOLE * typical or self._watched > _FOLLOWERS:
                self.close()
        if packet.is_corrupt:
            self._open, self._watched = self._open + 1, 0

    def forget(self) -> None:
        """Forget what was seen: a recording begins."""
        self._open = 0

    def close(self) -> None:
        """No recording begins any more."""
        self.count, self._open = self.count + self._open, 0
