"""A video as another encoder is going to be given it: what it is, and its frames one GOP at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from dvcc.clip import Clip, convert_frames
from dvcc.errors import VideoError
from dvcc.video.probe import opened_file, probe
from dvcc.video.source import Damage, decoded, opened, refuse_interlaced


@dataclass(frozen=True)
class Source:
    """A video file, and what an encoder has to know of it.

    height, width: luma pixels, upright, an odd last row or column cut off (4:2:0 has none). colour: FFmpeg's numbers of range,
    primaries, transfer and matrix, as tagged. Raises `VideoError` when the file cannot be decoded or has no video stream.
    """

    path: Path
    height: int
    width: int
    fps: Fraction
    full_range: bool
    colour: tuple[int, int, int, int]
    index: int  # of the stream in the file

    @classmethod
    def open(cls, path: str | Path) -> Source:
        """Look at the first frame, as `open_video` does."""
        path = Path(path)
        with opened_file(path) as container:
            looked, frames = probe(path, container)
            frame = next(frames)
        clip = convert_frames(iter([frame]), looked.picture.fps)
        colour = (int(frame.color_range), int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace))
        return cls(path, clip.height, clip.width, clip.fps, clip.full_range, colour, looked.index)

    def gops(self, frames_per_gop: int, damage: Damage | None = None) -> Iterator[Clip]:
        """Clips of `frames_per_gop` frames, the last one of what is left; no more than one is in memory. Counts in `damage` what
        could not be decoded. Raises `VideoError` for interlaced frames and frames that change their size."""
        damage = damage or Damage()
        with opened(self.path) as container:
            frames = decoded(container, self.index, damage, None)
            while gop := list(itertools.islice(frames, frames_per_gop)):
                for frame in gop:
                    refuse_interlaced(self.path, frame)
                    damage.frames += frame.is_corrupt
                try:
                    clip = convert_frames(iter(gop), self.fps)
                except VideoError as error:
                    raise VideoError(f"{self.path}: {error}") from error
                if (clip.height, clip.width) != (self.height, self.width):
                    raise VideoError(f"{self.path}: the frames change their size: cut the video there, or scale it to one size")
                yield clip
