"""What all frames of a video have in common."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one 4:2:0 picture: uint8 (H, W) and twice (H/2, W/2)."""


@dataclass(frozen=True)
class VideoFormat:
    """What all frames of a video have in common. Even height and width in luma pixels, frames per second, the unit of time
    stamps in seconds, FFmpeg's numbers of the colour tags, and the shape of a pixel (None: not said)."""

    height: int
    width: int
    fps: Fraction
    time_base: Fraction
    matrix: int
    full_range: bool = False
    primaries: int | None = None
    transfer: int | None = None
    pixel_aspect: Fraction | None = None
