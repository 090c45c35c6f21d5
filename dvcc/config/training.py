"""Settings of train.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from dvcc.config.base import TaskConfig, VideoRun, at_least, check_size
from dvcc.engines import check_engine
from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP


@dataclass
class LoggerConfig:
    name: str = "csv"  # csv: metrics.csv in the run's folder; wandb: Weights & Biases
    project: str = "dvcc"  # name of the project at Weights & Biases
    every_n_steps: int = 5  # steps between two lines of the log
    pictures_every: int = 100  # steps between sample pictures

    def __post_init__(self) -> None:
        if self.name not in ("csv", "wandb"):
            raise ConfigError(f"there is no logger {self.name!r}: choose csv or wandb")
        at_least(self, every_n_steps=1, pictures_every=1)


@dataclass
class TrainerConfig:
    max_steps: int = 2000  # length of the training
    accelerator: str = "auto"  # Lightning's: auto, cpu or gpu
    devices: Any = "auto"  # Lightning's: how many, or a list of numbers
    num_nodes: int = 1  # Lightning's: machines
    strategy: str = "auto"  # Lightning's: auto, or ddp for several devices
    precision: str = "32-true"  # Lightning's: 32-true, or bf16-mixed on a GPU
    gradient_clip_val: float | None = None  # largest norm of the gradient
    checkpoint_every: int = 200  # steps from one last.ckpt to the next

    def __post_init__(self) -> None:
        at_least(self, max_steps=1, num_nodes=1, checkpoint_every=1)


@dataclass
class SurrogateModel:
    name: str = "anchored"  # anchored composes the clip's ladder; network and structured predict everything
    width: int | None = None  # channels of its layers; None: 48, of structured 24
    flow: str = "ours"  # what aligns frames: ours, raft_small or raft_large
    flow_weights: str | None = None  # file for it; None: its own

    def __post_init__(self) -> None:
        at_least(self, width=1)


@dataclass
class LossWeights:
    """Weights of the surrogate's losses; 0 switches one off."""

    l1: float = 10.0  # weight of |predicted - coded| of frames
    ssim: float = 1.0  # of 1 - SSIM
    frequency: float = 1.0  # of the spectrum's difference, fine detail counted more
    candidates: float = 30.0  # expected L1 over the two rungs that a macroblock is drawn from (anchored)
    error: float = 0.3  # of |log error| of a macroblock's coding error: how good it looks (anchored)
    frame_bits: float = 0.3  # of |log bits error| of every frame
    clip_bits: float = 1.0  # and of the clip
    cv_bits: float = 0.1  # L_cv of the clip's log bits
    cv_task: float = 0.0  # L_cv of the task loss: the task judges every real encode once, seconds per clip on a CPU
    frames: int = 4  # frames of a clip that the losses look at, drawn at every step
    cv_frames: int = 2  # in a row, that the task is asked about (network; anchored takes all)

    def __post_init__(self) -> None:
        counts = ("frames", "cv_frames")
        at_least(self, **{name: int(name in counts) for name in self.__dataclass_fields__})
        if not any(getattr(self, name) for name in self.__dataclass_fields__ if name not in counts):
            raise ConfigError("losses.* are all 0, so there is nothing to learn: give one of them a weight above 0")


@dataclass
class ControlModel:
    width: int = 32  # channels of its layers; 0: none, it weighs the planes of analysis=true and does not look at the picture
    max_delta_qp: float = 12.0  # QPs that an offset is at most
    rule: bool = False  # its offsets are added to those of the published rule of objects, which eyes.name=nanodet_plus_m sees
    blur_sigma: float = 1.5  # macroblocks, standard deviation of the Gaussian that smooths the offsets; 0 is none
    analysis: bool = False  # it sees what the task's network has lost in an analysis encode; a deployed control codes twice
    averaged: bool = True  # offsets are the mean over the GOP so far; false: each frame's own, for what moves within a GOP

    def __post_init__(self) -> None:
        at_least(self, width=0, max_delta_qp=0.0, blur_sigma=0)
        if self.width == 0 and not self.analysis:
            raise ConfigError("control.width=0 looks at no picture, so it needs planes to weigh: set control.analysis=true")


