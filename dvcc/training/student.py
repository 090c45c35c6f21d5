"""Distil a segmentation teacher into `StudentSegmenter`: the teacher labels views of real videos.

The teacher is an oracle for any picture, so augmentation happens before it is asked: zoomed, recoloured,
blurred, pasted and really coded views are each labelled as they are, and the student learns the teacher's
*reaction* to them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassConfusionMatrix

from dvcc._files import write_atomic
from dvcc.data.module import split_videos
from dvcc.errors import ConfigError
from dvcc.settings import StudentConfig
from dvcc.tasks.nets import ESPNetv2, StudentSegmenter
from dvcc.training.run import quiet_lightning
from dvcc.training.student_views import EqualSizeBatches, LabelledViews, normalise, read_frames, read_runs
from dvcc.weights import Weights, load_published, load_state, save_weights
from dvcc.zoo import ZOO

NUM_CLASSES = 20
"""The 19 Cityscapes train ids, then background."""

HELD_OUT_SIZES = ((224, 512), (256, 640))
"""Height and width at which the held-out video is measured."""

EMA_DECAY = 0.998
"""The average reaches back about 500 steps: short against the run, long against the noise of a batch."""


class StudentModule(L.LightningModule):
    """Training of a student: KL to the teacher's soft labels, plus balanced cross-entropy on its arg-max.

    `averaged` is the exponential moving average of `student`, the network to keep.
    """

    class_weights: Tensor

    def __init__(
        self,
        *,
        student: StudentSegmenter,
        class_weights: Tensor,
        steps: int,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        hard_label_weight: float = 0.2,
    ) -> None:
        super().__init__()
        self.student = student
        self.averaged = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True)
        self.register_buffer("class_weights", class_weights)
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.hard_label_weight = hard_label_weight

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """One step on images uint8 (N, 3, H, W) and teacher logits (N, classes, H/4, W/4)."""
        images, teacher_logits = batch
        inputs = normalise(images).contiguous(memory_format=torch.channels_last)
        logits = self.student.quarter_logits(inputs).float()
        teacher_logits = teacher_logits.float()
        log_probabilities = logits.log_softmax(1)
        teacher_log_probabilities = teacher_logits.log_softmax(1)
        difference = teacher_log_probabilities - log_probabilities
        divergence = (teacher_log_probabilities.exp() * difference).sum(1).mean()
        labels = teacher_logits.argmax(1)
        hard = F.nll_loss(log_probabilities, labels, weight=self.class_weights)
        loss = divergence + self.hard_label_weight * hard
        agreeing = (logits.argmax(1) == labels).float().mean()
        self.log_dict({"loss": loss, "kl": divergence, "balanced_ce": hard, "train_agreement": agreeing})
        return loss

    def on_train_batch_end(self, *_: object) -> None:
        self.averaged.update_parameters(self.student)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        # The encoder starts trained, the decoder does not.
        encoder = list(self.student.encoder.parameters())
        decoder = [weight for weight in self.student.parameters() if not any(weight is one for one in encoder)]
        rates = [self.learning_rate / 2, self.learning_rate]
        groups = [{"params": encoder}, {"params": decoder}]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rates, total_steps=self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Progress(L.Callback):
    """Every `every` steps: print the losses and the held-out agreement, and save the averaged student."""

    def __init__(self, teacher: nn.Module, frames: Tensor, *, every: int, out: Path) -> None:
        self.teacher = teacher
        self.frames = frames
        self.every = every
        self.out = out
        self.start = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        if trainer.global_step % self.every:
            return
        student = module.averaged.module.eval()
        terms = " ".join(f"{name} {float(value):.4f}" for name, value in trainer.logged_metrics.items())
        held_out = agreement(student, self.teacher, self.frames)
        seconds = time.monotonic() - self.start
        print(f"step {trainer.global_step} {seconds:.0f} s {terms} held_out {held_out:.4f}", flush=True)
        save_student(student, self.out)


@torch.inference_mode()
def confusion(student: nn.Module, teacher: nn.Module, frames: Tensor) -> Tensor:
    """Pixel counts (classes, classes), teacher's class by student's, over uint8 RGB frames (N, 3, H, W)."""
    matrix = MulticlassConfusionMatrix(NUM_CLASSES, validate_args=False)
    for chunk in frames.split(4):
        inputs = normalise(chunk)
        matrix.update(student(inputs).argmax(1), teacher(inputs).argmax(1))
    return matrix.compute()


def agreement(student: nn.Module, teacher: nn.Module, frames: Tensor) -> float:
    """Share of the pixels of uint8 RGB frames (N, 3, H, W) with the same arg-max class, in [0, 1]."""
    counts = confusion(student, teacher, frames)
    return float(counts.diagonal().sum() / counts.sum())


def train_student(
    *,
    videos: list[Path],
    held_out: Path,
    teacher_weights: Path,
    steps: int,
    seed: int,
    out: Path,
    views: int = 6000,
    video_weights: Mapping[str, float] | None = None,
    batch_size: int = 8,
    report_every: int = 250,
) -> dict[str, object]:
    """Train a student on `videos`, save the averaged weights to `out` (safetensors), return the figures.

    `video_weights` (by file stem, default 1) say how often a video is drawn; `held_out` is only measured on.
    """
    if held_out.resolve() in {video.resolve() for video in videos}:
        raise ValueError(f"{held_out} is held out and among the training videos; remove it from `videos`")
    L.seed_everything(seed, verbose=False)
    teacher = ESPNetv2(num_classes=NUM_CLASSES)
    load_state(teacher, load_published(teacher_weights, key="teacher"), path=teacher_weights)
    teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    runs = [read_runs(video, count=100) for video in videos]
    chances = torch.tensor([(video_weights or {}).get(video.stem, 1.0) for video in videos])
    return fit_student(
        LabelledViews(teacher, runs, chances=chances, count=views),
        teacher=teacher,
        held_out=held_out,
        steps=steps,
        out=out,
        batch_size=batch_size,
        report_every=report_every,
    )


def fit_student(
    dataset: LabelledViews,
    *,
    teacher: ESPNetv2,
    held_out: Path,
    steps: int,
    out: Path,
    batch_size: int = 8,
    report_every: int = 250,
) -> dict[str, object]:
    """The training half of `train_student`, on views that are labelled already."""
    # Denormal numbers change nothing and make convolutions slow; an untrained network is full of them.
    torch.set_flush_denormal(True)
    quiet_lightning()
    start = time.monotonic()
    loader = DataLoader(dataset, batch_sampler=EqualSizeBatches(dataset.groups, batch_size=batch_size))
    student = StudentSegmenter().to(memory_format=torch.channels_last)
    student.start_from(teacher)
    module = StudentModule(student=student, class_weights=dataset.class_weights(), steps=steps)
    height, width = HELD_OUT_SIZES[0]
    probe = read_frames(held_out, height=height, width=width)[::12]
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        gradient_clip_val=5.0,
        callbacks=[_Progress(teacher, probe, every=report_every, out=out)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)

    best = module.averaged.module.eval()
    save_student(best, out)
    figures: dict[str, object] = {
        "parameters": sum(parameter.numel() for parameter in best.parameters()),
        "bytes": out.stat().st_size,
        "training_seconds": time.monotonic() - start,
    }
    for height, width in HELD_OUT_SIZES:
        figures[f"{width}x{height}"] = imitation(best, teacher, read_frames(held_out, height=height, width=width))
    return figures


def imitation(student: nn.Module, teacher: nn.Module, frames: Tensor) -> dict[str, object]:
    """Pixel agreement, and per class the IoU and the share of the teacher's pixels (0..1 each)."""
    counts = confusion(student, teacher, frames)
    same = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - same
    return {
        "agreement": float(same.sum() / counts.sum()),
        "class_iou": (same / union.clamp_min(1)).tolist(),
        "class_share": (counts.sum(1) / counts.sum()).tolist(),
    }


def save_student(student: nn.Module, path: Path) -> None:
    """Write the weights as `task.model=student` loads them."""
    save_weights(path, Weights("student", {"num_classes": NUM_CLASSES}, dict(student.state_dict())))


def run(config: StudentConfig) -> Path:
    """`train.py student`: distil ESPNetv2 s=2.0 on all videos of `data.root` but the held-out one, and write the card.

    Raises `ConfigError` unless `data.test` names one video, `CheckpointError` for a teacher that is not ESPNetv2 s=2.0.
    """
    videos, held_out = split_videos(config.data.root, test=config.data.test)
    if len(held_out) != 1 or not videos:
        raise ConfigError(f"data.test names the one video to measure on, out of several in data.root; got {config.data.test}")
    teacher = Path(config.teacher or ZOO["espnetv2"].weights.path)
    path = Path(config.out) / "segmentation_student.safetensors"
    figures = train_student(
        videos=videos,
        held_out=held_out[0],
        teacher_weights=teacher,
        steps=config.steps,
        seed=config.seed,
        out=path,
        views=config.views,
        video_weights=config.data.weights,
        batch_size=config.batch_size,
        report_every=config.report_every,
    )
    write_atomic(path.with_suffix(".json"), json.dumps(figures, indent=1))
    return path
