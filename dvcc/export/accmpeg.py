"""The matrix of QPs that the patched x264 of AccMPEG (myh264) reads."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import BinaryIO

from dvcc.export.base import MapFormat, Maps, decoded, raw_input
from dvcc.media.source import VideoSource


class AccMPEG(MapFormat):
    """ASCII: absolute QPs, a line per row of macroblocks, the frames one after the other in coding order.

    The patched encoder opens it as `qp_matrix_file` in a folder that is compiled in, beside an `operation_mode_file` of the text
    `20,`.

    Coding order is display order without B frames, and the command asks for none.
    """

    suffix = ".accmpeg.txt"
    takes = ("map",)
    loses = (
        "B frames (maps are read in coding order) and the pixel shape; "
        "written by the program's documentation, and never run with it"
    )

    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """See `MapFormat.write`."""
        for qp in maps:
            for row in qp.values.reshape(-1, qp.values.shape[2]):
                file.write((" ".join(map(str, row)) + " \n").encode())
        files = f"cp {shlex.quote(str(out))} FOLDER/qp_matrix_file; echo 20, > FOLDER/operation_mode_file"
        encode = f"FOLDER/ffmpeg-3.4.8/ffmpeg {raw_input(source)} -i - -c:v libx264 -g {gop} -bf 0 OUT.mp4"
        return f"{files}; {decoded(source)} | {encode}"