@dataclass
class TeacherConfig:
    surrogate: float = 1.0  # weight of the loss through the surrogate
    ladder: float = 0.0  # weight of the squared difference, in QPs, to the descent on each clip's own judged ladder
    boxes: float = 0.0  # the same to the rule with the boxes of detectors (task=detection); alone, nothing is encoded
    detectors: list[str] = field(default_factory=list)  # names or ONNX files of those detectors; empty: the task's own

    def __post_init__(self) -> None:
        at_least(self, surrogate=0, ladder=0, boxes=0)
        if self.detectors and not self.boxes:
            raise ConfigError(f"teacher.detectors={self.detectors} have no weight: set teacher.boxes above 0")
        if not (self.surrogate or self.ladder or self.boxes):
            raise ConfigError(
                "teacher.surrogate, teacher.ladder and teacher.boxes are all 0, so there is nothing to learn: give one a weight"
            )


@dataclass
class EyesConfig:
    name: str = "none"  # or nanodet_plus_m, efficientvit_b0: a pretrained network that looks at the picture first
    features: str | None = None  # of nanodet_plus_m: neck, backbone or none (its answers alone); None: the first that it has
    every: int = 8  # frames from one look to the next in a deployed control; a training looks at every frame

    def __post_init__(self) -> None:
        at_least(self, every=1)


@dataclass
class _TrainingRun(VideoRun):
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    learning_rate: float = 1e-3  # at the first step; a cosine takes it to 0 over trainer.max_steps
    resume: bool = False  # go on from out/last.ckpt
    overwrite: bool = False  # remove the run that is in out
    cache_only: bool = False  # fill data.cache with what the run needs, and train nothing
    engine: str = "processes"  # that fill data.cache; ray: on the cluster of RAY_ADDRESS, or on one of its own here

    def __post_init__(self) -> None:
        at_least(self, learning_rate=0.0, seed=0)
        check_engine(self.engine)
        if self.learning_rate > 10 or self.seed >= 2**32:
            raise ConfigError(f"learning_rate is at most 10 and seed below 2**32, got {self.learning_rate:g} and {self.seed}")


@dataclass
class SurrogateConfig(_TrainingRun):
    surrogate: SurrogateModel = field(default_factory=SurrogateModel)
    losses: LossWeights = field(default_factory=LossWeights)
    task: TaskConfig = field(default_factory=TaskConfig)  # asked only for losses.cv_task
    start: str | None = None  # weights of the same kind of surrogate to begin with
    more_sizes: list[list[int]] = field(default_factory=list)  # as data.size: the same videos are learned from at these, too
    mean_qps: tuple[int, int] | None = None  # the least and the largest mean QP of a group of maps; None: 18 and 46

    def __post_init__(self) -> None:
        super().__post_init__()
        for size in self.more_sizes:
            check_size("each of more_sizes", size)
        if self.more_sizes and self.data.batch_size > 1:
            raise ConfigError(f"clips of more_sizes cannot be in one step: set data.batch_size=1, got {self.data.batch_size}")
        low, high = self.mean_qps or (2, MAX_QP)
        if not 2 <= low <= high <= MAX_QP:
            raise ConfigError(f"mean_qps=[least,largest] are rising QPs from 2 to {MAX_QP}, got {[low, high]}")


@dataclass
class ControlConfig(_TrainingRun):
    task: TaskConfig = field(default_factory=TaskConfig)
    surrogate: str = "runs/surrogate/surrogate.safetensors"  # what gradients pass through
    ladder: str | None = None  # a surrogate that predicts the ladder which it reads; None: the ladder is encoded
    control: ControlModel = field(default_factory=ControlModel)
    eyes: EyesConfig = field(default_factory=EyesConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    rates_per_clip: int = 4  # of x264's own, drawn at random for every clip in a step
    start: str | None = None  # a control.safetensors of the same control.* to go on from

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, rates_per_clip=1)


