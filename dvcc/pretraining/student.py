"""Distil a teacher into a student: the teacher labels views of real videos.

The teacher is an oracle for any picture, so augmentation happens before it is asked: zoomed, recoloured, blurred, pasted and
really coded views are each labelled as they are, and the student learns the teacher's *reaction* to them. What a student
imitates, and how, is its task's (`dvcc.pretraining.distillation`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dvcc._files import write_atomic
from dvcc.config import StudentConfig
from dvcc.datasets.splits import split_videos
from dvcc.errors import ConfigError
from dvcc.pretraining.distillation import DISTILLATIONS, Distillation
from dvcc.pretraining.distillation.base import Loss
from dvcc.pretraining.student_views import AS_THE_TEACHER, Coding, EqualSizeBatches, LabelledViews, read_frames, read_runs
from dvcc.training.run import quiet_lightning

HELD_OUT_SIZES = ((224, 512), (256, 640))
"""Height and width at which the held-out video is measured."""

EMA_DECAY = 0.998
"""The average reaches back about 500 steps, at first a ninth of the steps so far: short against the run, long against the noise
of a batch."""


@torch.no_grad()
def _average(averaged: Any, current: Any, steps: Tensor | int) -> None:
    """Move the averaged tensors towards the current ones."""
    decay = min(EMA_DECAY, (1 + int(steps)) / (10 + int(steps)))
    get_ema_multi_avg_fn(decay)(averaged, current, steps)


class StudentModule(L.LightningModule):
    """Training of a student, whose `trunk` starts trained.

    `averaged` is the exponential moving average of `student`, the network to keep.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        trunk: nn.Module,
        loss: Loss,
        steps: int,
        trunk_rate: float,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__()
        self.student = student
        self.averaged = AveragedModel(student, multi_avg_fn=_average, use_buffers=True)
        self._loss = loss
        self._trunk = list(trunk.requires_grad_(trunk_rate > 0).parameters())
        self._rates = [trunk_rate * learning_rate, learning_rate]
        self.steps = steps
        self.weight_decay = weight_decay

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """One step on views uint8 (N, 3, H, W) and the teacher's answers."""
        terms = self._loss(self.student, *batch)
        self.log_dict(terms)
        return terms["loss"]

    def on_train_batch_end(self, *_: object) -> None:
        self.averaged.update_parameters(self.student)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        rest = [weight for weight in self.student.parameters() if not any(weight is shared for shared in self._trunk)]
        groups = [{"params": self._trunk}, {"params": rest}]
        optimizer = torch.optim.AdamW(groups, lr=self._rates[1], weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self._rates, total_steps=self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Progress(L.Callback):
    """Every `every` steps: print the losses and the held-out agreement, and save the averaged student."""

    def __init__(self, distillation: Distillation, frames: Tensor, *, every: int, out: Path) -> None:
        self.distillation = distillation
        self.frames = frames
        self.every = every
        self.out = out
        self.start = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        if trainer.global_step % self.every:
            return
        student = module.averaged.module.eval()
        terms = " ".join(f"{name} {float(value):.4f}" for name, value in trainer.logged_metrics.items())
        held_out = self.distillation.agreement(student, self.frames)
        seconds = time.monotonic() - self.start
        print(f"step {trainer.global_step} {seconds:.0f} s {terms} held_out {held_out:.4f}", flush=True)
        self.distillation.save(student, self.out)


def train_student(
    distillation: Distillation,
    *,
    videos: list[Path],
    held_out: Path,
    steps: int,
    seed: int,
    out: Path,
    views: int = 6000,
    video_weights: Mapping[str, float] | None = None,
    coding: Coding = AS_THE_TEACHER,
    batch_size: int = 8,
    report_every: int = 250,
) -> dict[str, object]:
    """Train a student on `videos`, save the averaged weights to `out` (safetensors), return the figures.

    `video_weights` (by file stem, default 1) say how often a video is drawn; `held_out` is only measured on.
    """
    if held_out.resolve() in {video.resolve() for video in videos}:
        raise ValueError(f"{held_out} is held out and among the training videos; remove it from `videos`")
    L.seed_everything(seed, verbose=False)
    runs = [read_runs(video, count=100) for video in videos]
    chances = torch.tensor([(video_weights or {}).get(video.stem, 1.0) for video in videos])
    dataset = LabelledViews(distillation, runs, chances=chances, count=views, coding=coding)
    return fit_student(
        distillation, dataset, held_out=held_out, steps=steps, out=out, batch_size=batch_size, report_every=report_every
    )


def fit_student(
    distillation: Distillation,
    dataset: LabelledViews,
    *,
    held_out: Path,
    steps: int,
    out: Path,
    batch_size: int = 8,
    report_every: int = 250,
) -> dict[str, object]:
    """Return the training half of `train_student`, on views that are labelled already."""
    # Denormal numbers change nothing and make convolutions slow; an untrained network is full of them.
    torch.set_flush_denormal(True)
    quiet_lightning()
    start = time.monotonic()
    loader = DataLoader(dataset, batch_sampler=EqualSizeBatches(dataset.groups, batch_size=batch_size))
    student = distillation.new_student()
    module = StudentModule(
        student=student,
        trunk=distillation.trunk(student),
        loss=distillation.loss(dataset.labels),
        steps=steps,
        trunk_rate=distillation.trunk_rate,
    )
    height, width = HELD_OUT_SIZES[0]
    probe = read_frames(held_out, height=height, width=width)[::12]
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        gradient_clip_val=5.0,
        callbacks=[_Progress(distillation, probe, every=report_every, out=out)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)

    best = module.averaged.module.eval()
    distillation.save(best, out)
    figures: dict[str, object] = {
        "parameters": sum(parameter.numel() for parameter in best.parameters()),
        "bytes": out.stat().st_size,
        "training_seconds": time.monotonic() - start,
    }
    for height, width in HELD_OUT_SIZES:
        figures[f"{width}x{height}"] = distillation.figures(best, read_frames(held_out, height=height, width=width))
    return figures


def run(config: StudentConfig) -> Path:
    """`train.py student`: distil the task's teacher on all videos of `data.root` but the held-out one, and write the card.

    Raises `ConfigError` unless `data.test` names one video, `CheckpointError` for a teacher of another kind.
    """
    videos, held_out = split_videos(config.data.root, test=config.data.test)
    if len(held_out) != 1 or not videos:
        raise ConfigError(f"data.test names the one video to measure on, out of several in data.root; got {config.data.test}")
    path = Path(config.out) / f"{config.task.name}_student.safetensors"
    figures = train_student(
        DISTILLATIONS[config.task.name](teacher_weights=config.teacher),
        videos=videos,
        held_out=held_out[0],
        steps=config.steps,
        seed=config.seed,
        out=path,
        views=config.views,
        video_weights=config.data.weights,
        coding=Coding(config.data.coded, tuple(config.data.codecs), config.data.robust),
        batch_size=config.batch_size,
        report_every=config.report_every,
    )
    write_atomic(path.with_suffix(".json"), json.dumps(figures, indent=1))
    return path
