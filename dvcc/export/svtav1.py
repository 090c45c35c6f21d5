"""Offsets for SVT-AV1."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dvcc.export.base import MapFormat, Maps, decoded, deltas, large_units, spooled
from dvcc.media.source import VideoSource

_STEPS_PER_QP = 6
"""Of AV1's quantizer index: from 96 on its step grows by 1.8 % on average, H.264's by 12.2 % per QP (both standards)."""
_LEVELS = 8
_TYPICAL_CRF, _INDEX_PER_CRF = 35, 4


class SVTAV1(MapFormat):
    """The text of `--roi-map-file`, a line per frame whose map is new.

    The line has the frame's number and then an offset of the quantizer index for every 64x64 pixels in raster order, at most
    eight different ones.

    Measured with 2.3: an offset below 0 spends bits and gains nothing, a map of nothing else cannot be decoded, and the file is
    read and ignored under `--rc 1` and `--rc 2`. So the offsets are written from 0 upwards, and the command takes a CRF that is
    lower by what that adds.
    """

    suffix = ".svtav1.txt"
    takes = ("offsets",)
    loses = (
        "a value is the mean over 64x64 pixels, 8 different ones a frame; "
        "--crf sets the rate (--rc 1 and 2 ignore maps); the pixel shape"
    )

    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """See `MapFormat.write`."""
        with spooled(few_levels(large_units(deltas(qp))) for qp in maps) as (spool, (frames, *grid)):
            lowest = min((np.frombuffer(spool.read(grid[0] * grid[1]), np.int8).min() for _ in range(frames)), default=0)
            spool.seek(0)
            before = b""
            for t in range(frames):
                offsets = spool.read(grid[0] * grid[1])
                if offsets != before:
                    indices = _STEPS_PER_QP * (np.frombuffer(offsets, np.int8).astype(int) - lowest)
                    file.write(f"{t} {' '.join(map(str, indices))}\n".encode())
                before = offsets
        crf = max(1, round(_TYPICAL_CRF + _STEPS_PER_QP * int(lowest) / _INDEX_PER_CRF))
        fps = source.picture.fps
        size = f"-w {source.picture.width} -h {source.picture.height} --fps-num {fps.numerator} --fps-denom {fps.denominator}"
        roi = f"--roi-map-file {shlex.quote(str(out.resolve()))}"
        return f"{decoded(source)} | SvtAv1EncApp -i stdin {size} --crf {crf} --keyint {gop} {roi} -b OUT.ivf"


def few_levels(offsets: np.ndarray) -> np.ndarray:
    """Return the offsets (T, h, w), at most eight different values in every frame.

    Each frame is rounded to the finest whole step that leaves it so few.
    """
    return np.stack([_rounded(frame) for frame in offsets])


def _rounded(frame: np.ndarray) -> np.ndarray:
    step = 1
    while len(np.unique(values := np.rint(frame / step).astype(np.int16) * step)) > _LEVELS:
        step += 1
    return values
