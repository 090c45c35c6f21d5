"""Inputs of every kind, mutated, and the commands that are given them."""

from __future__ import annotations

import importlib
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Imported before anything is forked: a command then takes what its work takes. PyTorch only where a training needs it.
import dvcc.cli.export
import dvcc.cli.inspect
import dvcc.control.deployed.runtime
import dvcc.encoding.file
import dvcc.encoding.live
import dvcc.encoding.report
import dvcc.encoding.size
import dvcc.rate_control.objects
from dvcc import CRF, X264, QPMap
from dvcc.cli import main
from dvcc.config import parse
from dvcc.media.probe import open_video

from . import files, pictures, videos

__all__ = ["Inputs", "Trial", "dvcc", "parse"]

_LIMITS = ["--max-pixels", "1000000", "--max-seconds", "60"]
"""What a service would set."""


@dataclass
class Trial:
    """What is run, in a folder that holds `inputs`.

    out: the file that it has to leave if it ends well. may_leave: an error may come after files that are whole by themselves.
    """

    told: str
    run: Callable[[], int]
    inputs: set[Path]
    out: Path | None = None
    may_leave: bool = False

    def is_whole(self) -> bool:
        """Return whether the output can be read to its end."""
        if self.out is None:
            return True
        if not self.out.is_file():
            return False
        if self.out.suffix == ".npz":
            return bool(QPMap.load(self.out).values.size)
        if self.out.suffix == ".mp4":
            return sum(1 for _ in open_video(self.out).frames()) > 0
        return self.out.stat().st_size > 0


def _command(words: Sequence[str], folder: Path, out: str | None = None, *, may_leave: bool = False) -> Trial:
    words = list(words)
    told = "dvcc " + " ".join(words)[:300]
    return Trial(told, lambda: main(words), {*folder.rglob("*")}, None if out is None else folder / out, may_leave)


