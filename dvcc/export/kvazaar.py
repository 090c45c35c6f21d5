"""Delta QPs for Kvazaar (HEVC)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import BinaryIO

from dvcc.codecs.encoder import BASE_QP
from dvcc.export.base import MapFormat, Maps, decoded, deltas, large_units
from dvcc.media.source import VideoSource
from dvcc.qp import QPMap


class Kvazaar(MapFormat):
    """`--roi`: text, per frame its columns and rows and then a delta QP for each in raster order, display order.

    Kvazaar takes one per 64x64 pixels, so the means are written. A name that ends in .bin would be read as another layout.
    Kvazaar 2.3.1 crashes when it is done, the coded file being complete (its issue 427).
    """

    suffix = ".kvazaar.txt"
    takes = ("map", "offsets")
    misread = ".bin"
    loses = "a value is the mean over 64x64 pixels, Kvazaar's bitrate control does not hold with a map; the pixel shape"

    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """See `MapFormat.write`."""
        absolute = False
        for qp in maps:
            absolute = isinstance(qp, QPMap)
            for frame in large_units(deltas(qp)):
                rows = "\n".join(" ".join(map(str, row)) for row in frame)
                file.write(f"{frame.shape[1]} {frame.shape[0]}\n{rows}\n".encode())
        # Without these two Kvazaar adds offsets of its own, by a frame's place and type.
        rate = f"--qp {BASE_QP} --gop 0 --intra-qp-offset 0" if absolute else "--qp QP"
        size = f"--input-res {source.picture.width}x{source.picture.height} --input-fps {source.picture.fps}"
        return (
            f"{decoded(source)} | kvazaar -i - {size} {rate} --period {gop} --roi {shlex.quote(str(out.resolve()))} -o OUT.hevc"
        )
