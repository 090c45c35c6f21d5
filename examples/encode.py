"""Code a video with x264's two-pass ABR and with the rule of objects at the same bitrate, and look at the difference.

    python examples/encode.py [VIDEO [KBPS [FOLDER]]]

Without words it takes examples/street.mp4, 60 kbit/s and the folder runs/encode. It reads at most 50 frames. For each
controller it prints a line with the bitrate that was really achieved, the encodes it took, the mean of the QPs that x264 used,
and the name of the file that it wrote. The last line says by how many QPs the two differ in the finest and in the coarsest tenth
of the macroblocks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import dvcc
from dvcc.rate_control import Means, build_rate_controller

STREET = Path(__file__).parent / "street.mp4"


def main(video: str = str(STREET), kbps: str = "60", folder: str = "runs/encode") -> None:
    """Code the video twice, and print what it came to."""
    clip = dvcc.read_clip(video, frames=50)
    codec = dvcc.X264(preset="medium", gop=round(clip.fps))
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    qps = {}
    for name in ("abr2", "objects"):
        coded = build_rate_controller(name, Means(codec)).encode(clip, float(kbps))
        qps[name] = coded.realised_qp().values.astype(float)
        path = out / f"{name}.mp4"
        path.write_bytes(coded.bitstream)
        figures = f"{coded.bitrate_kbps:.1f} kbit/s, {coded.num_encodes} encodes, mean QP {qps[name].mean():.1f}"
        print(f"{name:8} {figures}, {path}")
    moved = np.sort((qps["objects"] - qps["abr2"]).ravel())
    tenth = max(1, len(moved) // 10)
    low, high = moved[:tenth].mean(), moved[-tenth:].mean()
    print(f"the rule's QPs less x264's: {low:+.1f} in the finest tenth, {high:+.1f} in the coarsest")


if __name__ == "__main__":
    main(*sys.argv[1:])
