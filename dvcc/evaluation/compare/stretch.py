"""The stretch of a video that is compared, on disk: it is read many times, a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from dvcc._files import open_temporary
from dvcc._words import counted
from dvcc.clip import Clip, Matrix
from dvcc.errors import VideoError
from dvcc.media.clips import count_frames, read_parts
from dvcc.media.folders import image_sequence, is_cityscapes
from dvcc.media.format import ClipSource, Planes, SourceFrame, VideoFormat
from dvcc.media.output import check_room

PART = 4
"""Frames that are held while the video is copied."""


@dataclass(frozen=True)
class Stretch:
    """Frames in planar 4:2:0, 8 bit, one after the other in the file `path`: a `Source`.

    They are as many frames as are wanted of a video, and each is read when it is asked for. matrix: as in `Clip`.
    """

    path: Path
    num_frames: int
    picture: VideoFormat
    matrix: Matrix

    @property
    def rotation(self) -> int:
        """Always 0: the frames are upright."""
        return 0

    @property
    def height(self) -> int:
        """Luma rows, H."""
        return self.picture.height

    @property
    def width(self) -> int:
        """Luma columns, W."""
        return self.picture.width

    @property
    def fps(self) -> Fraction:
        """Frame rate."""
        return self.picture.fps

    def frames(self) -> Iterator[SourceFrame]:
        """See `Source.frames`."""
        return (SourceFrame(self.planes(t), t) for t in range(self.num_frames))

    def planes(self, t: int) -> Planes:
        """Return the planes of frame `t`."""
        pixels, half = self.height * self.width, (self.height // 2, self.width // 2)
        size = pixels * 3 // 2
        stored = np.fromfile(self.path, np.uint8, size, offset=t * size)
        u, v = stored[pixels:].reshape(2, *half)
        return stored[:pixels].reshape(self.height, self.width), u, v

    def part(self, start: int, stop: int) -> Clip:
        """Frames `start` to `stop` - 1 as a clip in memory."""
        y, u, v = (np.stack(planes) for planes in zip(*(self.planes(t) for t in range(start, stop)), strict=True))
        return Clip(y, u, v, self.fps, self.matrix, self.picture.full_range)


def copy_stretch(video: Path, folder: Path, *, start: int, frames: int) -> Stretch:
    """Copy `frames` of a video, or what there is of them, from `start`, into a file in `folder`.

    Raises `VideoError` where the video cannot be read or ends before, `DvccError` where the folder has no room.
    """
    path, first, written = folder / "stretch.yuv", None, 0
    with open_temporary(path) as file:
        for clip in _parts(video, folder, start=start, frames=frames):
            first = first or clip.slice(0, 1)
            for planes in zip(clip.y, clip.u, clip.v, strict=True):
                for plane in planes:
                    file.write(np.ascontiguousarray(plane).data)
            written += clip.num_frames
    if first is None:
        raise VideoError(
            f"{video} has only {counted(_frames_in(video), 'frame')}, and --start is frame {start:.10g}: begin earlier"
        )
    return Stretch(path, written, ClipSource(first).picture, first.matrix)


def _parts(video: Path, folder: Path, *, start: int, frames: int) -> Iterator[Clip]:
    """Yield the parts of the stretch, once there is known to be room for it."""
    for number, clip in enumerate(read_parts(video, part=PART, frames=frames, start=start)):
        if number == 0:
            there = min(frames, max(1, _frames_in(video) - start))
            advice = "give fewer --seconds, or set TMPDIR to another folder"
            check_room(folder, there * clip.height * clip.width * 1.5, what="the uncoded stretch", advice=advice)
        yield clip


def _frames_in(video: Path) -> int:
    return len(image_sequence(video)[0]) if video.is_dir() or is_cityscapes(video) else count_frames(video)
