"""Settings of evaluate.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from omegaconf import MISSING

from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP
from dvcc.settings.base import Run, TaskConfig, VideoRun, at_least


@dataclass
class EvaluateControlConfig(VideoRun):
    task: TaskConfig = field(default_factory=TaskConfig)
    checkpoint: str | None = None  # None: runs/control-TASK/control.safetensors, what train.py control writes
    others: list[str] = field(default_factory=list)  # further controls to compare, each as `learned NAME` by its file's name
    surrogate: str = "checkpoints/surrogate_anchored.safetensors"  # for the controller `search`
    controllers: list[str] = field(
        default_factory=lambda: ["abr1", "abr2", "abr2_corrected", "crf", "cqp", "learned", "learned_corrected"]
    )
    targets_kbps: list[float] | None = None  # None: found by a sweep of the baseline, `num_targets` of them
    num_targets: int = 5
    stability: float = 0.9  # least agreement of the network with itself under +-1 noise
    bootstrap: int = 200

    def __post_init__(self) -> None:
        at_least(self, num_targets=2, bootstrap=0, seed=0)
        if self.seed >= 2**32:
            raise ConfigError(f"seed is below 2**32, got {self.seed}")
        if self.targets_kbps is not None and not (self.targets_kbps and all(0 < t < math.inf for t in self.targets_kbps)):
            raise ConfigError(f"targets_kbps are positive kbit/s, got {self.targets_kbps}")


@dataclass
class EvaluateSurrogateConfig(VideoRun):
    task: TaskConfig = field(default_factory=TaskConfig)  # whose loss rho^2 and the descent test are about
    checkpoint: str = "runs/surrogate/surrogate.safetensors"
    mean_qps: list[int] = field(default_factory=lambda: [20, 28, 36, 44])
    maps: int = 16  # per clip and mean QP
    pictured_maps: int = 5  # of these, those whose frames are compared
    bootstrap: int = 1000

    def __post_init__(self) -> None:
        at_least(self, maps=3, pictured_maps=2, bootstrap=0, seed=0)
        if not self.mean_qps or not all(2 <= qp <= MAX_QP for qp in self.mean_qps):
            raise ConfigError(f"mean_qps are QPs from 2 to 51, got {self.mean_qps}")


@dataclass
class BenchmarkData:
    name: str = "folder"  # or a data set in its official layout, see dvcc/data/datasets
    root: str = MISSING
    frames: int = 8  # of a clip; still pictures are clips of one frame
    stride: int = 3
    size: tuple[int, int] | None = None  # pictures are scaled to it before they are coded; None: as they are
    max_clips: int | None = None  # spread over the data set
    clips_per_video: int | None = None  # or of each shot
    shots: bool = False  # look for cuts, so that no clip goes across one
    cache: str = "runs/cache"  # of rows: what a sweep has measured, it does not measure again

    def __post_init__(self) -> None:
        at_least(self, frames=1, stride=1, max_clips=1, clips_per_video=1)
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 16 or self.size[0] % 2 or self.size[1] % 2):
            raise ConfigError(f"data.size is [height,width], even and at least 16, got {list(self.size)}")


@dataclass
class BenchmarkConfig(Run):
    data: BenchmarkData = field(default_factory=BenchmarkData)
    task: TaskConfig = field(default_factory=TaskConfig)
    networks: list[str] = field(default_factory=list)  # names as for task.model; empty: task.model alone
    weights: dict[str, str] = field(default_factory=dict)  # path by network, where it is not the network's own
    protocol: str = "none"  # or "paper": scale and crop before coding as the Perspective paper does for the task
    rate: str | None = None  # x264: cqp (the paper's settings), crf or abr; jpeg: quality. None: the first
    levels: list[float] | None = None  # QPs, CRFs, kbit/s or qualities; None: a spread over the whole range
    at: float | None = None  # the level that you use, for the auditor's table; None: about the middle
    lose_at_most: float | None = None  # of the metric, relative to the uncoded pictures (optical flow: pixels); None: 0.02 (0.5)
    skip_bad: bool = False  # leave out pictures that cannot be read, and say how many
    bootstrap: int = 200

    def __post_init__(self) -> None:
        at_least(self, bootstrap=0, seed=0, lose_at_most=0.0)
        if self.protocol not in ("none", "paper"):
            raise ConfigError(f"protocol is none or paper, got {self.protocol!r}")
        if self.levels is not None and (not self.levels or len(set(self.levels)) < len(self.levels)):
            raise ConfigError(f"levels are one or more different numbers, got {self.levels}")
