"""What a file says of an earlier coding: the quality of a JPEG by its quantisation tables, the QPs of an H.264 stream."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from dvcc.codecs.bitstream import CodedStream
from dvcc.errors import VideoError

_FRAMES = 16  # of a video that are looked at

# Table K.1 of the JPEG standard, row by row: the quantisation of luma at libjpeg's quality 50.
_LUMA = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ]
)


def jpeg_quality(path: Path) -> int | None:
    """Return the quality 1 to 100 of libjpeg whose luma table is nearest to that of a file; None for a file that is no JPEG."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            tables = getattr(image, "quantization", None)
    except (UnidentifiedImageError, OSError):
        return None
    if not tables:
        return None
    stored = np.sort(np.array(tables[min(tables)]))  # without an order: Pillow's has changed with its versions
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    candidates = np.clip((_LUMA * scales[:, None] + 50) // 100, 1, 255)
    return int(qualities[np.abs(np.sort(candidates) - stored).sum(1).argmin()])


def mean_qp(path: Path) -> float | None:
    """Return the mean QP of the first frames of an H.264 file; None for another file."""
    try:
        return float(np.mean([frame.qp.mean() for frame in islice(CodedStream(path), _FRAMES)]))
    except VideoError:
        return None