@dataclass
class StudentTask:
    name: str = "segmentation"  # segmentation or detection
    model: str = "student"  # what is trained

    def __post_init__(self) -> None:
        if self.name not in ("segmentation", "detection"):
            raise ConfigError(f"train.py student has no task={self.name}: choose segmentation or detection")
        if self.model != "student":
            raise ConfigError(
                f"train.py student trains task.model=student, got {self.model!r}: name a teacher's file by teacher=PATH"
            )


@dataclass
class StudentData:
    root: str = MISSING  # folder of videos
    test: list[str] = field(default_factory=lambda: ["bikes.mp4"])  # one video, measured on and never trained on
    weights: dict[str, float] = field(default_factory=dict)  # how often a video is drawn, by file stem; 1 unless given
    coded: float = 1 / 3  # share of the pictures that are really coded, at a random QP or quality
    codecs: list[str] = field(default_factory=lambda: ["x264"])  # by what, each equally often: x264, jpeg
    robust: bool = False  # of coded pictures the teacher sees the uncoded ones: the student learns to look past coding

    def __post_init__(self) -> None:
        if not 0 <= self.coded <= 1:
            raise ConfigError(f"data.coded is a share from 0 to 1, got {self.coded:g}")
        if not self.codecs or len(set(self.codecs)) < len(self.codecs) or not set(self.codecs) <= {"x264", "jpeg"}:
            raise ConfigError(f"data.codecs are x264, jpeg or both, got {list(self.codecs)}")
        if self.robust and not self.coded:
            raise ConfigError("data.robust=true is about coded pictures: set data.coded above 0")


@dataclass
class StudentConfig:
    task: StudentTask = field(default_factory=StudentTask)
    data: StudentData = field(default_factory=StudentData)
    teacher: str | None = None  # ESPNetv2 s=2.0 or FastestDet; None: as the zoo finds it
    steps: int = 4000  # length of the training
    views: int = 3200  # pictures that the teacher labels
    batch_size: int = 8  # pictures in a step
    report_every: int = 250  # steps from one measurement to the next
    seed: int = 0  # of everything random
    out: str = "runs/student"  # folder to write to

    def __post_init__(self) -> None:
        at_least(self, steps=1, views=1, batch_size=1, report_every=1, seed=0)


@dataclass
class FlowData:
    root: str = MISSING  # folder of videos
    test: list[str] = field(default_factory=lambda: ["bikes.mp4"])  # never trained on
    validation: str = "bikes.mp4"  # one of these, to watch the run by


@dataclass
class FlowConfig:
    data: FlowData = field(default_factory=FlowData)
    start: str | None = None  # weights to go on from
    steps: int = 7200  # length of the training
    warm_up: int = 2000  # steps on exact flow alone: photometric losses mislead an untrained network
    learning_rate: float = 8e-4  # at its highest
    batch_size: int = 8  # pairs in a step, a multiple of 4
    size: tuple[int, int] = (192, 256)  # height and width of the pairs, multiples of 32
    synthetic_clips: int = 1200  # clips with exact flow that are made
    runs_per_video: int = 60  # runs of frames that are cut from every video
    report_every: int = 250  # steps from one measurement to the next
    photometric_weight: float = 10.0  # weight of the photometric loss on real pairs
    roughness_weight: float = 0.1  # weight of the flow's roughness
    bfloat16: bool = True  # compute in bfloat16
    seed: int = 0  # of everything random
    out: str = "runs/flow"  # folder to write to

    def __post_init__(self) -> None:
        at_least(self, steps=1, warm_up=0, learning_rate=0.0, batch_size=4, synthetic_clips=2, runs_per_video=1)
        at_least(self, report_every=1, photometric_weight=0, roughness_weight=0, seed=0)
        if len(self.size) != 2 or any(side % 32 or side < 32 for side in self.size) or self.batch_size % 4:
            raise ConfigError(
                f"size is [height,width] and batch_size, multiples of 32 and of 4, got {list(self.size)}, {self.batch_size}"
            )
