"""What of a file could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvcc._words import counted
from dvcc.media.corrections import Corrections


@dataclass
class Damage:
    """What is missing of a file that could be read all the same; and what was corrected of its times."""

    packets: int = 0  # that the decoder refused
    frames: int = 0  # that it marked as broken, and concealed
    lossy: int = 0  # packets that arrived incomplete, by the container
    unstarted: int = 0  # packets before the first key frame that gave no picture
    pictureless: int = 0  # later packets that gave no picture
    missing: float = 0.0  # seconds that the file speaks of after its last packet
    unread: int = 0  # bytes that FFmpeg does not get to
    truncated: bool = False  # the file ends before its format says that it does
    resized: int = 0  # frames of another size than the first, and scaled to it
    stopped: str = ""  # why reading stopped before the end
    corrections: Corrections = field(default_factory=Corrections)

    def __str__(self) -> str:
        counts = [
            (self.packets, "packet", "could not be decoded"),
            (self.frames, "frame", "had errors that were concealed"),
            (self.lossy, "packet", "arrived incomplete"),
            (self.unstarted, "packet", "before the first key frame gave no picture"),
            (self.pictureless, "packet", "gave no picture"),
            (self.resized, "frame", "of another size had to be scaled to that of the first"),
        ]
        parts = [f"{counted(count, what)} {how}" for count, what, how in counts if count]
        if self.missing:
            parts.append(f"the last {self.missing:.1f} s that the file speaks of are not there")
        elif self.truncated:
            parts.append("the file is truncated: its end is not there")
        if self.unread:
            parts.append(f"the last {self.unread / 1000:.0f} kB of the file are not read as its video")
        return ", ".join(parts + ([f"reading stopped early ({self.stopped})"] if self.stopped else []))
