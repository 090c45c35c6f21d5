"""`dvcc encode` beside the ffmpeg program's own two-pass ABR: processor time, peak memory, and the time to the first frame.

    python benchmarks/video_encode.py VIDEO [seconds [rounds]]

The video is looped to so many seconds (60) at three sizes. Both sides code the same frames at the same preset, GOP, bitrate and
number of frame threads, one after the other in every round, so that a busy moment hits both; processor time counts, user and
system. Python keeps the modules that it compiles in a first start, which is not counted: pip compiles what it installs. The
ffmpeg program is the one inside imageio-ffmpeg.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg

from dvcc import units
from dvcc.evaluation.tables import markdown_table
from dvcc.media.probe import open_video

SIZES = ((360, 640), (720, 1280), (1080, 1920))
CONTROLLERS = ("abr", "objects", "learned")
HEAD = ["size", *(f"{name} s" for name in ("ffmpeg", *CONTROLLERS)), *(f"{name} / ffmpeg" for name in CONTROLLERS)]
HEAD += ["ffmpeg MB", "dvcc MB", "start s"]
BITS_PER_PIXEL = 0.05
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

START = """
import os, sys, time
from dvcc.cli import main
from dvcc.codecs.encoder import StreamEncoder
def first(self, *frame):
    os.write(1, str(time.process_time()).encode())
    os._exit(0)
StreamEncoder.encode = first
main(sys.argv[1:])
"""
MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
sys.exit(status)
"""  # from a process of its own: a child begins with the peak of what started it


def main(video: str, seconds: float = 60, rounds: float = 3) -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        print(markdown_table(HEAD, [measured(video, size, seconds, int(rounds), Path(folder)) for size in SIZES]))


def measured(video: str, size: tuple[int, int], seconds: float, rounds: int, folder: Path) -> list[str]:
    """One row: medians over the rounds."""
    source, looked = scaled(video, size, seconds, folder)
    kbps = f"{units.bits_per_pixel_to_kbps(BITS_PER_PIXEL, fps=looked, height=size[0], width=size[1]):.0f}"
    gop, threads = str(units.gop_of_a_second(looked)), str(max(1, 3 * (os.cpu_count() or 1) // 2))
    coded = [FFMPEG, "-y", "-v", "error", "-i", source, "-c:v", "libx264", "-preset", "medium", "-b:v", f"{kbps}k", "-g", gop]
    coded += ["-threads", threads, "-passlogfile", folder / "log", "-an"]
    words: list[object] = ["encode", source, folder / "ours.mp4", "--target-kbps", kbps, "--threads", threads]
    words += ["--task", "detection", "--controller"]
    jobs: dict[str, list[list[object]]] = {
        "ffmpeg": [[*coded, "-pass", 1, "-f", "null", os.devnull], [*coded, "-pass", 2, folder / "theirs.mp4"]]
    }
    jobs |= {name: [[sys.executable, "-m", "dvcc.cli", *words, name]] for name in CONTROLLERS}
    memory, spent, starts = dict.fromkeys(jobs, 0.0), {name: list[float]() for name in jobs}, list[float]()
    start([*words, CONTROLLERS[-1]])
    for _ in range(rounds):
        for name, commands in jobs.items():
            peaks, processors = zip(*map(run, commands), strict=True)
            memory[name] = max(memory[name], *peaks)
            spent[name].append(sum(processors))
        starts.append(start([*words, CONTROLLERS[-1]]))
    ratios = [statistics.median(b / a for a, b in zip(spent["ffmpeg"], spent[name], strict=True)) for name in CONTROLLERS]
    figures = [f"{statistics.median(values):.1f}" for values in spent.values()] + [f"{ratio:.2f}" for ratio in ratios]
    peaks_of_both = f"{memory['ffmpeg']:.0f}", f"{max(memory[name] for name in CONTROLLERS):.0f}"
    return [f"{size[1]}x{size[0]}", *figures, *peaks_of_both, f"{statistics.median(starts):.2f}"]


def start(words: list[object]) -> float:
    """Seconds of processor until the encoder is given the first frame."""
    done = subprocess.run([sys.executable, "-c", START, *map(str, words)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def scaled(video: str, size: tuple[int, int], seconds: float, folder: Path) -> tuple[Path, float]:
    """So many seconds of the video, looped, at another size, nearly without loss; and its frames per second."""
    path = folder / f"{size[0]}.mp4"
    words = [FFMPEG, "-y", "-v", "error", "-stream_loop", "-1", "-i", video, "-vf", f"scale={size[1]}:{size[0]},setsar=1", "-an"]
    run([*words, "-t", seconds, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-pix_fmt", "yuv420p", path])
    return path, float(open_video(path).picture.fps)


def run(words: list[object]) -> tuple[float, float]:
    """Peak memory in MB and seconds of processors of a command that has to succeed."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with status {done.returncode}")
    memory, processors = map(float, done.stdout.split())
    return memory, processors


if __name__ == "__main__":
    main(sys.argv[1], *(float(word) for word in sys.argv[2:]))
