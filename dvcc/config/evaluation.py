"""Settings of evaluate.py."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field, fields
from typing import Any

from omegaconf import MISSING

from dvcc.config.base import Run, TaskConfig, VideoRun, at_least
from dvcc.engines import check_engine
from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP


@dataclass
class EvaluateControlConfig(VideoRun):
    task: TaskConfig = field(default_factory=TaskConfig)
    checkpoint: str | None = None  # None: runs/control-TASK/control.onnx, what dvcc train control writes
    extra_checkpoints: list[str] = field(default_factory=list)  # controls to compare, each as `learned NAME`
    readers: list[str] = field(
        default_factory=list
    )  # models that read analysis encodes for the controls; none: the one beside each
    surrogate: str = "checkpoints/surrogate_anchored.safetensors"  # for the controllers `descent` and `search`
    controllers: list[str] = field(
        default_factory=lambda: ["abr1", "abr2", "abr2_corrected", "crf", "cqp", "learned", "learned_corrected"]
    )  # rate controllers to compare, or package.module:name of your own
    baseline: str = "abr2"  # the rival: a controller, of which all BD-rates are
    rivals: list[str] = field(default_factory=list)  # further ones that all are paired with, each in a table of its own
    targets_kbps: list[float] | None = None  # kbit/s
    targets_bpp: list[float] | None = None  # bits per pixel; None of both: num_targets are found by a sweep
    num_targets: int = 5  # how many of those, two or more
    rate_factors: list[float] = field(default_factory=lambda: [1.0])  # multiples of every target; figures are averaged over them
    judged_every: int = 1  # of so many frames one is judged
    reach: float = 1.25  # a target below so many times the bits of QP 51 everywhere is left out; 0: none is
    engine: str = "processes"  # of this machine; ray: on the cluster of RAY_ADDRESS, or on one of its own here
    workers: int | None = None  # processes or tasks of Ray; None: one per core; 1: this process, with all cores
    stability: float = 0.9  # least agreement of the network with itself under +-1 noise
    bootstrap: int = 200  # resamples for an interval

    def __post_init__(self) -> None:
        at_least(self, num_targets=2, bootstrap=0, seed=0, judged_every=1, workers=1)
        check_engine(self.engine)
        if self.seed >= 2**32:
            raise ConfigError(f"seed is below 2**32, got {self.seed}")
        for name, unit in (("targets_kbps", " kbit/s"), ("targets_bpp", " bits per pixel"), ("rate_factors", " numbers")):
            values = getattr(self, name)
            if values is not None and not (values and all(0 < value < math.inf for value in values)):
                raise ConfigError(f"{name} are positive{unit}, got {values}")
        if self.targets_kbps is not None:
            self.targets_bpp = None  # a scenario's; what is said in kbit/s is meant
        for rival in (self.baseline, *self.rivals):
            if rival not in self.controllers:
                raise ConfigError(f"controllers must include {rival}, which the others are compared with")


@dataclass
class CalibrateConfig(VideoRun):
    task: TaskConfig = field(default_factory=TaskConfig)
    checkpoint: str | None = None  # a control.safetensors; None: the rule of objects, whose network that looks is task.model
    strengths: list[float] = field(default_factory=lambda: [0.4, 0.7, 1.0, 1.4])  # multiples of its offsets that are tried
    targets_bpp: list[float] | None = None  # bits per pixel; None: num_targets are found by a sweep
    num_targets: int = 4  # how many of those, four or more
    rate_factors: list[float] = field(default_factory=lambda: [0.97, 1.03])  # multiples of every target; figures are averaged
    judged_every: int = 1  # of so many frames one is judged
    engine: str = "processes"  # of this machine; ray: on the cluster of RAY_ADDRESS, or on one of its own here
    workers: int | None = None  # processes or tasks of Ray; None: one per core; 1: this process, with all cores
    bootstrap: int = 200  # resamples for an interval

    def __post_init__(self) -> None:
        at_least(self, num_targets=4, bootstrap=0, seed=0, judged_every=1, workers=1)
        check_engine(self.engine)
        for name, least in (("targets_bpp", 4), ("rate_factors", 1)):
            values = getattr(self, name)
            if values is not None and not (len(values) >= least and all(0 < value < math.inf for value in values)):
                raise ConfigError(f"{name} are {least} positive numbers or more, for a curve, got {values}")
        if not self.strengths or not all(0 < strength < 4 for strength in self.strengths):
            raise ConfigError(f"strengths are multiples above 0 and below 4, got {self.strengths}")


@dataclass
class EvaluateSurrogateConfig(VideoRun):
    task: TaskConfig = field(default_factory=TaskConfig)  # whose loss rho^2 and the descent test are about
    checkpoint: str = "runs/surrogate/surrogate.safetensors"  # file of the surrogate
    ladder: str | None = None  # a surrogate that predicts the ladder which `checkpoint` reads; None: it is encoded
    beside: list[str] = field(default_factory=list)  # further surrogates on the same maps, for the table that compares them
    draws: list[int] = field(default_factory=list)  # descent through frames, its gradient averaged over so many draws of noise
    second_judge: str | None = None  # task.model that judges the steps of these, too, and had no part in their gradient
    mean_qps: list[int] = field(default_factory=lambda: [20, 28, 36, 44])  # of the maps
    maps: int = 16  # per clip and mean QP
    pictured_maps: int = 5  # of these, those whose frames are compared
    bootstrap: int = 1000  # resamples for an interval

    def __post_init__(self) -> None:
        at_least(self, maps=3, pictured_maps=2, bootstrap=0, seed=0)
        if self.draws and (min(self.draws) < 1 or sorted(set(self.draws)) != self.draws):
            raise ConfigError(f"draws are rising numbers from 1, e.g. [1,4,16], got {self.draws}")
        if self.second_judge is not None and not self.draws:
            raise ConfigError(f"second_judge={self.second_judge} judges the steps of draws: set draws, e.g. draws=[1,4,16]")
        if len({self.checkpoint, *self.beside}) <= len(self.beside):
            raise ConfigError(f"beside are surrogates other than {self.checkpoint}, each once, got {self.beside}")
        if not self.mean_qps or not all(2 <= qp <= MAX_QP for qp in self.mean_qps):
            raise ConfigError(f"mean_qps are QPs from 2 to 51, got {self.mean_qps}")


RATES = {
    "x264": ("cqp", "crf", "abr"),
    "jpeg": ("quality",),
    "x265": ("cqp", "crf"),
    "av1": ("quantizer",),
    "vp9": ("quantizer",),
}
"""How a codec can be told how much to keep; the first is the default."""

LEVELS: dict[str, tuple[float, ...]] = {
    "cqp": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 51),
    "crf": (10, 15, 18, 20, 23, 26, 29, 32, 36, 40, 45, 51),
    "abr": (50, 100, 200, 400, 800, 1600, 3200, 6400),
    "quantizer": (5, 15, 25, 35, 45, 50, 55, 60, 63),
    "quality": (1, 3, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99),
}
"""What is tried of a rate when no levels are given."""

_RANGES = {"cqp": (0, MAX_QP), "crf": (0, MAX_QP), "abr": (1, 10**6), "quality": (1, 99), "quantizer": (1, 63)}
_WHOLE = ("cqp", "quality", "quantizer")

FIRST_LEVELS: dict[str, float] = {"x264": 23, "x265": 28, "jpeg": 75, "av1": 35, "vp9": 35}
"""Of the first of two codecs, where none is given: what encoders do when nothing is said."""
_FIRST_RATES = {"x264": "crf", "x265": "crf", "jpeg": "quality", "av1": "quantizer", "vp9": "quantizer"}


@dataclass
class BenchmarkData:
    name: str = "folder"  # folder, or a data set in its official layout
    root: str = MISSING  # pictures, videos, or the folder of the data set
    frames: int = 8  # of a clip; still pictures are clips of one frame
    stride: int = 3  # every so many frames of a video
    size: tuple[int, int] | None = None  # pictures are scaled to it before they are coded; None: as they are
    max_clips: int | None = None  # spread over the data set
    clips_per_video: int | None = None  # or of each shot
    shots: bool = False  # look for cuts, so that no clip goes across one
    split: str = "val"  # of data=corpus: the side that is coded; keep test for tables that are published
    cache: str = "runs/cache"  # of rows, a folder or an address: what a sweep has measured, it does not measure again

    def __post_init__(self) -> None:
        at_least(self, frames=1, stride=1, max_clips=1, clips_per_video=1)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 16 or self.size[0] % 2 or self.size[1] % 2):
            raise ConfigError(f"data.size is [height,width], even and at least 16, got {list(self.size)}")


@dataclass
class JPEGConfig:
    optimised: bool = False  # Huffman tables made for the picture
    progressive: bool = False  # coarse to fine instead of baseline


_OF_A_SWEEP = frozenset(
    ("networks", "weights", "jpeg", "pixel_format", "example", "protocol", "rate", "levels", "audit_level", "lose_at_most")
    + ("skip_bad", "first_codec", "first_level", "engine", "workers")
)
"""Settings that a preset has no use for."""


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is NO_DEFAULT else item.default_factory()


@dataclass
class BenchmarkConfig(Run):
    data: BenchmarkData = field(default_factory=BenchmarkData)
    task: TaskConfig = field(default_factory=TaskConfig)
    preset: str | None = None  # "paper": many sweeps and one page, see configs/preset; it leaves the keys below alone
    networks: list[str] | None = None  # names as for task.model; None: task.model alone
    weights: dict[str, str] = field(default_factory=dict)  # path by network, where it is not the network's own
    jpeg: JPEGConfig = field(default_factory=JPEGConfig)
    first_codec: str | None = None  # codec=[x264,jpeg] says it: pictures are coded by it before they are coded by `codec`
    first_level: float | None = None  # of it: CRF (x264, x265), JPEG quality or quantizer; None: 23, 28, 75 or 35
    pixel_format: str = "yuv420p"  # or "paper": RGB pictures of any size, coded as 4:4:4 where the codec has it
    example: str | None = None  # by name or number (from 0): what is drawn; None: the middle one
    protocol: str = "none"  # or "paper": scale and crop before coding as the Perspective paper does for the task
    rate: str | None = None  # such as cqp (of x264 with the paper's settings), see RATES; None: the codec's first
    levels: list[float] | None = None  # QPs, CRFs, kbit/s or qualities; None: a spread over the whole range
    audit_level: float | None = None  # the level that you use, for the auditor's table; None: the middle one
    lose_at_most: float | None = None  # of the metric, relative to the uncoded pictures (optical flow: pixels); None: 0.02 (0.5)
    skip_bad: bool = False  # leave out pictures that cannot be read, and say how many
    engine: str = "processes"  # of this machine; ray: on the cluster of RAY_ADDRESS, or on one of its own here
    workers: int | None = 1  # processes or tasks of Ray, each with all networks; None: one per core; 1: this process
    bootstrap: int = 200  # resamples for an interval

    def __post_init__(self) -> None:
        at_least(self, bootstrap=0, seed=0, lose_at_most=0.0, workers=1)
        check_engine(self.engine)
        if self.preset is not None:
            self._check_preset()
        if self.protocol not in ("none", "paper"):
            raise ConfigError(f"protocol is none or paper, got {self.protocol!r}")
        self._check_pixel_format()
        self._check_first()
        words = self.words()
        if not words or not all(isinstance(word, str) for word in words) or len({_file_of(w) for w in words}) < len(words):
            raise ConfigError(f"networks are one or more different names, got {words}: leave it out for task.model alone")
        self._check_levels()

    def _check_pixel_format(self) -> None:
        if self.pixel_format not in ("yuv420p", "paper"):
            raise ConfigError(f"pixel_format is yuv420p or paper, got {self.pixel_format!r}")
        if self.pixel_format == "paper" and self.codec.name == "av1":
            raise ConfigError("SVT-AV1 codes 4:2:0 alone: take pixel_format=yuv420p for codec=av1")
        if self.pixel_format == "paper" and self.codec.name == "x264" and self.rate not in (None, "cqp"):
            raise ConfigError(f"pixel_format=paper is the paper's command, of a constant QP: leave rate={self.rate} out")
        if self.codec.name != "jpeg" and (self.jpeg.optimised or self.jpeg.progressive):
            raise ConfigError(f"jpeg.optimised and jpeg.progressive are options of codec=jpeg, not of {self.codec.name}")

    def _check_preset(self) -> None:
        """Refuse settings beside a preset of what it brings: they would be ignored."""
        if self.preset != "paper":
            raise ConfigError(f"there is no preset {self.preset!r}: choose preset=paper, or leave it out")
        set_too = [item.name for item in fields(self) if item.name in _OF_A_SWEEP and getattr(self, item.name) != _default(item)]
        if set_too:
            raise ConfigError(f"preset=paper brings its own networks, codecs and levels: leave out {', '.join(set_too)}")

    def words(self) -> list[str]:
        """Return the networks as they were given."""
        return [self.task.model] if self.networks is None else self.networks

    def _check_first(self) -> None:
        """Check what was coded before, if codec is a list."""
        if self.first_codec is None:
            if self.first_level is not None:
                raise ConfigError("first_level is of the first of two codecs: set codec=[x264,jpeg] or another pair")
            return
        if self.first_codec not in FIRST_LEVELS:
            raise ConfigError(f"there is no codec {self.first_codec!r}: choose one of {', '.join(FIRST_LEVELS)}")
        if self.pixel_format == "paper":
            raise ConfigError("pixel_format=paper codes RGB once: take pixel_format=yuv420p for codec=[..]")
        low, high = _RANGES[_FIRST_RATES[self.first_codec]]
        if self.first_level is not None and not low <= self.first_level <= high:
            raise ConfigError(f"first_level of {self.first_codec} goes from {low} to {high}, got {self.first_level:g}")

    def _check_levels(self) -> None:
        """All that is wrong with codec, rate and levels, before anything is loaded."""
        rates = RATES.get(self.codec.name)
        if rates is None:
            raise ConfigError(f"there is no codec {self.codec.name!r}: choose codec={'|'.join(RATES)}")
        if self.rate is not None and self.rate not in rates:
            raise ConfigError(f"{self.codec.name} has no rate {self.rate!r}: choose rate={'|'.join(rates)}")
        rate = self.rate or rates[0]
        levels = LEVELS[rate] if self.levels is None else self.levels
        if not levels or len(set(levels)) < len(levels):
            raise ConfigError(f"levels are one or more different numbers, got {levels}")
        low, high = _RANGES[rate]
        for level in levels:
            if not low <= level <= high:
                raise ConfigError(f"levels of rate={rate} go from {low} to {high}, got {level:g}")
            if rate in _WHOLE and level != int(level):
                raise ConfigError(f"levels of rate={rate} are whole numbers, got {level:g}")


def _file_of(network: str) -> str:
    """Return the same for two paths of one file."""
    return os.path.abspath(network) if network.lower().endswith(".onnx") else network
