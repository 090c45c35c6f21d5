"""The training step of stage 2: offsets of a control at random ones of x264's rates, through a frozen surrogate."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils.data import default_collate

from dvcc import units
from dvcc.control.eyes.painting import Rule
from dvcc.control.network import ControlNetwork
from dvcc.control.objective import Baseline, Response, Terms, objective
from dvcc.control.planes import ClipPlanes
from dvcc.pixels import as_float
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.samples import LadderSamples, Sample
from dvcc.tasks.base import Task
from dvcc.training.run import check_finite, check_finite_gradients
from dvcc.training.steps import adam, without_drawing
from dvcc.units import MACROBLOCK

BASELINES = 6
"""Rates at which x264's own maps of a training clip are known."""


class ControlModule(L.LightningModule):
    """Trains a `ControlNetwork` for a `Task` through a frozen `Surrogate` that reads judged ladders; logs every term.

    ladders: the samples of all clips, with x264's own maps; the batches have the frames only. rates_per_clip: of x264's own,
    drawn at random for every clip in a step. planes: what the control's eyes see of the clips, None without eyes.
    """

    def __init__(
        self,
        control: ControlNetwork,
        surrogate: Surrogate,
        task: Task,
        ladders: LadderSamples,
        planes: ClipPlanes | None = None,
        *,
        rates_per_clip: int,
        learning_rate: float,
    ) -> None:
        super().__init__()
        self.control, self.surrogate, self.task = control, surrogate.requires_grad_(False), task
        self.ladders, self.judged, self.planes = ladders, JudgedLadders(task, ladders), planes
        self.rates_per_clip, self.learning_rate = rates_per_clip, learning_rate
        # By clip: its analysis, and x264's own maps at `BASELINES` rates. Nothing in it changes.
        self._clip_cache: dict[int, tuple[Any, Baseline]] = {}

    def training_step(self, batch: Sample, batch_idx: int) -> torch.Tensor:
        """Return the mean loss of every clip at `rates_per_clip` random rates."""
        terms, delta = self.step(batch)
        check_finite(terms.total, step=self.global_step, terms={"task": terms.relative_loss, "log_bits_excess": terms.excess})
        self.log_dict(
            {
                "loss": terms.total.mean(),
                "price": terms.price.mean(),
                "offset_deviation_in_frame": delta.detach().std((2, 3), unbiased=False).mean(),
            }
        )
        self.log_dict({"task": terms.relative_loss.mean(), "log_bits_excess": terms.excess.mean()}, prog_bar=True)
        return terms.total.mean()

    def step(self, batch: Sample) -> tuple[Terms, torch.Tensor]:
        """Return the terms (M,) of the loss and the offsets (M, T, h, w), for M = clips x `rates_per_clip` rates."""
        chosen = []
        for clip in batch["clip"].tolist():
            baseline = self.clip_cache(clip)[1]
            rates = torch.randint(len(baseline.loss), (self.rates_per_clip,))
            chosen.append(Baseline(*(part[rates] for part in baseline)))
        base = Baseline(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
        frames = as_float(batch["frames"]).repeat_interleave(self.rates_per_clip, 0)
        planes = None if self.planes is None else self.planes.of(batch["clip"]).repeat_interleave(self.rates_per_clip, 0)
        delta = self._random_hflip(frames, base.log_bpp, planes)
        if self.planes is not None and (rule := self.control.config.get("rule")):
            offsets = self.planes.rule_offsets(batch["clip"], Rule(**rule), gop=self.control.config["gop"])
            delta = delta + offsets.repeat_interleave(self.rates_per_clip, 0)
        return objective(delta, base, lambda qp: self.task_loss_and_log_bits(batch, soft_qp(qp))), delta

    def _random_hflip(self, frames: torch.Tensor, log_bpp: torch.Tensor, planes: torch.Tensor | None) -> torch.Tensor:
        """Return offsets (M, T, h, w) of frames (M, T, 3, H, W): half of the time of their mirror images, mirrored.

        The codec and the task do not care, and it is harder to learn a clip by heart. planes: (M, T, E, h, w); those of a mirror
        image are taken to be mirrored.
        """
        mirrored = bool(torch.rand(()) < 0.5) and frames.shape[-1] % MACROBLOCK == 0  # else the grid is another
        if not mirrored:
            return self.control.offsets(frames, log_bpp, planes=planes)
        seen = None if planes is None else planes.flip(-1)
        return self.control.offsets(frames.flip(-1), log_bpp, planes=seen).flip(3)

    def clip_cache(self, clip: int) -> tuple[Any, Baseline]:
        """Return a clip's analysis, its ladder judged, and x264's own maps of it: made once."""
        if clip not in self._clip_cache:
            sample = {name: value.to(self.device) for name, value in default_collate([self.ladders.without_pixels(clip)]).items()}
            with without_drawing(self.device):
                self.cache_clip(clip, sample)
        return self._clip_cache[clip]

    @torch.no_grad()
    def cache_clip(self, clip: int, sample: Sample) -> None:
        """Keep what `clip_cache` returns, from a batch of one."""
        analysis = self.surrogate.analyse({**sample, "ladder_degradation": self.judged.degradation(clip, sample)})
        analysis = self.surrogate.without_pixels(analysis)
        qp, kbps = sample["baseline_qp"][0], sample["baseline_kbps"][0]
        height, width = sample["frames"].shape[-2:]
        per_kbps = units.kbps_to_bits_per_pixel(1.0, fps=float(sample["fps"]), height=height, width=width)
        loss, log_bits = self._predict_from_ladder(analysis, one_hot_qp(qp))
        # A clip that loses nothing asks for nothing.
        baseline = Baseline(qp, torch.log(kbps * per_kbps).float(), loss.clamp(min=1e-4), log_bits)
        self._clip_cache[clip] = analysis, baseline

    def task_loss_and_log_bits(self, batch: Sample, qp: torch.Tensor) -> Response:
        """Predict task loss and log bits (M,) of QPs (M, T, h, w, 52), the maps of one clip adjacent."""
        parts = zip(batch["clip"].tolist(), qp.split(len(qp) // len(batch["clip"])), strict=True)
        predictions = [self._predict_from_ladder(self.clip_cache(clip)[0], part) for clip, part in parts]
        losses, log_bits = zip(*predictions, strict=True)
        return torch.cat(losses), torch.cat(log_bits)

    def _predict_from_ladder(self, analysis: Any, qp: torch.Tensor) -> Response:
        """Predict them for maps of one clip: macroblocks are all it takes."""
        predicted = self.surrogate.predict(analysis, qp, shown=[])
        assert predicted.degradation is not None  # `reads_ladder` is checked before the run
        return self.task.loss_of(predicted.degradation), predicted.log_clip_bits

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Check: a finite loss can have a gradient that is not."""
        check_finite_gradients(self.control, step=self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam, whose rate `Steps` sets."""
        return adam(self.control, self.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the surrogate and the task network, which do not change."""
        for name in list(checkpoint["state_dict"]):
            if name.startswith(("surrogate.", "task.")):
                del checkpoint["state_dict"][name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put them back, as they stand."""
        own = self.state_dict()
        checkpoint["state_dict"].update({k: v for k, v in own.items() if k.startswith(("surrogate.", "task."))})
