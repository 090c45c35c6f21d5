"""A script for the stock `ffmpeg` program and its libx265.

The `x265` program itself reads QPs per frame (`--qpfile`), but none per block.
"""

from __future__ import annotations

from dvcc.codecs.encoder import BASE_QP
from dvcc.export.script import Script

_EXACT_MAP = {
    "aq-mode": "1",
    "aq-strength": "0.0001",
    "cutree": "0",
    "qcomp": "1",
    "ipratio": "1",
    "pbratio": "1",
    "scenecut": "0",
    "qg-size": "16",
    "log-level": "error",
}
"""What x264 needs for an exact map by x265's names, and a QP for every 16x16 pixels instead of 32x32."""


class FFmpegX265(Script):
    """H.264's QPs as they are: HEVC's scale is the same."""

    suffix = ".x265.sh"
    loses = "one map per GOP, the mean over its frames; the coded file has the video only, at a constant frame rate"
    step = 1
    coded = ".x265.mp4"
    tag = "-tag:v hvc1 "

    def options(self, gop: int) -> str:
        """See `Script.options`."""
        params = ":".join(f"{key}={value}" for key, value in _EXACT_MAP.items())
        return f"-c:v libx265 -preset medium -crf {BASE_QP} -g {gop} -x265-params {params}"
