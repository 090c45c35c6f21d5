"""What a video is to whoever codes it: the format of its frames, and the frames, which can be read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from dvcc.clip import SWSCALE_MATRIX, Clip, Matrix

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Planes of one 4:2:0 picture: uint8 (H, W) and twice (H/2, W/2)."""


@dataclass(frozen=True)
class VideoFormat:
    """What all frames of a video have in common.

    Even height and width in luma pixels, frames per second, the unit of time stamps in seconds, FFmpeg's numbers of the colour
    tags, and the shape of a pixel (None: not said).
    """

    height: int
    width: int
    fps: Fraction
    time_base: Fraction
    matrix: int
    full_range: bool = False
    primaries: int | None = None
    transfer: int | None = None
    pixel_aspect: Fraction | None = None


@dataclass(frozen=True)
class SourceFrame:
    """One picture: 4:2:0 planes uint8 (H, W) and twice (H/2, W/2), and its time.

    The time is on the encoder's clock in units of the source's time base: its time stamp less the gaps before it
    (`Corrections.with_gaps` adds them).
    """

    planes: Planes
    pts: int


class Source(Protocol):
    """A video to be coded: a file of any length (`VideoSource`), or a clip in memory (`ClipSource`).

    picture: the format of its frames. num_frames: about, None if it is not known. rotation: degrees by which a player turns it,
    anticlockwise.
    """

    @property
    def picture(self) -> VideoFormat: ...
    @property
    def matrix(self) -> Matrix: ...
    @property
    def num_frames(self) -> int | None: ...
    @property
    def rotation(self) -> int: ...

    def frames(self) -> Iterator[SourceFrame]:
        """All frames in order, with rising time stamps, from the first one again at each call."""


@dataclass(frozen=True)
class ClipSource:
    """A clip as a `Source`: the time of a frame is its number over the rate."""

    clip: Clip

    @property
    def num_frames(self) -> int:
        """Return the number of frames, T."""
        return self.clip.num_frames

    @property
    def matrix(self) -> Matrix:
        """Return the colour matrix."""
        return self.clip.matrix

    @property
    def rotation(self) -> int:
        """Return 0: a clip is upright."""
        return 0

    @property
    def picture(self) -> VideoFormat:
        """The format, with the clip's colour tags."""
        clip = self.clip
        matrix = int(SWSCALE_MATRIX[clip.matrix])
        return VideoFormat(clip.height, clip.width, clip.fps, 1 / clip.fps, matrix, full_range=clip.full_range)

    def frames(self) -> Iterator[SourceFrame]:
        """See `Source.frames`."""
        for number, planes in enumerate(zip(self.clip.y, self.clip.u, self.clip.v, strict=True)):
            yield SourceFrame(planes, number)
