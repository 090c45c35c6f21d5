"""A surrogate: the differentiable stand-in for the codec, from QPs to coded frames and bits."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from einops import einsum
from torch import nn

from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP
from dvcc.units import MACROBLOCK

NUM_QPS = MAX_QP + 1

Sample = dict[str, torch.Tensor]
Analysis = TypeVar("Analysis")


class Prediction(NamedTuple):
    """log_bits: float (M, T), natural log of the bits of each frame.

    frames: float (M, S, 3, H, W), about 0..1, of the S frames that were asked for.

    candidates: what `frames` were drawn from, for a loss that is exact in expectation over the draw: frames
    (2, M, S, 3, H, W) and the chance (M, S, h, w) of the second; None where nothing is drawn. log_error: (M, S, h, w), what
    `log_coding_error` of the coded frames should be; None where nothing predicts it. degradation: (M,), mean degradation to a
    task (`Task.degradation`) over all frames; None unless the sample has a judged ladder and the surrogate reads it.
    """

    log_bits: torch.Tensor
    frames: torch.Tensor
    candidates: tuple[torch.Tensor, torch.Tensor] | None = None
    log_error: torch.Tensor | None = None
    degradation: torch.Tensor | None = None

    @property
    def log_clip_bits(self) -> torch.Tensor:
        """(M,): natural log of the bits of the whole clip."""
        return torch.logsumexp(self.log_bits, dim=1)


GroupPredictor = Callable[[torch.Tensor, Sequence[int]], Prediction]


class Surrogate(nn.Module, AbstractBase, Generic[Analysis]):
    """Predicts what the codec would make of a clip and a QP map, in two steps: the clip, then any number of maps."""

    reads_ladder: bool
    """Whether `Prediction.degradation` is there for a sample with `ladder_degradation`."""

    @abstractmethod
    def analyse(self, sample: Sample) -> Analysis:
        """Return what does not depend on the QPs, for B clips.

        sample: of `LadderSamples`, batched: `frames` uint8 (B, T, 3, H, W), `frame_types` int64 (B, T) (indices into
        `FRAME_TYPES`), `ladder_frames` uint8 (B, R, T, 3, H, W), `ladder_bits` (B, R, T); if a task has judged the ladder,
        `ladder_degradation` (B, R, T, h, w).
        """

    @abstractmethod
    def predict(self, analysis: Analysis, qp: torch.Tensor, *, frame_numbers: Sequence[int] | None = None) -> Prediction:
        """Coded frames and log bits of M = B x N maps, those of one clip adjacent. Raises `ConfigError` (see `check_qp`).

        qp: (M, T, h, w, 52), the weight of every QP, summing to 1 over the last axis: one-hot (hard samples,
        straight-through or not) or soft. Differentiable in `qp`. frame_numbers: the frames to predict, by number (None: all);
        with fewer it is faster, and with none, [], there are bits only.
        """

    def group_predictor(self, sample: Sample) -> GroupPredictor:
        """How a training asks about the N maps of a batched sample.

        A function of their numbers int64 (K,) and of the frames to predict, which returns a prediction of B x K maps.
        """
        analysis, qp = self.analyse(sample), one_hot_qp(sample["qp"])
        return lambda maps, frames: self.predict(analysis, qp[:, maps].flatten(0, 1), frame_numbers=frames)

    def without_pixels(self, analysis: Analysis) -> Analysis:
        """Return an analysis small enough to keep, good for predictions of bits and degradation only (frame_numbers=[])."""
        return analysis

    def forward(self, sample: Sample, qp: torch.Tensor) -> Prediction:
        """`analyse`, then `predict`."""
        return self.predict(self.analyse(sample), qp)


def check_qp(qp: torch.Tensor, *, clips: tuple[int, int, int, int]) -> None:
    """Raise `ConfigError` unless `qp` (M, T, h, w, 52) holds maps for `clips`: their number, frames, rows and columns."""
    b, t, h, w = clips
    if qp.shape[0] % b or qp.shape[1:] != (t, h, w, NUM_QPS):
        raise ConfigError(
            f"QPs of shape {tuple(qp.shape)} do not fit {b} clip(s) of {t} frames, {h}x{w} macroblocks: "
            f"give (a multiple of {b}, {t}, {h}, {w}, {NUM_QPS})"
        )


def one_hot_qp(qp: torch.Tensor) -> torch.Tensor:
    """int64 (..., h, w) QPs to float (..., h, w, 52). Raises `ConfigError` for another type, and for one outside 0..51."""
    if qp.dtype != torch.int64:
        raise ConfigError(f"QPs to be made one-hot are int64, got {qp.dtype}: round them first, e.g. qp.round().long()")
    if qp.numel() and (int(qp.min()) < 0 or int(qp.max()) > MAX_QP):
        raise ConfigError(f"QPs go from 0 to {MAX_QP}, got {int(qp.min())}..{int(qp.max())}: clip the map first")
    return nn.functional.one_hot(qp, NUM_QPS).float()


def soft_qp(qp: torch.Tensor) -> torch.Tensor:
    """(..., 52): weights of the two integer QPs around `qp` (...), differentiable in it."""
    below = qp.detach().floor().clamp(0, MAX_QP - 1).long()
    weight = (qp - below)[..., None]
    hot = [nn.functional.one_hot(index, NUM_QPS).to(qp) for index in (below, below + 1)]
    return hot[0] * (1 - weight) + hot[1] * weight


def mean_qp(qp: torch.Tensor) -> torch.Tensor:
    """(...): the mean of distributions (..., 52) over QPs; of a one-hot, its QP."""
    return einsum(qp, torch.arange(NUM_QPS, dtype=qp.dtype, device=qp.device), "... q, q -> ...")


def activity(luma: torch.Tensor) -> torch.Tensor:
    """Absolute gradient of luma (..., H, W), down plus across, of the same shape."""
    return nn.functional.pad(luma.diff(dim=-2).abs(), (0, 0, 0, 1)) + nn.functional.pad(luma.diff(dim=-1).abs(), (0, 1))


_LEAST_ERROR = 1e-3  # a quarter of a grey level


def log_coding_error(coded: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """(..., h, w): log of every macroblock's mean absolute error, of coded against uncoded frames (..., 3, H, W), float 0..1."""
    return torch.log(per_macroblock((coded - frames).abs().mean(-3)) + _LEAST_ERROR)


def per_macroblock(x: torch.Tensor) -> torch.Tensor:
    """Mean over every macroblock: (..., H, W) to (..., h, w); the last ones may be cut by the frame."""
    height, width = x.shape[-2:]
    flat = x.reshape(-1, 1, height, width)
    padding = (0, -width % MACROBLOCK, 0, -height % MACROBLOCK)
    pooled = nn.functional.avg_pool2d(nn.functional.pad(flat, padding, mode="replicate"), MACROBLOCK)
    return pooled.reshape(*x.shape[:-2], *pooled.shape[-2:])
