"""What a file says of an earlier coding: the quality of a JPEG by its quantisation tables, the QPs of an H.264 stream."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from dvcc.codecs.bitstream import CodedStream
from dvcc.errors import VideoError

_FRAMES = 16  # of a video that are looked at


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
    return 1 + int(np.abs(_luma_tables() - np.array(tables[min(tables)])).sum(1).argmin())


@lru_cache
def _luma_tables() -> np.ndarray:
    """(100, 64): luma's quantisation at libjpeg's qualities 1 to 100."""
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    tables = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        file.seek(0)
        tables.append(JpegImageFile(file).quantization[0])
    return np.array(tables)


def mean_qp(path: Path) -> float | None:
    """Return the mean QP of the first frames of an H.264 file; None for another file."""
    try:
        return float(np.mean([frame.qp.mean() for frame in islice(CodedStream(path), _FRAMES)]))
    except VideoError:
        return None
