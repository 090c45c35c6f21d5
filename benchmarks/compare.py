"""Memory and processor time of `dvcc compare`, per process and of all together.

    python benchmarks/compare.py VIDEO WIDTHxHEIGHT [frames] [task]

The video is scaled to the size and coded nearly without loss first; frames: 25, task: detection. The memory of a process is the
largest of its resident set (what /usr/bin/time -v prints), looked at ten times a second; pages of libraries that two processes
share are in both. The sum is the largest of any moment, and so is that of the proportional sets, in which a shared page is
divided. Processor time is that of all processes, to a tenth of a second for each. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dvcc
from dvcc.codecs import CRF, X264


def main(video: str, size: str, frames: int = 25, task: str = "detection") -> None:
    """Measure, and print a line for every process and one for all."""
    width, height = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        clip = dvcc.read_clip(video, size=(height, width), frames=frames)
        scaled = Path(folder, "scaled.mp4")
        scaled.write_bytes(X264(preset="ultrafast").encode(clip, CRF(12)).bitstream)
        kbps = 0.04 * width * height * float(clip.fps) / 1000  # bits per pixel where networks begin to fail
        words = [str(scaled), "--target-kbps", f"{kbps:.0f}", "--task", task, "--seconds", str(frames / float(clip.fps))]
        began = time.perf_counter()
        code = "import sys; from dvcc.cli import main; sys.exit(main())"
        process = subprocess.Popen([sys.executable, "-c", code, "compare", *words, "--out", f"{folder}/out"])
        largest: dict[int, int] = {}
        spent: dict[int, float] = {}  # the forked processes are nobody's to wait for, so the system adds them to nothing
        most = [0, 0]
        while process.poll() is None:
            sizes = {pid: memory for pid in _family(process.pid) if (memory := _memory(pid))}
            largest |= {pid: max(largest.get(pid, 0), resident) for pid, (resident, _) in sizes.items()}
            spent |= {pid: _seconds(pid, before=spent.get(pid, 0.0)) for pid in sizes}
            most = [max(before, sum(now)) for before, now in zip(most, zip(*sizes.values(), strict=True), strict=False)] or most
            time.sleep(0.1)
    for pid, resident in largest.items():
        print(f"process {pid}: {resident // 1024} MB")
    seconds = sum(spent.values())
    print(f"all together: {most[0] // 1024} MB resident, {most[1] // 1024} MB with shared pages divided")
    print(f"{frames} frames of {width}x{height}: {seconds:.1f} s of processor, {time.perf_counter() - began:.1f} s")


def _family(pid: int) -> list[int]:
    """The process and all that it started, and so on."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended
        return [pid]
    return [pid, *(one for text in lists for child in text.split() for one in _family(int(child)))]


def _seconds(pid: int, *, before: float) -> float:
    """Processor time of a process so far; `before` where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return before
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> tuple[int, int] | None:
    """Resident and proportional set in kB, None of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return None
    fields = {name: int(value.split()[0]) for name, value in (line.split(":", 1) for line in lines)}
    return fields["Rss"], fields["Pss"]


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*given[:2], *map(int, given[2:3]), *given[3:])
