"""The training step of stage 2: offsets of a control at random rates, and what its teachers say of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch.utils.data import default_collate

from dvcc import units
from dvcc.control.analysis import analysis_planes
from dvcc.control.boxes import BoxTeacher
from dvcc.control.eyes.painting import Rule
from dvcc.control.ladder import LadderTeacher
from dvcc.control.network import ControlNetwork
from dvcc.control.objective import Baseline, Response, Terms, difference, objective
from dvcc.control.planes import ClipPlanes
from dvcc.pixels import as_float
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.fill import clips_to_fill
from dvcc.surrogate.judged import JudgedLadders, imitated_loss
from dvcc.surrogate.rungs import Rungs
from dvcc.surrogate.samples import LadderSamples, Sample
from dvcc.tasks.base import Task
from dvcc.training.bar import progress_bar
from dvcc.training.batches import generators
from dvcc.training.run import check_finite, check_finite_gradients
from dvcc.training.steps import adam, without_drawing
from dvcc.units import MACROBLOCK

BASELINES = 6
"""Rates at which x264's own maps of a training clip are known."""


class ClipAnswers(NamedTuple):
    """What is kept of a training clip.

    analysis: the surrogate's. reference: what the task's network says of the uncoded clip (1, ..), None where the surrogate reads
    what coding costs the task off a judged ladder. baseline: x264's own maps at K = `BASELINES` rates. descended: offsets
    (K, h, w) that the ladder teaches there, None where it does not. seen: what a control sees of an analysis encode at each rate,
    (K, T, 3, h, w), None where it sees none.
    """

    analysis: Any
    reference: torch.Tensor | None
    baseline: Baseline
    descended: torch.Tensor | None
    seen: torch.Tensor | None


@dataclass(frozen=True)
class Teachers:
    """What a control learns from, with the weight of each in the loss.

    surrogate: a frozen one, None where nobody asks it. ladder: the descent through it on every clip, boxes: what detectors see of
    the uncoded clip, None where they have no weight.
    """

    surrogate: Surrogate | None
    ladder: LadderTeacher | None = None
    boxes: BoxTeacher | None = None
    surrogate_weight: float = 1.0
    ladder_weight: float = 0.0
    boxes_weight: float = 0.0


