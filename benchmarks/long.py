"""Long and large videos: memory and time of `dvcc encode` over hours of a recording, and at the ends of what cameras send.

    python benchmarks/long.py hours [HOURS [FILE]]
    python benchmarks/long.py kinds

`hours` makes a recording of so many hours (12) at 160x96, 5 fps, with audio, by repeating a coded minute, encodes it with
the rule of objects (x264 ultrafast, 30 kbit/s), once as a file and once live, and prints memory and processor time as they go;
FILE is where the recording is made and kept, if one is named. `kinds` runs the commands of a user on 30 minutes of a still
picture, 1 fps, 120 fps and 4K, and two commands at once into one file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np

from dvcc.encoding.file import encode_video
from dvcc.encoding.live import encode_live
from dvcc.encoding.plan import EncodePlan
from dvcc.encoding.presets import obedient_codec
from dvcc.encoding.target import LiveTarget
from dvcc.evaluation.tables import markdown_table
from dvcc.media.probe import open_video
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.objects import load_objects

FPS, HEIGHT, WIDTH, KBPS, AUDIO_RATE = 5, 96, 160, 30.0, 16_000
MARKS = (1, 15, 30, *range(60, 24 * 60 + 1, 60))  # minutes of the recording
MEASURE = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], capture_output=True, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
print(ended.stderr.strip().splitlines()[-1] if ended.returncode else "")
"""  # from a process of its own: a child begins with the peak of what started it


