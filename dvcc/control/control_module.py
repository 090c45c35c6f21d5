"""Stage 2 in absolute mode: a control network learns through a surrogate, on the Lagrangian of task and rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.utils.data import default_collate

from dvcc import units
from dvcc.config import ControlConfig
from dvcc.control import ControlNetwork, DualAscent, Lagrangian, lagrangian, sample_qp
from dvcc.control.gradients import RealCodec, Response, lax_response, straight_through_response
from dvcc.pixels import as_float
from dvcc.qp import MAX_QP
from dvcc.surrogate import Surrogate, mean_qp
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.judged import JudgedLadders, imitated_loss
from dvcc.surrogate.samples import TARGET_QPS, LadderSamples, Sample, nearest_rung
from dvcc.surrogate.training import adam_with_cosine
from dvcc.tasks.base import Task
from dvcc.training.run import check_finite, check_finite_gradients, seed_step
from dvcc.units import MACROBLOCK

_BAND_BOUNDS = (math.log(0.02), math.log(0.05), math.log(0.12))
"""Log bits per pixel between the bands that have a Lagrange multiplier of their own."""


class Step(NamedTuple):
    """What a training step decided: QPs (M, T, h, w, 52) for targets of log bits per pixel (M,), and the Lagrangian of them."""

    qp: torch.Tensor
    log_bpp: torch.Tensor
    terms: Lagrangian


class ControlModule(L.LightningModule):
    """Trains a `ControlNetwork` for a `Task` through a frozen `Surrogate`; logs every term of the Lagrangian.

    Here absolute mode; `OffsetModule` is the other. ladders: the samples of all clips; with objective.judge=ladder the batches
    have the frames only.
    """

    def __init__(
        self, control: ControlNetwork, surrogate: Surrogate, task: Task, config: ControlConfig, ladders: LadderSamples
    ) -> None:
        super().__init__()
        self.control, self.surrogate, self.task, self.config = control, surrogate, task, config
        self.ladders, self.judged = ladders, JudgedLadders(task, ladders)
        self.real = RealCodec(ladders.codec, task)
        self.dual = DualAscent(bounds=_BAND_BOUNDS, start=config.objective.multiplier, step=config.objective.dual_step)
        self.surrogate.requires_grad_(False)
        # Of every clip seen: its ladder, judged and analysed, and its log bits at every rung. Nothing in it changes.
        self._known: dict[int, tuple[Any, torch.Tensor]] = {}

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Noise depends on (seed, step) alone, so that a resumed run draws the same."""
        seed_step(self.config.seed, self.global_step, rank=self.global_rank)

    def training_step(self, batch: Sample, batch_idx: int) -> torch.Tensor:
        """Every clip at `objective.targets` random targets."""
        step = self.step(batch)
        terms = step.terms
        check_finite(terms.total, step=self.global_step, terms={"task": terms.task, "log_bits_excess": terms.excess})
        level = (step.qp.detach() * torch.arange(step.qp.shape[-1], device=step.qp.device)).sum(-1)
        self.log_dict(
            {
                "loss": terms.total.mean(),
                "lagrange_multiplier": terms.multiplier.mean(),
                "mean_qp": level.mean(),
                "qp_deviation_in_frame": level.std((2, 3), unbiased=False).mean(),
                "target_bits_per_pixel": step.log_bpp.exp().mean(),
            }
        )
        self.log_dict({"task": terms.task.mean(), "log_bits_excess": terms.excess.mean()}, prog_bar=True)
        return terms.total.mean()

    def step(self, batch: Sample) -> Step:
        """QPs for random targets, and the published Lagrangian: multipliers per band of rates, by dual ascent."""
        settings = self.config.objective
        n = settings.targets
        frames = as_float(batch["frames"]).repeat_interleave(n, 0)
        if settings.judge == "ladder":
            ladder_log_bits = torch.stack([self.known(clip)[1] for clip in batch["clip"].tolist()])
        else:
            ladder_log_bits = batch["ladder_bits"].sum(-1).log()
        log_target = draw_log_target(ladder_log_bits.repeat_interleave(n, 0), self.config.data.rungs)
        log_bpp = log_target + log_bits_to_bits_per_pixel(frames[0])
        qp = sample_qp(self.either_way_round(lambda seen: self.control(seen, log_bpp), frames), temperature=settings.temperature)
        task_loss, log_bits = self.respond(batch, qp)
        terms = lagrangian(
            task_loss,
            log_bits,
            log_target,
            multiplier=self.dual(log_bpp),
            deviation_weight=settings.deviation_weight,
            margin=settings.margin,
        )
        # All processes of a distributed run ascend alike.
        everyone = self.all_gather(torch.stack([log_bpp, terms.excess.detach()], -1))
        self.dual.ascend(*torch.as_tensor(everyone).reshape(-1, 2).T)
        return Step(qp, log_bpp, terms)

    def either_way_round(self, decide: Callable[..., torch.Tensor], *seen: torch.Tensor) -> torch.Tensor:
        """What `decide` says of frames (M, T, 3, H, W) and maps (M, T, h, w), (M, T, h, w, ..): half of the time of their mirror
        images, mirrored. The codec and the task do not care, and a control finds it harder to know a clip by heart."""
        mirrored = bool(torch.rand(()) < 0.5) and seen[0].shape[-1] % MACROBLOCK == 0  # else the grid is another
        return decide(*(x.flip(-1) for x in seen)).flip(3) if mirrored else decide(*seen)

    def known(self, clip: int) -> tuple[Any, torch.Tensor]:
        """The analysis of a clip, its ladder judged, and its log bits (R,) at every rung: made once."""
        if clip not in self._known:
            one = {name: value.to(self.device) for name, value in default_collate([self.ladders[clip]]).items()}
            self.learn_of(clip, one)
        return self._known[clip]

    @torch.no_grad()
    def learn_of(self, clip: int, sample: Sample) -> None:
        """Keep what `known` returns, of a batch of one."""
        analysis = self.surrogate.analyse({**sample, "ladder_degradation": self.judged.degradation(clip, sample)})
        self._known[clip] = self.surrogate.without_pixels(analysis), sample["ladder_bits"][0].sum(-1).log()

    def respond(self, batch: Sample, qp: torch.Tensor) -> Response:
        """Task loss and log bits (M,) of QPs (M, T, h, w, 52), the maps of one clip adjacent, with the gradient that
        `objective.gradient` names."""
        objective = self.config.objective
        predicted = self.off_the_ladder if objective.judge == "ladder" else self._of_the_frames
        if objective.gradient == "surrogate":
            return predicted(batch, qp)
        found = []
        for i, level in enumerate(mean_qp(qp).split(len(qp) // len(batch["clip"]))):
            clip = self.ladders.clips[int(batch["clip"][i])]
            one = {name: value[i : i + 1] for name, value in batch.items()}

            def variate(moved: torch.Tensor, one: Sample = one) -> Response:
                return predicted(one, soft_qp(moved.clamp(0, MAX_QP)))

            if objective.gradient == "straight_through":
                found.append(straight_through_response(level, clip=clip, real=self.real))
            else:
                found.append(lax_response(level, predicted=variate, real=partial(self.real.respond, clip)))
        losses, log_bits = zip(*found, strict=True)
        return torch.cat(losses), torch.cat(log_bits)

    def off_the_ladder(self, batch: Sample, qp: torch.Tensor) -> Response:
        """What the surrogate predicts of it: macroblocks are all it takes."""
        parts = zip(batch["clip"].tolist(), qp.split(len(qp) // len(batch["clip"])), strict=True)
        predictions = [self.surrogate.predict(self.known(clip)[0], part, shown=[]) for clip, part in parts]
        return (
            torch.cat([imitated_loss(self.task, predicted, None) for predicted in predictions]),
            torch.cat([predicted.log_clip_bits for predicted in predictions]),
        )

    def _of_the_frames(self, batch: Sample, qp: torch.Tensor) -> Response:
        """The same, of the predicted frames, judged by the task network."""
        predicted = self.surrogate(batch, qp)
        with torch.no_grad():
            reference = self.task.predict(as_float(batch["frames"]))
        reference = reference.repeat_interleave(len(qp) // len(reference), 0)
        return imitated_loss(self.task, predicted, reference), predicted.log_clip_bits

    def renew(self, surrogate: Surrogate) -> None:
        """Learn through another surrogate from now on."""
        self.surrogate = surrogate.requires_grad_(False)
        self._known.clear()

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


def draw_log_target(log_bits: torch.Tensor, rungs: list[int]) -> torch.Tensor:
    """(B,): log bits of the clip, uniform between the rungs nearest to the ends of the range. log_bits: (B, R), of the rungs."""
    fine, coarse = (nearest_rung(rungs, qp) for qp in TARGET_QPS)
    position = torch.rand(len(log_bits)).to(log_bits.device)
    return log_bits[:, coarse] + position * (log_bits[:, fine] - log_bits[:, coarse])


def log_bits_to_bits_per_pixel(frames: torch.Tensor) -> float:
    """What to add to the log bits of a clip (T, 3, H, W) for its log bits per pixel."""
    num_frames, _, height, width = frames.shape
    return math.log(units.bits_per_pixel(1.0, num_frames=num_frames, height=height, width=width))
