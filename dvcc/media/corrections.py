"""What was wrong with the time stamps of a file, and with the packets of its other streams, and what became of it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class Corrections:
    """What was wrong with the time stamps of a file, and what became of it.

    outliers: stamps that were missing or wrong, of one picture each. joined: places where the stamps restarted or jumped, and the
    rest was moved. gaps: (time on the clock of the encoder from which, ticks) of what was kept. audio_moved: places where audio
    or subtitles alone jumped, and were moved. left_out: packets of other streams that the new file does not take, by type.
    start: seconds, what becomes time 0.
    """

    outliers: int = 0
    joined: int = 0
    audio_moved: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    gap_seconds: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)
    start: Fraction = Fraction(0)
    _totals: list[int] = field(default_factory=list, repr=False, compare=False)  # of the gaps up to each one

    def with_gaps(self, ticks: int) -> int:
        """Return the time at which a picture is shown whose time without the gaps is `ticks`."""
        for _, length in self.gaps[len(self._totals) :]:
            self._totals.append(length + (self._totals[-1] if self._totals else 0))
        before = bisect_right(self.gaps, ticks, key=lambda gap: gap[0])
        return ticks + (self._totals[before - 1] if before else 0)

    def sentences(self) -> list[str]:
        """One sentence for each kind of correction."""
        sentences = []
        if self.outliers:
            stamps = "1 time stamp was" if self.outliers == 1 else f"{self.outliers} time stamps were"
            sentences.append(f"{stamps} missing or wrong, and made up from the neighbours")
        if self.joined:
            places = "1 place" if self.joined == 1 else f"{self.joined} places"
            sentences.append(f"the time stamps restart or jump at {places}: what follows is joined without a gap")
        if self.gaps:
            gaps = "a gap" if len(self.gaps) == 1 else f"{len(self.gaps)} gaps"
            sentences.append(f"{gaps} of {self.gap_seconds:.1f} s in the recording: kept, and no bits are spent on the pause")
        if self.audio_moved:
            places = "1 place" if self.audio_moved == 1 else f"{self.audio_moved} places"
            sentences.append(f"the time stamps of audio or subtitles alone jump at {places}: moved to go on with the video")
        for kind, count in sorted(self.left_out.items()):
            packets = "packet does" if count == 1 else "packets do"
            sentences.append(f"{count} {kind} {packets} not fit into the new file: left out")
        return sentences
