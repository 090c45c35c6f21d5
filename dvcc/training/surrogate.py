"""Stage 1: a surrogate learns to predict coded frames and bits of random QP maps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from einops import rearrange
from kornia.losses import ssim_loss
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from dvcc.config import SurrogateConfig, to_dict
from dvcc.data.module import Sample
from dvcc.surrogates import Prediction, Surrogate, build_surrogate, one_hot_qp
from dvcc.tasks.base import as_float
from dvcc.training.run import build_codec, build_samples, check_finite, check_finite_gradients, fit, seed_step, versions
from dvcc.training.visuals import SurrogatePictures
from dvcc.weights import Weights, save_weights

_SSIM_WEIGHT, _FRAME_BITS_WEIGHT, _CLIP_BITS_WEIGHT = 0.1, 0.1, 0.1
"""L1 is about 0.01 at the QPs in use, and the others should not drown it."""


def surrogate_losses(prediction: Prediction, sample: Sample) -> dict[str, torch.Tensor]:
    """Every term by its name, scalars: `l1` and `ssim` of the frames, |log bits error| of the frames and of the clip."""
    coded = as_float(sample["coded_frames"])
    log_bits = torch.log(sample["coded_bits"])
    predicted, wanted = (rearrange(x, "b t c h w -> (b t) c h w") for x in (prediction.frames, coded))
    return {
        "l1": (prediction.frames - coded).abs().mean(),
        "ssim": ssim_loss(predicted, wanted, window_size=11),
        "frame_bits": (prediction.log_bits - log_bits).abs().mean(),
        "clip_bits": (prediction.log_clip_bits - torch.logsumexp(log_bits, 1)).abs().mean(),
    }


class SurrogateModule(L.LightningModule):
    """Trains a `Surrogate`; logs every term, and the error of the trivial answer (copy the input) beside it."""

    def __init__(self, surrogate: Surrogate, config: SurrogateConfig) -> None:
        super().__init__()
        self.surrogate, self.config = surrogate, config

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Noise depends on (seed, step) alone, so that a resumed run draws the same."""
        seed_step(self.config.seed, self.global_step, rank=self.global_rank)

    def training_step(self, batch: Sample, batch_idx: int) -> torch.Tensor:
        """One map of one clip."""
        losses = surrogate_losses(self.surrogate(batch, one_hot_qp(batch["qp"])), batch)
        total = losses["l1"] + _SSIM_WEIGHT * losses["ssim"]
        total = total + _FRAME_BITS_WEIGHT * losses["frame_bits"] + _CLIP_BITS_WEIGHT * losses["clip_bits"]
        check_finite(total, step=self.global_step, terms=losses)
        copy = (as_float(batch["frames"]) - as_float(batch["coded_frames"])).abs().mean()
        self.log_dict({"loss": total, "l1_of_copy": copy, "ssim": losses["ssim"], "frame_bits": losses["frame_bits"]})
        self.log_dict({"l1": losses["l1"], "clip_bits": losses["clip_bits"]}, prog_bar=True)
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A finite loss can have a gradient that is not."""
        check_finite_gradients(self.surrogate, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam with a cosine schedule over the run."""
        return adam_with_cosine(self.surrogate, self.config.learning_rate, self.config.trainer.max_steps)


def adam_with_cosine(module: torch.nn.Module, learning_rate: float, steps: int) -> OptimizerLRSchedulerConfig:
    """Adam over what trains, its rate falling to a hundredth over `steps`."""
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=learning_rate)
    # As a function of the step and not with a state of its own: a run that is resumed for longer gets the longer cosine.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.505 + 0.495 * math.cos(math.pi * min(1.0, step / steps))
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run(config: SurrogateConfig) -> Path:
    """Train a surrogate as configured; returns the path of its weights."""
    L.seed_everything(config.seed, verbose=False)
    samples = build_samples(config.data, build_codec(config.codec), maps_per_clip=config.data.maps_per_clip, seed=config.seed)
    model: dict[str, Any] = {
        "name": config.surrogate.name,
        "qps": list(config.data.rungs),
        "gop": config.codec.gop,
        "width": config.surrogate.width,
    }
    module = SurrogateModule(build_surrogate(**model), config)
    out = Path(config.out)
    fit(module, samples, config, callbacks=[SurrogatePictures(samples, out / "pictures", every=config.logger.pictures_every)])
    path = out / "surrogate.safetensors"
    save_weights(
        path, Weights("surrogate", {"surrogate": model, "run": to_dict(config), **versions()}, module.surrogate.state_dict())
    )
    return path
