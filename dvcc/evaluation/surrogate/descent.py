"""The descent test: does a step along the surrogate's gradient lower the *real* task loss at equal real bits?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dvcc.clip import Clip
from dvcc.codecs import Codec, EncodedClip
from dvcc.codecs.cache import EncodeCache
from dvcc.qp import MAX_QP, QPMap
from dvcc.surrogate import Surrogate
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.judged import imitated_loss
from dvcc.surrogate.random_maps import LOWEST_QP
from dvcc.surrogate.samples import Sample
from dvcc.surrogate.structured.planes import ResidualCoder
from dvcc.tasks.base import Task
from dvcc.tasks.judging import predict_frames
from dvcc.units import macroblock_grid

STEP_QPS = 2.0
"""Root mean square of a step, in QPs: enough to be a different encode, small enough for a first-order test."""

_LARGEST = 3.0
"""No macroblock moves more than this times the root mean square: gradients have heavy tails."""


@dataclass(frozen=True)
class Descent:
    """Real task losses of a flat map, and of three steps from it at its bits.

    The steps go along the surrogate's gradient, along that through the predicted frames and the task network, and along a random
    one (NaN where the encodes did not enclose these bits).
    """

    flat: float
    gradient: float
    gradient_of_frames: float
    random: float


class RealLoss:
    """The task's loss on really coded frames of one clip."""

    def __init__(self, task: Task, clip: Clip, codec: Codec, cache: EncodeCache) -> None:
        self.task, self.clip, self.codec, self.cache = task, clip, codec, cache
        self.reference = predict_frames(task, clip.frames)

    def __call__(self, coded: EncodedClip) -> float:
        return float(self.task.loss(predict_frames(self.task, coded.frames)[None], self.reference[None])[0])

    def of_map(self, values: np.ndarray) -> tuple[float, float]:
        """(log bits, loss) of a map (T, h, w), rounded and clipped to what training has seen."""
        qp = QPMap(np.clip(np.rint(values), LOWEST_QP, MAX_QP).astype(int))
        coded = self.cache.encode(self.codec, self.clip, qp)
        return float(np.log(coded.bits)), self(coded)


def descent_test(surrogate: Surrogate, sample: Sample, real: RealLoss, *, mean_qp: int, rng: np.random.Generator) -> Descent:
    """Step from the flat map at `mean_qp`. sample: of the clip of `real`, a batch of one, its ladder judged."""
    of_frames = {name: value for name, value in sample.items() if name != "ladder_degradation"}
    gradients = [
        task_gradient_at_equal_bits(surrogate, real.task, of, real.reference, mean_qp=mean_qp) for of in (sample, of_frames)
    ]
    flat = np.full(gradients[0].shape, float(mean_qp))
    log_bits, loss = real.of_map(flat)
    directions = [*(-g for g in gradients), rng.normal(size=flat.shape)]
    return Descent(loss, *(_loss_at_bits(real, flat + _step(d), log_bits) for d in directions))


def averaged_descent(
    surrogate: Surrogate, sample: Sample, reals: Sequence[RealLoss], *, mean_qp: int, draws: Sequence[int]
) -> list[tuple[int, int, float, float]]:
    """Step from the flat map along the gradient through predicted frames, averaged over each number of `draws` of noise.

    Noise is uniform instead of a rounding where the surrogate quantises, and one grey level up, down or none on every predicted
    sample. The gradient is of the task of the first of `reals`, and all judge the step. Returns (draws, judge, loss of the flat
    map, of the step at its bits).
    """
    task, reference = reals[0].task, reals[0].reference
    of_frames = {name: value for name, value in sample.items() if name != "ladder_degradation"}
    analysis = surrogate.analyse(of_frames)
    total: np.ndarray | None = None
    found = []
    with _quantisation_noise(surrogate):
        for draw in range(max(draws)):
            generator = torch.Generator().manual_seed(draw)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(draw)
                gradient = _gradient(surrogate, task, analysis, of_frames, reference, mean_qp=mean_qp, grey_levels=generator)
            total = gradient if total is None else total + gradient
            if draw + 1 in draws:
                for judge, real in enumerate(reals):
                    flat = np.full(total.shape, float(mean_qp))
                    log_bits, loss = real.of_map(flat)
                    found.append((draw + 1, judge, loss, _loss_at_bits(real, flat + _step(-total), log_bits)))
    return found


@contextmanager
def _quantisation_noise(surrogate: Surrogate) -> Iterator[None]:
    coders = [module for module in surrogate.modules() if isinstance(module, ResidualCoder)]
    for coder in coders:
        coder.noise = True
    try:
        yield
    finally:
        for coder in coders:
            coder.noise = False


def task_gradient_at_equal_bits(
    surrogate: Surrogate, task: Task, sample: Sample, reference: torch.Tensor, *, mean_qp: int
) -> np.ndarray:
    """(T, h, w): d task loss / d QP at the flat map, less its part along d bits / d QP.

    The loss is read off the ladder if the sample has it judged and the surrogate can, else it is that of the predicted frames.
    """
    return _gradient(surrogate, task, surrogate.analyse(sample), sample, reference, mean_qp=mean_qp)


def _gradient(
    surrogate: Surrogate, task: Task, analysis: Any, sample: Sample, reference: torch.Tensor, *, mean_qp: int,
    grey_levels: torch.Generator | None = None
) -> np.ndarray:  # fmt: skip
    grid = macroblock_grid(*sample["frames"].shape[-2:])
    qp = torch.full((1, sample["frames"].shape[1], *grid), float(mean_qp), requires_grad=True)
    frame_numbers: list[int] | None = [] if "ladder_degradation" in sample and surrogate.reads_ladder else None
    predicted = surrogate.predict(analysis, soft_qp(qp), frame_numbers=frame_numbers)
    if grey_levels is not None:
        noise = torch.randint(-1, 2, predicted.frames.shape, generator=grey_levels) / 255
        predicted = predicted._replace(frames=predicted.frames + noise)
    loss = imitated_loss(task, predicted, reference[None]).sum()
    (of_bits,) = torch.autograd.grad(predicted.log_clip_bits.sum(), qp, retain_graph=True)
    (of_loss,) = torch.autograd.grad(loss, qp)
    along = (of_loss * of_bits).sum() / of_bits.square().sum()
    return (of_loss - along * of_bits)[0].double().numpy()


def _step(direction: np.ndarray) -> np.ndarray:
    scaled = direction / np.sqrt(np.mean(direction**2) + 1e-30)
    return STEP_QPS * np.clip(scaled, -_LARGEST, _LARGEST)


def _loss_at_bits(real: RealLoss, values: np.ndarray, log_bits: float) -> float:
    """Real loss of the map `values` moved by whole QPs to either side of `log_bits`, interpolated between the two encodes."""
    shift = 0
    below = above = None
    for _ in range(8):
        at_bits, loss = real.of_map(values + shift)
        if at_bits >= log_bits:
            above, shift = (at_bits, loss), shift + 1
        else:
            below, shift = (at_bits, loss), shift - 1
        if below and above:
            share = (log_bits - below[0]) / max(above[0] - below[0], 1e-9)
            return below[1] + share * (above[1] - below[1])
    return float("nan")
