"""One clip at every target by every controller, on real encodes: the piece of work that workers share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dvcc import units
from dvcc.clip import Clip
from dvcc.codecs import ABR, CQP, X264, EncodedClip, VideoCodec
from dvcc.control.deployed.runtime import Control
from dvcc.evaluation.control.clips import TestSet
from dvcc.evaluation.control.rows import Looked, Measured, Row
from dvcc.evaluation.control.verdicts import Verdicts
from dvcc.networks.detectors.base import Boxes
from dvcc.qp import MAX_QP, QPMap
from dvcc.rate_control import RateController
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.analysed import AnalysedControl
from dvcc.rate_control.constant import ConstantRateFactor
from dvcc.rate_control.objects import Looks, Objects
from dvcc.tasks import Task
from dvcc.tasks.judging import Truth, judge, measure_frames, pooled, predict_frames, with_noise
from dvcc.tasks.metric import State

REACH = 1.25
"""A target below this times the bits of the coarsest flat map (QP 51) is out of a clip's reach. x264 itself can go a little
further: it smooths what QP 51 cannot save."""


@dataclass(frozen=True, eq=False)
class Bench:
    """All that is needed to measure clips; every process builds its own.

    labelled: whether clips are compared with the labels of `tests`, too. controls: those among the `controllers`, by the same
    names. targets_kbps: None: `measure` is given targets in bits per pixel. rate_factors: every target is coded at these
    times it. reach: a target below this times the bits of QP 51 everywhere is left out. seed: of the noise.
    """

    task: Task
    codec: VideoCodec
    tests: TestSet
    labelled: bool
    verdicts: Verdicts
    controllers: Mapping[str, RateController]
    controls: Mapping[str, Control]
    targets_kbps: Sequence[float] | None
    rate_factors: Sequence[float]
    reach: float
    seed: int

    def look(self, index: int) -> Looked:
        """Look with the network at a clip that nothing was done to."""
        clip, labels = self._load(index)
        frames = self.verdicts.judged(clip)
        reference = predict_frames(self.task, frames)
        noisy = predict_frames(self.task, with_noise(frames, seed=self.seed))
        agreement = float(self.task.agreement(noisy[None], reference[None])[0])
        states = []
        for answer in (reference, noisy):
            metric = self.task.metric()
            metric.update(answer, self.task.labels(reference))
            states.append(metric.state)
        uncoded = None if labels is None else measure_frames(self.task, frames, labels, self.tests.metric(self.task))
        return Looked(agreement, states[0], states[1], uncoded)

    def least_kbps(self, index: int) -> float:
        """Return the bitrate of the coarsest encode of a clip, a flat map of QP 51."""
        clip, _ = self._load(index)
        return self._coarsest(clip).bitrate_kbps

    def least_bpp(self, index: int) -> float:
        """Return the same in bits per pixel."""
        clip, _ = self._load(index)
        return self._coarsest(clip).bits_per_pixel

    def _coarsest(self, clip: Clip) -> EncodedClip:
        flat = QPMap.uniform(MAX_QP, like=clip) if isinstance(self.codec, X264) else CQP(MAX_QP)
        return self.codec.encode(clip, flat)

    def sweep(self, index: int, rates: Sequence[float]) -> list[tuple[float, State]]:
        """(bits per pixel, state of the metric) of two-pass ABR at every rate in bits per pixel."""
        clip, _ = self._load(index)
        reference, swept = predict_frames(self.task, self.verdicts.judged(clip)), []
        for rate in rates:
            coded = self.codec.encode(clip, ABR(max(1.0, _kbps(rate, clip))))
            swept.append((coded.bits_per_pixel, self.verdicts.verdict(clip, coded, reference).state))
        return swept

    def measure(self, index: int, targets_bpp: Sequence[float]) -> list[Measured]:
        """Every target, rate factor and controller. targets_bpp: used where there are no `targets_kbps`."""
        clip, labels = self._load(index)
        name = self.tests.names[index]
        targets = self.targets_kbps or [_kbps(rate, clip) for rate in targets_bpp]
        reference = predict_frames(self.task, self.verdicts.judged(clip))
        least = self._coarsest(clip).bitrate_kbps
        measured: list[Measured] = []
        for number, target in enumerate(targets):
            for factor in self.rate_factors:
                for controller in self.controllers:
                    kbps = float(target * factor)
                    row = Row(name.video, name.start, controller, number, kbps, rate_factor=factor)
                    row = replace(row, within_reach=kbps >= REACH * least)
                    if kbps < max(1.0, self.reach * least):
                        measured.append((replace(row, status="unreachable"), None, None))
                    else:
                        measured.append(self._encoded(row, clip, labels, reference))
        return measured

    def _encoded(self, row: Row, clip: Clip, labels: torch.Tensor | None, reference: torch.Tensor) -> Measured:
        coded = self.controllers[row.controller].encode(clip, row.target_kbps)
        if labels is None:
            verdict = self.verdicts.verdict(clip, coded, reference)
        else:
            truth = Truth(labels, self.tests.metric(self.task))
            verdict = judge(self.task, self.verdicts.judged(coded.clip()), reference, truth)
        row = replace(
            row,
            achieved_kbps=coded.bitrate_kbps,
            bits_per_pixel=coded.bits_per_pixel,
            metric=verdict.metric,
            loss=verdict.loss,
            num_encodes=coded.num_encodes,
            weight=self.task.weight(verdict.state),
        )
        if verdict.state_of_truth is not None:
            row = replace(row, metric_of_labels=pooled(self.tests.metric(self.task), [verdict.state_of_truth]))
        return row, verdict.state, verdict.state_of_truth

    def _load(self, index: int) -> tuple[Clip, torch.Tensor | None]:
        clip, labels = self.tests.load(index)
        return clip, labels[:: self.verdicts.every] if self.labelled and labels is not None else None


class _Remembered:
    """A detector that is asked of a picture once: a clip is coded at many targets, and the rule sees the same each time."""

    def __init__(self, detector: Looks) -> None:
        self._detector, self._answers = detector, dict[tuple[bytes, float], list[Boxes]]()

    def detect(self, rgb: np.ndarray, *, least_score: float) -> list[Boxes]:
        """See `Looks.detect`."""
        key = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).digest(), least_score
        if key not in self._answers:
            self._answers[key] = self._detector.detect(rgb, least_score=least_score)
        return self._answers[key]


def looking_once(controller: RateController) -> RateController:
    """Return the controller, whose detector, if it has one, is asked of every picture once."""
    if isinstance(controller, (AverageBitrate, ConstantRateFactor)) and isinstance(controller.control, Objects):
        return replace(controller, control=_remembering(controller.control))
    if isinstance(controller, AnalysedControl) and controller.objects is not None:
        return replace(controller, objects=_remembering(controller.objects))
    return controller


def _remembering(objects: Objects) -> Objects:
    return replace(objects, detector=_Remembered(objects.detector))


def spread_targets(swept: Sequence[Sequence[tuple[float, State]]], task: Task, *, count: int) -> list[float]:
    """Return `count` targets in bits per pixel, by what `sweep` says of some clips.

    They reach from where the baseline's metric is at the worse end of the task's range to the better end. Only two-pass ABR was
    looked at, so the choice favours no control.
    """
    metric = task.metric()
    sign = 1 if metric.higher_is_better else -1
    rates = np.array([np.mean([rate for rate, _ in at_rate]) for at_rate in zip(*swept, strict=True)])
    values = [sign * pooled(metric, [state for _, state in at_rate]) for at_rate in zip(*swept, strict=True)]
    rising = np.maximum.accumulate(values)
    low, high = (float(np.exp(np.interp(sign * wanted, rising, np.log(rates)))) for wanted in task.metric_range)
    if high < 1.5 * low:
        low, high = float(rates[0]), float(rates[-1])
    return [float(rate) for rate in np.geomspace(low, high, count)]


def swept_rates(least_bpp: float) -> list[float]:
    """Bits per pixel at which the baseline is tried. least_bpp: of the coarsest encode."""
    lowest, highest, count = 0.004, 0.6, 9
    return [float(rate) for rate in np.geomspace(max(lowest, REACH * least_bpp), max(highest, 2 * REACH * least_bpp), count)]


def _kbps(bits_per_pixel: float, clip: Clip) -> float:
    return units.bits_per_pixel_to_kbps(bits_per_pixel, fps=clip.fps, height=clip.height, width=clip.width)