class Inputs:
    """Whole inputs, made once, and mutations of them.

    whole: those of a training too, which take seconds.
    """

    def __init__(self, folder: Path, *, whole: bool = True) -> None:
        self.folder, self.cache = folder, folder / "cache"
        (folder / "videos").mkdir(parents=True)
        data = "data=folder data.test=[c.mp4] data.frames=4 data.stride=1 data.size=[64,96] data.rungs=[16,26,36,46]"
        rest = "data.maps_per_clip=4 data.groups=1 data.num_workers=0 data.cache_workers=1 surrogate.width=8"
        few = "trainer.accelerator=cpu logger.pictures_every=1000 trainer.checkpoint_every=1"
        self.data = [*data.split(), *rest.split(), *few.split(), f"data.root={folder / 'videos'}"]
        if whole:
            importlib.import_module("dvcc.surrogate.training")
        child = os.fork()  # this process is forked for every input: it keeps to one thread
        if child == 0:
            output = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            self._make()
            out = [f"data.cache={self.cache}", f"out={folder / 'run'}", "trainer.max_steps=2"]
            os._exit(main(["train", "surrogate", *self.data, *out]) if whole else 0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError((folder / "log.txt").read_text())
        self.videos = {suffix: (folder / f"in.{suffix}").read_bytes() for suffix, _, _ in _CONTAINERS}
        self.control = (folder / "control.onnx").read_bytes()

    def _make(self) -> None:
        import av

        from dvcc.control.deployed.onnx_export import control_to_onnx
        from dvcc.control.network import ControlNetwork
        from dvcc.datasets.synthetic import SyntheticClips

        clips = [SyntheticClips(num_clips=1, frames=12, size=(64, 96), seed=seed)[0].clip for seed in range(3)]
        for name, clip in zip("abc", clips, strict=True):
            coded = X264(preset="ultrafast").encode(clip, CRF(26)).bitstream
            (self.folder / "videos" / f"{name}.mp4").write_bytes(coded)
        for suffix, form, codec in _CONTAINERS:
            with av.open(str(self.folder / f"in.{suffix}"), "w", format=form) as container:
                stream = container.add_stream(codec, rate=25, options={"preset": "ultrafast"} if "libx26" in codec else {})
                stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p" if codec == "mjpeg" else "yuv420p"
                for index in range(clips[1].num_frames):
                    frame = clips[1].frame(index).reformat(format=stream.pix_fmt)
                    frame.pts = index
                    container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        (self.folder / "control.onnx").write_bytes(control_to_onnx(ControlNetwork(width=8), {"run": {}}))
        QPMap.uniform(30, like=clips[0]).save(self.folder / "map.npz")

    # -- kinds

    def video(self, rng: random.Random, folder: Path) -> Trial:
        """One of `_CONTAINERS` for encode, inspect or export."""
        suffix = rng.choice(list(self.videos))
        data = self.videos[suffix]
        structure = _STRUCTURES.get(suffix, videos.raw)
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            data = rng.choice([videos.raw, structure, structure])(data, rng)
        path = folder / f"in.{suffix}"
        path.write_bytes(data)
        rate, limits = ["--target-kbps", "150"], rng.choice([[], _LIMITS])
        kind, learned = rng.randrange(8), ["--checkpoint", str(self.folder / "control.onnx")]
        if kind < 3:
            return _command(["inspect", path.name, *rng.choice([[], ["--json"]]), *limits], folder)
        if kind == 3:
            words = ["export", path.name, *rate, "--format", "npz", "--out", "out.npz", *learned, *limits]
            return _command(words, folder, "out.npz")
        words = ["encode", path.name, "out.mp4", "--preset", "ultrafast", *rate, *limits]
        if kind == 4:
            return _command([*words, *learned, "--delivery", "map"], folder, "out.mp4")
        if kind == 5:
            live = [*words[:2], "out.ts", *words[3:], *learned, "--live"]
            return _command(live, folder, may_leave=True)  # up to where it broke
        return _command([*words, *rng.choice([learned, ["--controller", "abr"]])], folder, "out.mp4")

    def onnx(self, rng: random.Random, folder: Path) -> Trial:
        """A control, damaged or made by someone who means harm."""
        data = self.control
        for _ in range(rng.choice([0, 1, 1, 1, 3])):
            data = files.onnx_graph(data, rng)
        if data == self.control:
            data = videos.raw(data, rng)
        (folder / "control.onnx").write_bytes(data)
        words = ["encode", str(self.folder / "videos" / "a.mp4"), "out.mp4", "--target-kbps", "150", "--preset", "ultrafast"]
        return _command([*words, "--checkpoint", "control.onnx"], folder, "out.mp4")

    def maps(self, rng: random.Random, folder: Path) -> Trial:
        """A map of NumPy's format, from Python: no command reads one."""
        data = (self.folder / "map.npz").read_bytes()
        path = folder / "map.npz"
        path.write_bytes(rng.choice([files.archive, videos.raw])(data, rng))
        return Trial("QPMap.load", lambda: guarded_load(path), {path})

    def safetensors(self, rng: random.Random, folder: Path) -> Trial:
        """Weights of a surrogate, as every stage after it reads them."""
        data = (self.folder / "run" / "surrogate.safetensors").read_bytes()
        path = folder / "surrogate.safetensors"
        path.write_bytes(rng.choice([files.tensors, files.tensors, videos.raw])(data, rng))
        words = ["train", "surrogate", *self.data, f"data.cache={self.cache}", "out=out", "cache_only=true", f"start={path.name}"]
        return _command(words, folder)

    def checkpoint(self, rng: random.Random, folder: Path) -> Trial:
        """A checkpoint that a run goes on from."""
        return self._resumed(folder, "last.ckpt", lambda data: rng.choice([files.archive, videos.raw])(data, rng))

    def config(self, rng: random.Random, folder: Path) -> Trial:
        """The settings of a run that goes on."""
        return self._resumed(folder, "config.yaml", lambda data: files.text(data, rng))

    def _resumed(self, folder: Path, name: str, change: Callable[[bytes], bytes]) -> Trial:
        out = folder / "run"
        shutil.copytree(self.folder / "run", out)
        (out / name).write_bytes(change((out / name).read_bytes()))
        words = ["train", "surrogate", *self.data, "trainer.max_steps=3", f"data.cache={self.cache}", f"out={out}", "resume=true"]
        return _command(words, folder, "run/surrogate.safetensors")

    def cache_entry(self, rng: random.Random, folder: Path) -> Trial:
        """One file of the cache; the training that reads it ends with the same weights, or in a sentence."""
        cache, suffixes = folder / "cache", {".npz": files.archive, ".safetensors": files.tensors}
        shutil.copytree(self.cache, cache)
        path = rng.choice(sorted(path for path in cache.rglob("*") if path.suffix in suffixes))
        path.write_bytes(rng.choice([suffixes[path.suffix], videos.raw])(path.read_bytes(), rng))
        words = ["train", "surrogate", *self.data, "trainer.max_steps=2", f"data.cache={cache}", "out=out"]
        return _command(words, folder, "out/surrogate.safetensors", may_leave=True)

    def zones(self, rng: random.Random, folder: Path) -> Trial:
        """A picture of zones for the rule of objects, on a video of its shape."""
        data = pictures.painted(rng)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            data = rng.choice([videos.raw, pictures.png, pictures.png, pictures.png])(data, rng)
        (folder / "zones.png").write_bytes(data)
        words = ["encode", str(self.folder / "videos" / "a.mp4"), "out.mp4", "--preset", "ultrafast", "--target-kbps", "150"]
        words += ["--task", "detection", "--zones", "zones.png", *rng.choice([[], _LIMITS])]
        if rng.random() < 0.2:
            return _command([*words[:2], "out.ts", *words[3:], "--live"], folder, may_leave=True)
        return _command(words, folder, "out.mp4")

    def command_line(self, rng: random.Random, folder: Path) -> Trial:
        """Words of every command, some of them wrong."""
        video = str(self.folder / "videos" / "a.mp4")
        lines: list[list[str]] = [
            ["encode", video, "out.mp4", "--target-kbps", "150", "--controller", "abr", "--preset", "ultrafast", "--gop", "8"],
            [
                "encode",
                video,
                "out.mp4",
                "--crf",
                "28",
                "--max-kbps",
                "300",
                "--controller",
                "abr",
                "--dry-run",
                "--threads",
                "1",
            ],
            ["encode", video, "out.ts", "--live", "--target-kbps", "150", "--controller", "abr", "--fps", "25"],
            ["encode", video, "out.mp4", "--target-size", "20kB", "--controller", "abr", "--stream", "0", "--codec", "x265"],
            ["encode", video, "out.mp4", "--task", "detection", "--target-kbps", "150", "--strength", "6", "--dry-run"],
            ["inspect", video, "--json", "--reference", video],
            [
                "export",
                video,
                "--target-kbps",
                "150",
                "--format",
                "npz",
                "--out",
                "out.npz",
                "--task",
                "segmentation",
                "--gop",
                "8",
            ],
            ["compare", video, "--target-kbps", "150", "--task", "segmentation", "--seconds", "-1", "--out", "page"],
            ["zoo", "--json"],
            ["train", "surrogate", "data=folder", "data.root=nowhere", "data.size=[64,96]", "trainer.max_steps=3", "out=run"],
            ["train", "control", "task=segmentation", "data.root=nowhere", "surrogate=x", "control.width=8", "learning_rate=0.1"],
            ["evaluate", "control", "task=detection", "data.root=nowhere", "controllers=[abr2,learned]", "rate_factors=[1,2]"],
            [
                "evaluate",
                "benchmark",
                "task=segmentation",
                "networks=[student]",
                "data.root=nowhere",
                "codec=x264",
                "levels=[1,2]",
            ],
        ]
        words = files.words(rng.choice(lines), rng)
        return _command(words, folder, may_leave=True)


def guarded_load(path: Path) -> int:
    """Read a map as a program would, and end as a command does."""
    from dvcc._guard import guarded

    return guarded(lambda: QPMap.load(path))


_CONTAINERS = (
    ("mp4", "mp4", "libx264"),
    ("ts", "mpegts", "libx264"),
    ("mkv", "matroska", "libx264"),
    ("h264", "h264", "libx264"),
    ("hevc.mp4", "mp4", "libx265"),
    ("avi", "avi", "mjpeg"),
    ("webm", "webm", "libvpx"),
    ("flv", "flv", "libx264"),
)
_STRUCTURES: dict[str, videos.Mutation] = {
    "mp4": videos.boxes,
    "hevc.mp4": videos.boxes,
    "ts": videos.transport,
    "mkv": videos.matroska,
    "webm": videos.matroska,
    "h264": videos.units,
}
