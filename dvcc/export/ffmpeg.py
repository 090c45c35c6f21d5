"""A script for the stock `ffmpeg` program and its libx264."""

from __future__ import annotations

from dvcc.codecs.encoder import BASE_QP
from dvcc.codecs.x264 import EXACT_MAP
from dvcc.export.script import Script


class FFmpegX264(Script):
    """Even QPs: x264 codes a step of one as no step."""

    suffix = ".ffmpeg.sh"
    loses = "one map per GOP, the mean over its frames, in even QPs; the coded file has the video only, at a constant frame rate"
    step = 2
    coded = ".x264.mp4"

    def options(self, gop: int) -> str:
        """See `Script.options`."""
        params = ":".join(f"{key}={value}" for key, value in EXACT_MAP.items())
        return f"-c:v libx264 -preset medium -crf {BASE_QP} -g {gop} -x264-params {params}"
