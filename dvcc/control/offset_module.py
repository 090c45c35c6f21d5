"""Stage 2 in offset and analysed mode: how far to depart from the QPs that x264's own rate control chooses.

x264 brings the bits back to the target whatever the offsets are, by moving all QPs alike. So the map that is judged is the base
plus the offsets plus the shift that gives it the base's bits, and the Lagrange multiplier is what bits are worth there: the slope
of the task loss over log bits along such a shift. An offset is worth making if it beats spending its bits evenly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from dvcc import units
from dvcc.control import lagrangian
from dvcc.control.control_module import ControlModule, Step
from dvcc.pixels import as_float
from dvcc.qp import MAX_QP
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.samples import Sample

BASELINES = 6
"""Rates at which x264's own maps of a training clip are known."""

_PROBE_QPS = 2.0
"""Slopes are taken over so many QPs to the finer side: a single one is within the ladder's noise, and coarser than 51 is none."""

_LEAST_LOG_BITS = 0.02  # that a QP can change; it is 0.06 to 0.12 but at the ends
_NEWTON_STEPS, _LARGEST_STEP = 2, 10.0


class Baseline(NamedTuple):
    """x264's own maps of a clip at K rates: QPs (K, T, h, w), log of the bits per pixel asked for (K,), and as the surrogate sees
    them task loss (K,) and log bits (K,)."""

    qp: torch.Tensor
    log_bpp: torch.Tensor
    loss: torch.Tensor
    log_bits: torch.Tensor


class OffsetModule(ControlModule):
    """Trains departures from the QPs of two-pass ABR."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._baselines: dict[int, Baseline] = {}

    def step(self, batch: Sample) -> Step:
        """QPs at random ones of x264's rates. The task's term is the loss relative to that of x264's map; the excess is over the
        bits that the surrogate gives that map, so what it gets wrong about both does not count."""
        settings = self.config.objective
        chosen = []
        for clip in batch["clip"].tolist():
            self.known(clip)
            rates = torch.randint(len(self._baselines[clip].loss), (settings.targets,))
            chosen.append(Baseline(*(part[rates] for part in self._baselines[clip])))
        base = Baseline(*(torch.cat(parts) for parts in zip(*chosen, strict=True)))
        frames = as_float(batch["frames"]).repeat_interleave(settings.targets, 0)
        offsets = self.either_way_round(
            lambda seen, base_qp: self.control.offsets(seen, base.log_bpp, base_qp), frames, base.qp.float()
        )
        level = base.qp + offsets
        shift, price = self.at_equal_bits(batch, level.detach(), base)
        # Not sampled: noise from macroblock to macroblock has to be signalled, and at low rates costs more than the picture.
        qp = soft_qp((level + shift).clamp(0, MAX_QP))
        loss, log_bits = self.respond(batch, qp)
        terms = lagrangian(
            loss / base.loss,
            log_bits,
            base.log_bits,
            multiplier=price,
            deviation_weight=0.0,  # the bits are equal: |excess| would be the sign of a rounding error, and a gradient along it
        )
        return Step(qp, base.log_bpp, terms)

    @torch.no_grad()
    def at_equal_bits(self, batch: Sample, level: torch.Tensor, base: Baseline) -> tuple[torch.Tensor, torch.Tensor]:
        """The shift (M, 1, 1, 1) in QPs that gives maps (M, T, h, w) the bits of their base, by Newton's method, and the relative
        task loss that one log bit buys there (M,), 0 or more."""
        shift, price = level.new_zeros(len(level), 1, 1, 1), level.new_zeros(len(level))
        for _ in range(_NEWTON_STEPS):
            loss, log_bits = self.off_the_ladder(batch, soft_qp((level + shift).clamp(0, MAX_QP)))
            finer = self.off_the_ladder(batch, soft_qp((level + shift - _PROBE_QPS).clamp(0, MAX_QP)))
            spent = (finer[1] - log_bits).clamp(min=_LEAST_LOG_BITS * _PROBE_QPS)
            step = (_PROBE_QPS * (log_bits - base.log_bits) / spent).clamp(-_LARGEST_STEP, _LARGEST_STEP)
            shift = shift + step[:, None, None, None]
            price = ((loss - finer[0]) / spent / base.loss).clamp(min=0)
        return shift, price

    def renew(self, surrogate: Surrogate) -> None:
        """See `ControlModule.renew`."""
        super().renew(surrogate)
        self._baselines.clear()

    @torch.no_grad()
    def learn_of(self, clip: int, sample: Sample) -> None:
        """Also of x264's own maps."""
        super().learn_of(clip, sample)
        qp, kbps = sample["baseline_qp"][0], sample["baseline_kbps"][0]
        height, width = sample["frames"].shape[-2:]
        per_kbps = units.kbps_to_bits_per_pixel(1.0, fps=self.ladders.clips[clip].fps, height=height, width=width)
        loss, log_bits = self.off_the_ladder(sample, one_hot_qp(qp))
        # A clip that loses nothing asks for nothing.
        self._baselines[clip] = Baseline(qp, torch.log(kbps * per_kbps).float(), loss.clamp(min=1e-4), log_bits)