class ControlModule(L.LightningModule):
    """Trains a `ControlNetwork` for a `Task`; logs every term.

    ladders: the samples of all clips, with x264's own maps; the batches have the frames only. rates_per_clip: of x264's own,
    drawn at random for every clip in a step; without a surrogate, of those that the control is told. planes: what the control's
    eyes see of the clips, None without eyes.
    """

    def __init__(
        self,
        control: ControlNetwork,
        teachers: Teachers,
        task: Task,
        ladders: LadderSamples,
        planes: ClipPlanes | None = None,
        *,
        rates_per_clip: int,
        learning_rate: float,
    ) -> None:
        super().__init__()
        self.control, self.teachers, self.task = control, teachers, task
        self.surrogate = None if teachers.surrogate is None else teachers.surrogate.requires_grad_(False)
        self.ladders, self.judged, self.planes = ladders, JudgedLadders(task, ladders), planes
        self.rates_per_clip, self.learning_rate = rates_per_clip, learning_rate
        self._clip_cache: dict[int, ClipAnswers] = {}

    def training_step(self, batch: Sample, batch_idx: int) -> torch.Tensor:
        """Return the mean loss of every clip at `rates_per_clip` random rates."""
        terms, taught, delta = self.step(batch)
        told = {name: values.mean() for name, values in taught.items()}
        loss = delta.new_zeros(())
        if terms is not None:
            loss = loss + self.teachers.surrogate_weight * terms.total.mean()
            told |= {"task": terms.relative_loss.mean(), "log_bits_excess": terms.excess.mean()}
            self.log("price", terms.price.mean())
        if "ladder" in taught:
            loss = loss + self.teachers.ladder_weight * told["ladder"]
        if "boxes" in taught:
            loss = loss + self.teachers.boxes_weight * told["boxes"]
        check_finite(loss, step=self.global_step, terms=told)
        self.log_dict({"loss": loss, "offset_deviation_in_frame": delta.detach().std((2, 3), unbiased=False).mean()})
        self.log_dict(told, prog_bar=True)
        return loss

    def step(self, batch: Sample) -> tuple[Terms | None, dict[str, torch.Tensor], torch.Tensor]:
        """Return the surrogate's terms (M,), the distances to the other teachers' offsets, and the offsets (M, T, h, w).

        M = clips x `rates_per_clip` rates. The terms are None if the surrogate does not teach. The distances are (M,) each, by
        the teacher's name.
        """
        base, descended, seen = (None, None, None) if self.surrogate is None else self._draw_baseline(batch)
        log_bpp = self._draw_rates(batch) if base is None else base.log_bpp
        frames = as_float(batch["frames"]).repeat_interleave(self.rates_per_clip, 0)
        delta = self._random_hflip(frames, log_bpp, self._all_planes(batch["clip"], seen, self.rates_per_clip))
        if self.planes is not None and (rule := self.control.config.get("rule")):
            offsets = self.planes.rule_offsets(batch["clip"], Rule(**rule), gop=self.control.config["gop"])
            delta = delta + offsets.repeat_interleave(self.rates_per_clip, 0)
        terms = None
        if base is not None and self.teachers.surrogate_weight:
            terms = objective(delta, base, lambda qp: self.task_loss_and_log_bits(batch, soft_qp(qp)))
        taught = {} if descended is None else {"ladder": difference(delta, descended[:, None])}
        if self.teachers.boxes is not None:
            boxes = torch.stack([self.teachers.boxes.offsets(clip) for clip in batch["clip"].tolist()])
            taught["boxes"] = difference(delta, boxes.repeat_interleave(self.rates_per_clip, 0))
        return terms, taught, delta

    def _all_planes(self, clips: torch.Tensor, seen: torch.Tensor | None, rates: int = 1) -> torch.Tensor | None:
        """Return what a control is given beside the pictures of clips (B,) at some rates each: (B x rates, T, E, h, w).

        It is what its eyes see of them, and what was `seen` of analysis encodes (B x rates, T, 3, h, w).
        """
        looks = None if self.planes is None else self.planes.of(clips).repeat_interleave(rates, 0)
        planes = [part for part in (looks, seen) if part is not None]
        return torch.cat(planes, 2) if planes else None

    def planes_at_ends(self, clips: torch.Tensor) -> list[torch.Tensor | None]:
        """Return the same (1, T, E, h, w) for one clip (1,) at the lowest and at the highest rate of x264's own maps."""
        if "analysis" not in self.control.config:
            return [self._all_planes(clips, None)] * 2
        seen = self.clip_cache(int(clips)).seen
        assert seen is not None
        return [self._all_planes(clips, seen[[end]]) for end in (0, -1)]

    def _draw_baseline(self, batch: Sample) -> tuple[Baseline, torch.Tensor | None, torch.Tensor | None]:
        """Draw random ones of x264's own maps of every clip, with what the ladder teaches at them (M, h, w).

        The third value is what a control sees of them (M, T, 3, h, w).
        """
        chosen, taught, seen = [], [], []
        for clip, draw in zip(batch["clip"].tolist(), generators(batch), strict=True):
            kept = self.clip_cache(clip)
            rates = torch.randint(len(kept.baseline.loss), (self.rates_per_clip,), generator=draw)
            chosen.append(Baseline(*(part[rates] for part in kept.baseline)))
            if kept.descended is not None:
                taught.append(kept.descended[rates])
            if kept.seen is not None:
                seen.append(kept.seen[rates])
        baseline = Baseline(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
        return baseline, torch.cat(taught) if taught else None, torch.cat(seen) if seen else None

    def _draw_rates(self, batch: Sample) -> torch.Tensor:
        """Draw log bits per pixel (M,), evenly among those that the control is told."""
        low, high = (math.log(rate) for rate in self.control.config["rates"])
        drawn = [torch.rand(self.rates_per_clip, generator=draw) for draw in generators(batch)]
        return low + (high - low) * torch.cat(drawn).to(self.device)

    def _random_hflip(self, frames: torch.Tensor, log_bpp: torch.Tensor, planes: torch.Tensor | None) -> torch.Tensor:
        """Return offsets (M, T, h, w) of frames (M, T, 3, H, W): half of the time of their mirror images, mirrored.

        The codec and the task do not care, and it is harder to learn a clip by heart. All clips of a step are mirrored, or none,
        in whichever process they are. planes: (M, T, E, h, w); those of a mirror
        image are taken to be mirrored.
        """
        mirrored = bool(torch.rand(()) < 0.5) and frames.shape[-1] % MACROBLOCK == 0  # else the grid is another
        if not mirrored:
            return self.control.offsets(frames, log_bpp, planes=planes)
        seen = None if planes is None else planes.flip(-1)
        return self.control.offsets(frames.flip(-1), log_bpp, planes=seen).flip(3)

    def clip_cache(self, clip: int) -> ClipAnswers:
        """Return what is kept of a clip, made once."""
        if clip not in self._clip_cache:
            sample = {name: value.to(self.device) for name, value in default_collate([self.ladders.without_pixels(clip)]).items()}
            with without_drawing(self.device):
                self._cache_clip(clip, sample)
        return self._clip_cache[clip]

    def fill(self, ladder: LadderTeacher) -> None:
        """Make the offsets that `ladder` lacks, with a progress bar: a descent takes seconds."""
        missing = clips_to_fill(ladder.is_stored, len(self.ladders.clips))
        if missing:
            with progress_bar() as bar:
                task = bar.add_task("descending", total=len(missing), note="clips")
                for clip in missing:
                    self.clip_cache(clip)
                    bar.advance(task)
            self._clip_cache.clear()  # a training may be on another device

    @torch.no_grad()
    def _cache_clip(self, clip: int, sample: Sample) -> None:
        """Keep what `clip_cache` returns, from a batch of one."""
        assert self.surrogate is not None  # nothing else asks for it
        degradation, reference = None, None
        if self.surrogate.reads_ladder:
            degradation = self.judged.degradation(clip, sample)
            analysis = self.surrogate.without_pixels(self.surrogate.analyse({**sample, "ladder_degradation": degradation}))
        else:
            reference = self.task.predict(as_float(sample["frames"]))
            analysis = self.surrogate.analyse(sample)
        answers = partial(self._predict, analysis, reference)
        qp, kbps = sample["baseline_qp"][0], sample["baseline_kbps"][0]
        height, width = sample["frames"].shape[-2:]
        per_kbps = units.kbps_to_bits_per_pixel(1.0, fps=float(sample["fps"]), height=height, width=width)
        loss, log_bits = answers(one_hot_qp(qp))
        # A clip that loses nothing asks for nothing.
        baseline = Baseline(qp, torch.log(kbps * per_kbps).float(), loss.clamp(min=1e-4), log_bits)
        descended = None
        if self.teachers.ladder is not None:
            descended = self.teachers.ladder.offsets(clip, lambda levels: answers(soft_qp(levels)), qp)
        seen = None
        if "analysis" in self.control.config:
            assert degradation is not None  # checked before the run
            seen = self._of_ladder(degradation[0], sample["ladder_log_error"][0], qp)
        self._clip_cache[clip] = ClipAnswers(analysis, reference, baseline, descended, seen)

    def _of_ladder(self, degradation: torch.Tensor, log_error: torch.Tensor, qp: torch.Tensor) -> torch.Tensor:
        """Return the planes (K, T, 3, h, w) of encodes at QPs (K, T, h, w).

        They are made of what each macroblock has at the rungs around its QP: degradation and log error (R, T, h, w).
        """
        rungs = Rungs(self.ladders.qps).to(qp.device)
        tables = [table.float().transpose(0, 1) for table in (degradation, log_error)]
        read = ([rungs.at(table, qp_map.float()).cpu().numpy() for table in tables] for qp_map in qp)
        gop = self.control.config["gop"]
        return torch.from_numpy(np.stack([analysis_planes(*pair, gop=gop) for pair in read])).to(qp.device)

    def task_loss_and_log_bits(self, batch: Sample, qp: torch.Tensor) -> Response:
        """Predict task loss and log bits (M,) of QPs (M, T, h, w, 52), the maps of one clip adjacent."""
        clips = (self.clip_cache(clip) for clip in batch["clip"].tolist())
        parts = zip(clips, qp.split(len(qp) // len(batch["clip"])), strict=True)
        predictions = [self._predict(kept.analysis, kept.reference, part) for kept, part in parts]
        losses, log_bits = zip(*predictions, strict=True)
        return torch.cat(losses), torch.cat(log_bits)

    def _predict(self, analysis: Any, reference: torch.Tensor | None, qp: torch.Tensor) -> Response:
        """Predict them for maps of one clip.

        Where a ladder was judged, macroblocks are all it takes. Else the task's network looks at the predicted frames, one map
        after another: they fill the memory.
        """
        assert self.surrogate is not None
        if reference is None:
            predicted = self.surrogate.predict(analysis, qp, frame_numbers=[])
            return imitated_loss(self.task, predicted, None), predicted.log_clip_bits
        predictions = [self.surrogate.predict(analysis, one) for one in qp.split(1)]
        losses = [imitated_loss(self.task, predicted, reference) for predicted in predictions]
        return torch.cat(losses), torch.cat([predicted.log_clip_bits for predicted in predictions])

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
        loaded = self.state_dict()
        checkpoint["state_dict"].update({k: v for k, v in loaded.items() if k.startswith(("surrogate.", "task."))})
