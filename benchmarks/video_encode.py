"""`dvcc encode` beside the ffmpeg program's own two-pass ABR: time, peak memory, where the time goes, and what an hour takes.

    python benchmarks/video_encode.py VIDEO [frames]

The video is scaled to three sizes first. Both sides code the same frames at the same preset, GOP and number of threads; the
ffmpeg program is the one inside imageio-ffmpeg.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from dvcc import units
from dvcc.control.runtime import load_control
from dvcc.encode.presets import control_stream, reduced_frames
from dvcc.evaluation.control.report import markdown_table
from dvcc.media.probe import open_video
from dvcc.networks.sources import CHECKPOINTS

SIZES = ((360, 640), (720, 1280), (1080, 1920))
HEAD = ["size", "ffmpeg s", "dvcc s", "ffmpeg cpu s", "dvcc cpu s", "ratio", "cpu ratio", "ffmpeg MB", "dvcc MB"]
HEAD += ["decode s", "control s"]
BITS_PER_PIXEL = 0.05
THREADS = max(1, 3 * (os.cpu_count() or 1) // 2)
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def main(video: str, frames: int = 250) -> None:
    """Measure and print two tables."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(video, size, frames, Path(folder)) for size in SIZES]
        print(markdown_table(HEAD, rows))
        lengths = [memory_of(video, count, Path(folder)) for count in (200, 800)]
    growth = max(0.0, (lengths[1] - lengths[0]) / 600)  # MB per frame
    hour = max(lengths) + growth * 30 * 3600
    print(f"\n1920x1080: {lengths[0]:.0f} MB at 200 frames, {lengths[1]:.0f} MB at 800; so {hour:.0f} MB at an hour of 30 fps")


def measured(video: str, size: tuple[int, int], frames: int, folder: Path) -> list[str]:
    """One row."""
    source = scaled(video, size, frames, folder)
    looked = open_video(source)
    kbps = units.bits_per_pixel_to_kbps(BITS_PER_PIXEL, fps=looked.picture.fps, height=size[0], width=size[1])
    gop = round(looked.picture.fps)
    coded = [FFMPEG, "-y", "-v", "error", "-i", source, "-c:v", "libx264", "-preset", "medium", "-b:v", f"{kbps:.0f}k"]
    coded += ["-g", gop, "-threads", THREADS, "-passlogfile", folder / "log", "-an"]
    ours = [sys.executable, "-m", "dvcc.cli", "encode", source, folder / "ours.mp4", "--target-kbps", f"{kbps:.0f}"]
    ours += ["--task", "segmentation"]
    passes = np.stack([run([*coded, "-pass", 1, "-f", "null", os.devnull]), run([*coded, "-pass", 2, folder / "theirs.mp4"])])
    theirs = np.append(passes[:, :2].sum(0), passes[:, 2].max())
    mine = run([*ours, "--threads", THREADS])
    start = time.perf_counter()
    for _ in looked.frames():
        pass
    decode = time.perf_counter() - start
    control, _ = load_control(CHECKPOINTS / "control_segmentation.safetensors")
    stream, all_frames, spent = control_stream(looked, control, kbps, gop=4), looked.frames(), 0.0
    while chunk := list(islice(all_frames, 4)):
        start = time.perf_counter()
        np.rint(stream.decide(reduced_frames(looked, chunk)))
        spent += time.perf_counter() - start
    ratios = [f"{ratio:.2f}" for ratio in (mine / theirs)[:2]]
    figures = [f"{value:.1f}" for pair in zip(theirs[:2], mine[:2], strict=True) for value in pair]
    return [f"{size[1]}x{size[0]}", *figures, *ratios, f"{theirs[2]:.0f}", f"{mine[2]:.0f}", f"{2 * decode:.1f}", f"{spent:.1f}"]


def memory_of(video: str, frames: int, folder: Path) -> float:
    """Peak memory in MB of coding so many frames of 1920x1080."""
    source = scaled(video, SIZES[2], frames, folder)
    words = ["--task", "segmentation", "--target-kbps", "2000", "--preset", "ultrafast", "--threads", THREADS]
    return run([sys.executable, "-m", "dvcc.cli", "encode", source, folder / "long.mp4", *words])[2]


def scaled(video: str, size: tuple[int, int], frames: int, folder: Path) -> Path:
    """So many frames of the video, looped, at another size, nearly without loss."""
    path = folder / f"{size[0]}-{frames}.mp4"
    filters = f"scale={size[1]}:{size[0]},setsar=1"
    words = [FFMPEG, "-y", "-v", "error", "-stream_loop", "-1", "-i", video, "-vf", filters, "-frames:v", frames, "-an"]
    run([*words, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-pix_fmt", "yuv420p", path])
    return path


MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
sys.exit(status)
"""  # from a process of its own: a child begins with the peak of what started it


def run(words: list[object]) -> np.ndarray:
    """Seconds of wall clock, seconds of processors, and peak memory in MB of a command that has to succeed."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words[0]} ended with status {done.returncode}")
    wall, (memory, processors) = time.perf_counter() - start, map(float, done.stdout.split())
    return np.array([wall, processors, memory / 1024])


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in sys.argv[2:]))
