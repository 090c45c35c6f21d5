"""Delta QPs for NVIDIA's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from dvcc.codecs.encoder import BASE_QP
from dvcc.export.base import MapFormat, Maps, deltas
from dvcc.media.source import VideoSource
from dvcc.qp import QPMap


class NVENC(MapFormat):
    """int8, a value per macroblock in raster order, the frames one after the other in display order, no header.

    It is what `NV_ENC_PIC_PARAMS.qpDeltaMap` points to for a picture of H.264. No program reads such a file by itself; an
    application of the Video Codec SDK hands over one frame of it per picture.
    """

    suffix = ".nvenc.bin"
    takes = ("offsets", "map")
    loses = "nothing, in H.264; written by the SDK's documentation, and never run on a GPU"

    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """See `MapFormat.write`."""
        absolute, size = False, 0
        for qp in maps:
            absolute, size = isinstance(qp, QPMap), qp.values[0].size
            file.write(deltas(qp).astype(np.int8).tobytes())
        rate = f"rateControlMode NV_ENC_PARAMS_RC_CONSTQP with constQP {BASE_QP}" if absolute else "your rate control"
        return (
            f"qpMapMode = NV_ENC_QP_MAP_DELTA, {rate}, gopLength {gop}; per picture qpDeltaMap = the next {size} bytes, "
            f"qpDeltaMapSize = {size}"
        )
