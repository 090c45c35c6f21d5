"""Code what OpenCV gives, a camera or a file, for a detector on the other side of a channel whose rate changes.

    python examples/opencv_camera.py [CAMERA_OR_FILE [OUT [SECONDS]]]

Needs `pip install opencv-python-headless`. Without words it takes the first camera for ten seconds into camera.mp4. OpenCV gives
its pictures as BGR, which is said: nothing in an array tells it. Bits go to where a small detector sees objects. After a third of
the time the target falls to a third, and after two it comes back, as the rate of a network does; set `target.target_kbps` from
whatever measures yours. It prints how many frames were coded at which bitrate, and what was decided of the bits.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np

import dvcc
from dvcc.rate_control.objects import load_objects

KBPS = 600


def pictures(capture: cv2.VideoCapture, count: int, target: dvcc.LiveTarget) -> Iterator[np.ndarray]:
    """Up to `count` pictures, uint8 (H, W, 3), BGR, while the target falls and comes back."""
    for number in range(count):
        there, picture = capture.read()
        if not there:
            return
        target.target_kbps = KBPS / 3 if count / 3 <= number < 2 * count / 3 else KBPS
        yield picture


def main(source: str = "0", out: str = "camera.mp4", seconds: str = "10") -> None:
    """Code so many seconds, and say what they came to."""
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not capture.isOpened():
        raise SystemExit(f"OpenCV opens no camera or file {source}: name another")
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    target = dvcc.LiveTarget(KBPS)
    frames = pictures(capture, round(float(seconds) * fps), target)
    result = dvcc.encode(frames, fps=fps, pixels="bgr", target_kbps=target, control=load_objects(), out=out)
    capture.release()
    print(f"{out}: {result.stats.num_frames} frames, {result.stats.bitrate_kbps:.0f} kbit/s of {result.target_kbps:.0f}")
    print(result.decided)


if __name__ == "__main__":
    main(*sys.argv[1:])
