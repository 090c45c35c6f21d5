"""Stage 2: the control network learns through the surrogate, on the Lagrangian of task and rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from dvcc import units
from dvcc.config import to_dict
from dvcc.control import ControlNetwork, DualAscent, lagrangian, sample_qp
from dvcc.data.module import LadderSamples, Sample
from dvcc.errors import ConfigError
from dvcc.settings import ControlConfig
from dvcc.surrogates import Surrogate, load_surrogate
from dvcc.surrogates.judged import imitated_loss, judge_ladder
from dvcc.tasks import build_task
from dvcc.tasks.base import Task, as_float
from dvcc.training.run import (
    build_codec,
    build_samples,
    check_finite,
    check_finite_gradients,
    check_surrogate,
    fit,
    seed_step,
    trained_on,
    versions,
)
from dvcc.training.surrogate import adam_with_cosine
from dvcc.training.visuals import ControlPictures

_TARGET_QPS = (22, 46)
"""A training target lies between what the clip costs at these QPs: within reach, over the range where tasks move."""

_BAND_BOUNDS = (math.log(0.02), math.log(0.05), math.log(0.12))
"""Log bits per pixel between the bands that have a Lagrange multiplier of their own."""


class ControlModule(L.LightningModule):
    """Trains a `ControlNetwork` for a `Task` through a frozen `Surrogate`; logs every term of the Lagrangian."""

    def __init__(self, control: ControlNetwork, surrogate: Surrogate, task: Task, config: ControlConfig) -> None:
        super().__init__()
        self.control, self.surrogate, self.task, self.config = control, surrogate, task, config
        self.dual = DualAscent(bounds=_BAND_BOUNDS, start=config.objective.multiplier, step=config.objective.dual_step)
        self.surrogate.requires_grad_(False)
        self._analyses: dict[int, Any] = {}  # of every clip seen, its ladder judged; nothing in it changes during training

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Noise depends on (seed, step) alone, so that a resumed run draws the same."""
        seed_step(self.config.seed, self.global_step, rank=self.global_rank)

    def training_step(self, batch: Sample, batch_idx: int) -> torch.Tensor:
        """Every clip at `objective.targets` random targets."""
        settings = self.config.objective
        n = settings.targets
        frames = as_float(batch["frames"]).repeat_interleave(n, 0)
        log_target = draw_log_target(batch["ladder_bits"].repeat_interleave(n, 0), self.config.data.rungs)
        log_bpp = log_target + log_bits_to_bits_per_pixel(frames[0])

        logits = self.control(frames, log_bpp)
        qp = sample_qp(logits, temperature=settings.temperature)
        task_loss, log_bits = (self._off_the_ladder if settings.judge == "ladder" else self._of_the_frames)(batch, qp)
        terms = lagrangian(
            task_loss,
            log_bits,
            log_target,
            multiplier=self.dual(log_bpp),
            deviation_weight=settings.deviation_weight,
            margin=settings.margin,
        )
        check_finite(terms.total, step=self.global_step, terms={"task": terms.task, "log_bits_excess": terms.excess})
        # All processes of a distributed run ascend alike.
        everyone = self.all_gather(torch.stack([log_bpp, terms.excess.detach()], -1))
        self.dual.ascend(*torch.as_tensor(everyone).reshape(-1, 2).T)

        level = (qp.detach() * torch.arange(qp.shape[-1], device=qp.device)).sum(-1)
        self.log_dict(
            {
                "loss": terms.total.mean(),
                "lagrange_multiplier": terms.multiplier.mean(),
                "mean_qp": level.mean(),
                "qp_deviation_in_frame": level.std((2, 3), unbiased=False).mean(),
                "target_bits_per_pixel": log_bpp.exp().mean(),
            }
        )
        self.log_dict({"task": terms.task.mean(), "log_bits_excess": terms.excess.mean()}, prog_bar=True)
        return terms.total.mean()

    def _off_the_ladder(self, batch: Sample, qp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Task loss and log bits (M,) of QPs (M, T, h, w, 52), the maps of one clip adjacent. Every clip is judged and analysed
        once; after that, a step knows macroblocks only."""
        predictions = []
        for i, part in enumerate(qp.split(len(qp) // len(batch["clip"]))):
            clip = int(batch["clip"][i])
            if clip not in self._analyses:
                one = {name: value[i : i + 1] for name, value in batch.items()}
                with torch.no_grad():
                    analysis = self.surrogate.analyse({**one, "ladder_damage": judge_ladder(self.task, one)})
                self._analyses[clip] = self.surrogate.without_pixels(analysis)
            predictions.append(self.surrogate.predict(self._analyses[clip], part, shown=[]))
        return (
            torch.cat([imitated_loss(self.task, predicted, None) for predicted in predictions]),
            torch.cat([predicted.log_clip_bits for predicted in predictions]),
        )

    def _of_the_frames(self, batch: Sample, qp: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, of the predicted frames, judged by the task network."""
        predicted = self.surrogate(batch, qp)
        with torch.no_grad():
            reference = self.task.predict(as_float(batch["frames"]))
        reference = reference.repeat_interleave(len(qp) // len(reference), 0)
        return imitated_loss(self.task, predicted, reference), predicted.log_clip_bits

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A finite loss can have a gradient that is not."""
        check_finite_gradients(self.control, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with a cosine schedule over the run."""
        return adam_with_cosine(self.control, self.config.learning_rate, self.config.trainer.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The surrogate and the task network do not change: they are not stored again."""
        for name in list(checkpoint["state_dict"]):
            if name.startswith(("surrogate.", "task.")):
                del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the frozen ones back, as they stand."""
        own = self.state_dict()
        checkpoint["state_dict"].update({k: v for k, v in own.items() if k.startswith(("surrogate.", "task."))})


def draw_log_target(ladder_bits: torch.Tensor, rungs: list[int]) -> torch.Tensor:
    """(B,): log bits of the clip, uniform between the rungs nearest to the ends of the range. ladder_bits: (B, R, T)."""
    clip_bits = torch.log(ladder_bits.sum(-1))
    fine, coarse = (min(range(len(rungs)), key=lambda k: abs(rungs[k] - qp)) for qp in _TARGET_QPS)
    position = torch.rand(len(clip_bits)).to(clip_bits.device)
    return clip_bits[:, coarse] + position * (clip_bits[:, fine] - clip_bits[:, coarse])


def log_bits_to_bits_per_pixel(frames: torch.Tensor) -> float:
    """What to add to the log bits of a clip (T, 3, H, W) for its log bits per pixel."""
    num_frames, _, height, width = frames.shape
    return math.log(units.bits_per_pixel(1.0, num_frames=num_frames, height=height, width=width))


def fit_prior(control: ControlNetwork, samples: LadderSamples, *, max_clips: int = 64) -> float:
    """Fit the flat start of `control` on the ladders of up to `max_clips` clips. Returns the RMS error in QPs."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(max_clips, len(samples))).round().astype(int))
    clips, log_bpp = [], []
    for sample in (samples[int(index)] for index in chosen):
        clips.append(sample["frames"])
        log_bpp.append(sample["ladder_bits"].sum(1).log() + log_bits_to_bits_per_pixel(sample["frames"]))
    return control.prior.fit(clips, torch.stack(log_bpp), torch.tensor(samples.qps, dtype=torch.float32))


def run(config: ControlConfig) -> Path:
    """Train a control as configured; returns the path of its weights."""
    L.seed_everything(config.seed, verbose=False)
    surrogate, stored = load_surrogate(config.surrogate)
    check_surrogate(config.surrogate, stored, codec=config.codec, rungs=config.data.rungs)
    if config.objective.judge == "ladder" and not surrogate.reads_ladder:
        raise ConfigError(f"{config.surrogate} predicts without a ladder, so nothing can be read off it: objective.judge=frames")
    task = build_task(config.task.name, model=config.task.model, weights=config.task.weights)
    samples = build_samples(config.data, build_codec(config.codec), seed=config.seed, with_maps=False)
    control = ControlNetwork(width=config.control.width, gop=config.codec.gop, reach=config.control.reach)
    error = fit_prior(control, samples)
    print(f"flat start fitted on {len(samples)} clips: RMS error {error:.2f} QPs")
    module = ControlModule(control, surrogate, task, config)
    out = Path(config.out)
    fit(module, samples, config, callbacks=[ControlPictures(samples, out / "pictures", every=config.logger.pictures_every)])
    path = out / "control.safetensors"
    control.save(path, {"run": to_dict(config), "trained_on": trained_on(samples), **versions()})
    return path
