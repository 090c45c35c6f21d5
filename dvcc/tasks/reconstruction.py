"""No network: the coded frames themselves, judged by PSNR or SSIM."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from einops import rearrange

from dvcc.errors import ConfigError
from dvcc.pixels import as_float
from dvcc.tasks.base import MeanScore, Task, check_rgb
from dvcc.tasks.metric import Metric

_AT_ONCE = 1 << 15  # pixels whose error is summed
_MSE_FLOOR = 1e-6  # 60 dB: beyond it a better picture earns nothing
_WINDOW = 11


def check_metric(metric: str) -> None:
    """Raise `ConfigError` for another name than psnr and ssim."""
    if metric not in ("psnr", "ssim"):
        raise ConfigError(f"reconstruction is judged by psnr or ssim, not {metric!r}: set task.model to one of them")


class ReconstructionTask(Task):
    """PSNR (dB, over the whole set's squared error) or SSIM (mean over frames)."""

    def __init__(self, *, metric: Literal["psnr", "ssim"] = "psnr") -> None:
        super().__init__()
        check_metric(metric)
        self._metric = metric
        self.metric_name, self.metric_range = {"psnr": ("PSNR (dB)", (30.0, 40.0)), "ssim": ("SSIM", (0.8, 0.98))}[metric]

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the frames as float 0..1."""
        check_rgb(frames, task="reconstruction")
        return as_float(frames)

    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, .., H, W): squared error, or 1 - SSIM, mean over the colours."""
        if self._metric == "psnr":
            return (prediction - reference).square().mean(-3)
        return (1 - _ssim(prediction, reference)).mean(1).unflatten(0, prediction.shape[:-3])

    def loss_of(self, mean_degradation: torch.Tensor) -> torch.Tensor:
        """(B,): -PSNR / 10 above its least, or 1 - SSIM."""
        if self._metric == "ssim":
            return mean_degradation
        return torch.log10(mean_degradation + _MSE_FLOOR) - math.log10(_MSE_FLOOR)

    def metrics(self) -> dict[str, Metric]:
        """PSNR in dB or SSIM, of frames in 0..1."""
        return {self.metric_name: _PSNR() if self._metric == "psnr" else MeanScore(_mean_ssim)}

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return 1: there is no network that could disagree with itself."""
        return torch.ones(len(prediction), device=prediction.device)


class _PSNR(Metric):
    """PSNR in dB of the squared error of a whole set, frames in 0..1."""

    squared_error: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("squared_error", torch.tensor(0.0, dtype=torch.float64))
        self.add_state("count", torch.tensor(0.0, dtype=torch.float64))

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:
        """Both float 0..1, or both uint8 0..255, which is exact and takes a tenth of the time."""
        if prediction.dtype == labels.dtype == torch.uint8:
            self.squared_error += _squared_error(prediction.cpu().numpy(), labels.cpu().numpy()) / 255**2
        else:
            self.squared_error += (prediction - labels).double().square().sum()
        self.count += prediction.numel()

    def compute(self) -> torch.Tensor:
        return -10 * torch.log10(self.squared_error / self.count)


def _squared_error(a: np.ndarray, b: np.ndarray) -> int:
    """Return the sum over all pixels of uint8 arrays, a little at a time: what a core keeps near is twice as fast."""
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    total = 0.0  # whole numbers below 2^53
    for start in range(0, flat_a.size, _AT_ONCE):
        difference = np.subtract(flat_a[start : start + _AT_ONCE], flat_b[start : start + _AT_ONCE], dtype=np.float64)
        # By no BLAS, whose threads wait for one another for longer than the sum takes.
        total += float(np.einsum("i,i", difference, difference))
    return int(total)


def _mean_ssim(prediction: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N,): SSIM of frames in 0..1, the mean over colours and pixels."""
    return _ssim(prediction, labels).mean((1, 2, 3))


def _ssim(prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W): SSIM around every pixel of every frame, which is reflected at its borders."""
    from kornia.metrics import ssim  # half a second, which only this metric needs

    coded, uncoded = (rearrange(x, "... c h w -> (...) c h w") for x in (prediction, reference))
    return ssim(coded, uncoded, _WINDOW)
