"""What a sweep costs beside its work: overhead of an engine, empty pieces, and seconds and bytes of each kind of real piece.

    python benchmarks/scale.py overhead [PIECES] [SECONDS] [WORKERS]
    python benchmarks/scale.py encodes VIDEO [PIECES] [WORKERS]
    python benchmarks/scale.py empty ENGINE [PIECES] [WORKERS]
    python benchmarks/scale.py pieces VIDEOS
    python benchmarks/scale.py paper PIECES.json

`overhead`: pieces that sleep, so that the machine's other work does not count; the start of an engine is told apart.
`encodes`: the same with real work: each piece codes VIDEO at four rates by two passes of x264.
`empty`: seconds for every tenth of the pieces, and the memory of this process.
`pieces`: one process, one thread, clips of the videos at the default settings; writes PIECES.json.
`paper`: from that file, what 10^6 clips take on 1, 10 and 100 machines, and how busy disk, network and this process are.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dvcc import ABR, X264, Clip, read_clip
from dvcc.engines import given, open_workers

CORES, DISK, NETWORK = 16, 1e9, 1.25e9
"""Of a machine of the calculation: cores, bytes per second of its disk and of its network (10 Gbit/s)."""
CLIPS = 10**6


def sleep(seconds: float, piece: int) -> int:
    """A piece that takes its time and no processor."""
    time.sleep(seconds)
    return piece


def nothing(state: None, piece: int) -> int:
    """An empty piece."""
    return piece


def overhead(pieces: int = 200, seconds: int = 2, workers: int = 2) -> None:
    """Print what each engine takes for pieces that sleep, above what they sleep."""
    least = pieces * seconds / workers
    for engine in ("processes", "ray"):
        began = time.perf_counter()
        with open_workers(engine, given(seconds), pieces=pieces, workers=workers) as started:
            started.map(sleep, range(2 * workers))  # every worker is up, Ray's too
            up = time.perf_counter() - began - 2 * seconds
            began = time.perf_counter()
            started.map(sleep, range(pieces))
            took = time.perf_counter() - began
        above = f"{took / least - 1:+.2%} above the {least:.0f} s that they sleep"
        print(f"{engine}: start {up:.1f} s, then {took:.2f} s for {pieces} pieces of {seconds} s, {above}", flush=True)


def code(clip: Clip, piece: int) -> int:
    """Code the clip at four rates; returns the bytes."""
    return sum(len(X264(preset="slower").encode(clip, ABR(kbps=kbps)).bitstream) for kbps in (150, 300, 600, 1200))


def encodes(video: str, pieces: int = 200, workers: int = 2) -> None:
    """Print seconds of each engine for real encodes, after its start and the first encodes."""
    for engine in ("processes", "ray"):
        began = time.perf_counter()
        with open_workers(engine, partial(read_clip, video), pieces=pieces, workers=workers) as started:
            started.map(code, range(2 * workers))
            up = time.perf_counter() - began
            began = time.perf_counter()
            sizes = set(started.map(code, range(pieces)))
            took = time.perf_counter() - began
        each = took * workers / pieces
        print(f"{engine}: {took:.2f} s for {pieces} pieces of {each:.2f} s, after {up:.1f} s; bytes {sizes}", flush=True)


def empty(engine: str, pieces: int = 10**6, workers: int = 2) -> None:
    """Print pieces per second, tenth by tenth, with the memory of this process."""
    with open_workers(engine, given(0), pieces=pieces, workers=workers) as started:
        started.map(nothing, range(100))
        began = last = time.perf_counter()
        for done, _ in enumerate(started.run(nothing, range(pieces)), 1):
            if done % max(1, pieces // 10) == 0:
                now = time.perf_counter()
                size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                rate = pieces / 10 / (now - last)
                print(f"{engine}: {done} pieces, {now - began:.0f} s, {rate:.0f} a second, {size:.0f} MB", flush=True)
                last = now


def written(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measured(name: str, clips: int, folder: Path, run: Callable[[], object]) -> dict[str, float | str]:
    """Seconds of processor and bytes per clip of `run`, which writes to `folder`."""
    before, began = written(folder), time.process_time()
    run()
    seconds, size = (time.process_time() - began) / clips, (written(folder) - before) / clips
    print(f"{name}: {seconds:.2f} s of processor and {size / 1e6:.3f} MB a clip ({clips} clips)", flush=True)
    return {"name": name, "clips": clips, "seconds": seconds, "bytes": size}


def pieces(root: str, out: str = "PIECES.json") -> None:
    """Measure each kind of piece on clips of the videos in `root`."""
    import torch

    from dvcc.cli import main as dvcc
    from dvcc.config.build import build_codec, build_task, build_training_clips, ladder_settings, map_settings
    from dvcc.config.parse import parse
    from dvcc.control.eyes import make_eyes
    from dvcc.control.planes import ClipPlanes
    from dvcc.evaluation.benchmark import run as benchmark
    from dvcc.evaluation.control.measure import Bench
    from dvcc.evaluation.control.run import build_bench
    from dvcc.surrogate.data import build_samples
    from dvcc.surrogate.fill import fill_judged, fill_samples
    from dvcc.surrogate.judged import JudgedLadders

    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        cache, coded = Path(temporary) / "cache", Path(temporary) / "coded"
        files = sorted(path for path in Path(root).iterdir() if path.is_file())
        data = [f"data.root={root}", f"data.cache={cache}", "data.max_clips=2", "data.crops_per_clip=1"]
        data.append(f"data.test=[{files[-1].name}]")
        config = parse("train", ["surrogate", "task=segmentation", *data])[1]
        clips = build_training_clips(config.data, seed=0)
        samples = build_samples(
            clips, build_codec(config.codec), **ladder_settings(config.data, seed=0), **map_settings(config.data)
        )
        fill = {"engine": "processes", "workers": 1}
        count = len(samples.clips)
        rows.append(measured("ladder, maps and samples", count, cache, partial(fill_samples, samples, **fill)))
        judged = JudgedLadders(build_task(config.task), samples)
        judge = partial(fill_judged, judged, partial(build_task, config.task), **fill, device=torch.device("cpu"))
        rows.append(measured("judged ladder", count, cache, judge))
        made = make_eyes("nanodet_plus_m", features=None, every=8, folder=cache / "eyes")
        assert made is not None
        rows.append(measured("features", count, cache, partial(fill_samples, ClipPlanes(made[0], samples), **fill)))
        words = ["task=segmentation", *data[:3], "data.size=[224,512]"]
        config = parse("evaluate", ["benchmark", *words, f"out={temporary}/benchmark"])[1]
        rows.append(measured("benchmark rows", 2, cache, partial(benchmark.run, config)))
        targets = [0.02, 0.04, 0.08, 0.16, 0.32]
        words = ["task=segmentation", *data[:3], data[4], f"out={temporary}/evaluation", f"targets_bpp={targets}"]
        words += ["checkpoint=checkpoints/control_segmentation.onnx", "controllers=[abr2,learned]"]
        bench = build_bench(parse("evaluate", ["control", *words])[1])
        count = len(bench.tests.names)
        rows.append(
            measured("evaluation rows", count, cache, lambda: [Bench.measure(bench, clip, targets) for clip in range(count)])
        )
        words = ["encode", root, str(coded), "--target-kbps", "300", "--controller", "objects", "--workers", "1"]
        coded.mkdir()
        rows.append(measured("a file of dvcc encode", len(files), coded, partial(dvcc, words)))
    Path(out).write_text(json.dumps(rows, indent=1))


def paper(path: str, per_second: float = 3000.0) -> None:
    """Print the calculation. per_second: pieces that one process hands out (see `empty`)."""
    print("| piece | s | MB | machines | hours | disk | network | handing out |")
    for row in json.loads(Path(path).read_text()):
        for machines in (1, 10, 100):
            seconds = row["seconds"] * CLIPS / (CORES * machines)
            rate = row["bytes"] * CLIPS / seconds
            print(
                f"| {row['name']} | {row['seconds']:.2f} | {row['bytes'] / 1e6:.3f} | {machines} | {seconds / 3600:.1f} | "
                f"{rate / machines / DISK:.2%} | {rate / NETWORK:.2%} | {CLIPS / seconds / per_second:.2%} |"
            )


if __name__ == "__main__":
    named = (overhead, encodes, empty, pieces, paper)
    commands: dict[str, Callable[..., None]] = {command.__name__: command for command in named}
    name, *words = sys.argv[1:] or ["-h"]
    if name not in commands:
        sys.exit(__doc__)
    commands[name](*(int(word) if word.isdigit() else word for word in words))
