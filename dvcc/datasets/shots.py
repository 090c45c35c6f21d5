"""Where a film is cut: a clip across a cut is two scenes, and the shots of one film are as good as several videos."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from dvcc.media.clips import decode_video

_THUMBNAIL = (64, 36)  # width, height
_BINS = 16
_LEAST_MOVED, _LEAST_DIFFERENCE = 0.3, 15.0


@lru_cache(maxsize=1024)
def find_shots(video: Path) -> list[tuple[int, int]]:
    """(first frame, one past the last) of every shot of a video file, in order.

    A cut is where, from one frame to the next, 30 % of the pixels move to other grey levels of the histogram, and the mean
    difference is above 15 grey levels: a pan has the second, a change of light the first. Raises `VideoError` when the file
    cannot be read.
    """
    bounds, previous, n = [0], None, -1
    for n, frame in enumerate(decode_video(video)):
        grey = frame.reformat(*_THUMBNAIL, format="gray").to_ndarray().astype(np.float32)
        if previous is not None and _is_cut(previous, grey):
            bounds.append(n)
        previous = grey
    bounds.append(n + 1)
    return list(pairwise(bounds))


def _is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    counts = [np.histogram(grey, _BINS, (0, 256))[0] for grey in (before, after)]
    moved = np.abs(counts[1] - counts[0]).sum() / 2 / before.size
    return bool(moved > _LEAST_MOVED and np.abs(after - before).mean() > _LEAST_DIFFERENCE)
