"""NumPy's format: the map as dvcc itself reads it (`QPMap.load`), lossless."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dvcc.export.base import MapFormat, Maps, spooled
from dvcc.media.source import VideoSource


class Npz(MapFormat):
    """Array `qp`, int8 (T, ceil(H/16), ceil(W/16)), absolute QPs 0..51, display order."""

    suffix = ".npz"
    takes = ("map",)
    loses = "nothing"

    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """See `MapFormat.write`."""
        with (
            spooled(qp.values for qp in maps) as (values, shape),
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("qp.npy", "w", force_zip64=True) as member,
        ):
            header = {"descr": "|i1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            shutil.copyfileobj(values, member)
        return f"dvcc.X264(gop={gop}).encode(clip, dvcc.QPMap.load({str(out)!r}))"
