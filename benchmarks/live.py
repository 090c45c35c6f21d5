"""Live streams: latency from a frame in to its packet out, streams per core, and a network whose rate falls and comes back.

    python benchmarks/live.py VIDEO [seconds]

The video is looped to so many seconds (20) at 640x360 and read into memory first; the preset is veryfast. Latency is measured at
the pace of a camera of 25 fps, streams per core by processor time as fast as it goes, on one frame thread. The network takes
600 kbit/s, 200 for the middle third, and 600 again; what waits for it is counted from when each packet is ready, by the camera's
clock.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

import numpy as np

import dvcc
from dvcc.evaluation.tables import markdown_table
from dvcc.media.format import Planes
from dvcc.rate_control.objects import Objects, load_objects

FPS, SIZE, KBPS, PRESET = 25, (360, 640), 600.0, "veryfast"


def main(video: str, seconds: float = 20) -> None:
    """Measure and print three tables."""
    clip = dvcc.read_clip(video, size=SIZE)
    pictures = list(itertools.islice(itertools.cycle(zip(clip.y, clip.u, clip.v, strict=True)), round(seconds * FPS)))
    controls = {"no offsets": None, "objects": load_objects()}
    rows = [[name, *latency(pictures, control), *cost(pictures, control)] for name, control in controls.items()]
    print(markdown_table(["offsets", "median ms", "99 % ms", "frames behind", "ms of processor a frame", "streams a core"], rows))
    rows = [[name, *network(pictures, control, follows)] for name, control in controls.items() for follows in (False, True)]
    head = ["offsets", "target", "kbit/s, first third", "second", "last", "most delay, s", "s above 1 s of delay"]
    print(markdown_table(head, rows))


def latency(pictures: list[Planes], control: Objects | None) -> list[str]:
    """Median and 99th percentile in ms from a frame in to its packet out, and the most frames in between."""
    taken: list[float] = []
    waited: list[float] = []
    behind = 0

    def paced() -> Iterator[Planes]:
        began = time.monotonic()
        for number, picture in enumerate(pictures):
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))
            taken.append(time.monotonic())
            yield picture

    for packet in dvcc.encode(paced(), fps=FPS, target_kbps=KBPS, pixels="yuv420p", control=control, preset=PRESET):
        waited.append(1000 * (time.monotonic() - taken[packet.frame]))
        behind = max(behind, len(taken) - 1 - packet.frame)
    return [f"{np.median(waited):.0f}", f"{np.quantile(waited, 0.99):.0f}", str(behind)]


def cost(pictures: list[Planes], control: Objects | None) -> list[str]:
    """Processor time of a frame, ms, and how many streams a core does at the camera's pace."""
    began = time.process_time()
    for _ in dvcc.encode(pictures, fps=FPS, target_kbps=KBPS, pixels="yuv420p", control=control, preset=PRESET, threads=1):
        pass
    spent = (time.process_time() - began) / len(pictures)
    return [f"{1000 * spent:.1f}", f"{1 / (spent * FPS):.1f}"]


def network(pictures: list[Planes], control: Objects | None, follows: bool) -> list[str]:
    """What a stream sends through the network, and how long its packets wait there."""
    count = len(pictures)
    takes = np.where((np.arange(count) >= count // 3) & (np.arange(count) < 2 * count // 3), KBPS / 3, KBPS)
    target, sent, number = dvcc.LiveTarget(KBPS), np.zeros(count + 1), itertools.count()
    at = 0

    def watched() -> Iterator[Planes]:
        nonlocal at
        for picture in pictures:
            at = next(number)
            if follows:
                target.target_kbps = float(takes[at])
            yield picture

    content = np.zeros(count)
    for packet in dvcc.encode(watched(), fps=FPS, target_kbps=target, pixels="yuv420p", control=control, preset=PRESET):
        sent[at] += 8 * len(packet.data)
        content[packet.frame] = 8 * len(packet.data)
    waiting, delays = 0.0, []
    for bits, kbps in zip(sent, takes, strict=False):
        waiting = max(0.0, waiting + bits - 1000 * kbps / FPS)
        delays.append(waiting / 1000 / kbps)
    thirds = [f"{part.sum() / len(part) * FPS / 1000:.0f}" for part in np.array_split(content, 3)]
    late = sum(delay > 1 for delay in delays) / FPS
    return ["follows" if follows else "stays", *thirds, f"{max(delays):.2f}", f"{late:.2f}"]


if __name__ == "__main__":
    main(sys.argv[1], *(float(word) for word in sys.argv[2:]))