def scene(count: int, height: int, width: int, *, moving: bool = True) -> list[np.ndarray]:
    """Pictures, yuv420p as one plane, of a bright box that crosses a background, with a little noise of a sensor."""
    rng = np.random.default_rng(0)
    back = (rng.random((height // 4, width // 4)) * 120 + 60).repeat(4, 0).repeat(4, 1)
    pictures = []
    for t in range(count):
        luma = back + rng.normal(0, 2, back.shape) if moving else back.copy()
        place = int(t * 1.3 * moving) % (width - width // 6)
        luma[height // 3 : height // 2, place : place + width // 6] = 200
        pictures.append(np.vstack([luma.clip(0, 255), np.full((height // 2, width), 125)]).astype(np.uint8))
    return pictures


def write(path: Path | BytesIO, pictures: list[np.ndarray], fps: int, *, repeat: int = 1, audio: bool = False) -> None:
    """A coded video of the pictures, each shown `repeat` times."""
    with av.open(path if isinstance(path, BytesIO) else str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "24", "g": str(2 * fps)})
        stream.height, stream.width, stream.pix_fmt = 2 * pictures[0].shape[0] // 3, pictures[0].shape[1], "yuv420p"
        sound = container.add_stream("aac", rate=AUDIO_RATE, layout="mono") if audio else None
        for number in range(len(pictures) * repeat):
            frame = av.VideoFrame.from_ndarray(pictures[number // repeat], format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            tone = np.sin(np.arange(AUDIO_RATE * len(pictures) // fps) / 20).astype(np.float32)[None]
            chunk = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = AUDIO_RATE, 0, Fraction(1, AUDIO_RATE)
            for part in [*av.AudioResampler("fltp", "mono", AUDIO_RATE, frame_size=1024).resample(chunk), None]:
                container.mux(sound.encode(part))


def record(path: Path, hours: float) -> None:
    """A recording of so many hours: a coded minute, repeated."""
    minute = BytesIO()
    write(minute, scene(60 * FPS, HEIGHT, WIDTH), FPS, audio=True)
    minute.seek(0)
    with av.open(minute) as source, av.open(str(path), "w") as container:
        streams = [container.add_stream_from_template(stream) for stream in (source.streams.video[0], source.streams.audio[0])]
        packets = [(p.stream.index, bytes(p), p.pts, p.dts, p.time_base, p.is_keyframe) for p in source.demux() if p.size]
        for number in range(round(60 * hours)):
            for index, data, pts, dts, time_base, is_key in packets:
                packet, shift = av.Packet(data), round(60 * number / time_base)
                packet.pts, packet.dts, packet.time_base = pts + shift, dts + shift, time_base
                packet.is_keyframe, packet.stream = is_key, streams[index]
                container.mux_one(packet)


def memory() -> float:
    """What this process holds, MB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


def watched() -> Callable[[str, int], None]:
    """Tells memory and time at some minutes of a pass."""
    began: dict[str, float] = {}

    def progress(name: str, done: int) -> None:
        start = began.setdefault(name, time.process_time())
        if done % (60 * FPS) == 0 and (minutes := done // (60 * FPS)) in MARKS:
            print(f"| {name} | {minutes} | {memory():.1f} | {time.process_time() - start:.1f} |", flush=True)

    return progress


class CountedTarget(LiveTarget):
    """A target that stays; tells how often it was asked for, which is once a frame."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._asked = progress, 0
        super().__init__(KBPS)

    @property
    def target_kbps(self) -> float:
        """What is asked for, kbit/s."""
        self._asked += 1
        self._progress(self._asked)
        return self._kbps

    @target_kbps.setter
    def target_kbps(self, kbps: float) -> None:
        self._kbps = kbps


def hours(folder: Path, count: float = 12, kept: str = "") -> None:
    """Encode a recording of so many hours, as a file and live."""
    path = Path(kept) if kept else folder / "recording.mp4"
    if not path.exists():
        record(path, count)
    print("| pass | minutes | MB | s of processor |\n|---|---|---|---|", flush=True)
    codec, progress = obedient_codec("x264", "ultrafast", "offsets", gop=2 * FPS, threads=1), watched()
    plan = EncodePlan(open_video(path), folder / "coded.mp4", KBPS, AverageBitrate(codec, control=load_objects()))
    coded = encode_video(plan, progress=progress)
    print(f"file: {coded.num_frames} frames, {coded.bitrate_kbps:.1f} kbit/s, damage {str(coded.damage) or 'none'}", flush=True)
    target = CountedTarget(lambda done: progress("live", done))
    stream = encode_live(
        str(path), folder / "coded.ts", target_kbps=target, control=load_objects(), preset="ultrafast", gop=2 * FPS, threads=1
    )
    print(f"live: {stream.stats.num_frames} frames, {stream.stats.bitrate_kbps:.1f} kbit/s", flush=True)


def command(words: list[str]) -> list[str]:
    """The command line that encodes, with its memory and processor time on the first line of what it prints."""
    return [sys.executable, "-c", MEASURE, sys.executable, "-m", "dvcc.cli", "encode", *words, "--controller", "objects"]


def kinds(folder: Path) -> None:
    """Run the commands of a user."""
    write(folder / "still.mp4", scene(1, 180, 320, moving=False), 25, repeat=30 * 60 * 25)
    write(folder / "slow.mp4", scene(120, 180, 320), 1)
    write(folder / "fast.mp4", scene(960, 180, 320), 120)
    write(folder / "large.mp4", scene(25, 2160, 3840), 25)
    rows = []
    for name, what, kbps in (
        ("still.mp4", "30 min of a still picture, 320x180", 60),
        ("slow.mp4", "1 fps, 2 min, 320x180", 30),
        ("fast.mp4", "120 fps, 8 s, 320x180", 300),
        ("large.mp4", "3840x2160, 1 s", 8000),
    ):
        for live in ([], ["--live"]):
            out = folder / f"{name}.ts"
            began = time.monotonic()
            ended = subprocess.run(
                command([str(folder / name), str(out), "--target-kbps", str(kbps), *live]),
                capture_output=True,
                text=True,
                check=True,
            )
            usage, error = ended.stdout.splitlines()[0].split(), ended.stdout.splitlines()[1:]
            took = [f"{time.monotonic() - began:.0f}", f"{float(usage[1]):.1f}", f"{float(usage[0]):.0f}"]
            rows.append([what, "live" if live else "file", *took, pictures_of(out) if out.exists() else " ".join(error)])
    one = folder / "one.mp4"
    words = [command([str(folder / "fast.mp4"), str(one), "--target-kbps", kbps]) for kbps in ("200", "300")]
    both = [subprocess.Popen(each, stdout=subprocess.DEVNULL) for each in words]
    statuses = [process.wait() for process in both]
    left = [path.name for path in folder.iterdir() if "one" in path.name]
    rows.append(["two at once into one file", "file", "", "", "", f"{pictures_of(one)}; exit {statuses}, in the folder: {left}"])
    print(markdown_table(["video", "as", "s", "s of processor", "MB, largest", "what came of it"], rows))


def pictures_of(path: Path) -> str:
    """How many pictures a file has, and the seconds from the first to the last."""
    with av.open(str(path)) as container:
        times = sorted(float(p.pts * p.time_base) for p in container.demux(video=0) if p.size)
    return f"{len(times)} frames in {times[-1] - times[0]:.2f} s"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        if sys.argv[1:2] == ["kinds"]:
            kinds(Path(name))
        else:
            hours(Path(name), *(float(word) for word in sys.argv[2:3]), *sys.argv[3:4])
