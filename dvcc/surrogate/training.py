"""Stage 1: a surrogate learns to predict coded frames and bits of random QP maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from einops import rearrange
from kornia.losses import ssim_loss

from dvcc._files import check_writable
from dvcc.config import SurrogateConfig
from dvcc.config.build import (
    build_codec,
    build_plan,
    build_surrogate_clips,
    build_task,
    check_surrogate,
    ladder_settings,
    map_settings,
)
from dvcc.config.parse import to_dict
from dvcc.errors import ConfigError
from dvcc.networks.weights import Weights, save_weights
from dvcc.pixels import as_float
from dvcc.surrogate import Prediction, StructuredSurrogate, Surrogate, build_surrogate, default_width, load_surrogate
from dvcc.surrogate.base import GroupPredictor, log_coding_error, per_macroblock
from dvcc.surrogate.control_variates import control_variate_loss
from dvcc.surrogate.data import build_samples
from dvcc.surrogate.fill import fill_samples
from dvcc.surrogate.judged import Judge
from dvcc.surrogate.pictures import SurrogatePictures
from dvcc.surrogate.samples import Sample
from dvcc.surrogate.step_samples import StepSamples
from dvcc.surrogate.structured.layers import LayerSamples
from dvcc.tasks.base import Task
from dvcc.training.files import first_process
from dvcc.training.folder import check_out
from dvcc.training.record import trained_on, versions
from dvcc.training.run import check_finite, check_finite_gradients, fit
from dvcc.training.steps import adam, without_drawing


def frame_losses(prediction: Prediction, coded_frames: torch.Tensor, frames: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses of predicted against really coded frames (M, S, 3, H, W), scalars by name. frames: the uncoded ones."""
    coded = as_float(coded_frames)
    predicted, wanted = (rearrange(x, "m s c h w -> (m s) c h w") for x in (prediction.frames, coded))
    terms = {
        "l1": (prediction.frames - coded).abs().mean(),
        "ssim": 2 * ssim_loss(predicted, wanted, window_size=11),  # kornia's is (1 - SSIM) / 2
        "frequency": frequency_loss(predicted, wanted),
    }
    if prediction.candidates is not None:
        pictures, chance = prediction.candidates
        low, high = (per_macroblock((picture - coded).abs().mean(2)) for picture in pictures)
        terms["candidates"] = torch.lerp(low, high, chance).mean()
    if prediction.log_error is not None:
        terms["error"] = (prediction.log_error - log_coding_error(coded, as_float(frames))).abs().mean()
    return terms


def frequency_loss(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean difference of the spectra of pictures (N, 3, H, W), weighted by spatial frequency (0 to 1 at Nyquist).

    L1 and SSIM forgive a blur; a network that looks at edges does not.
    """
    height, width = predicted.shape[-2:]
    rows = torch.fft.fftfreq(height, device=predicted.device)[:, None]
    columns = torch.fft.rfftfreq(width, device=predicted.device)
    weight = 2 * torch.hypot(rows, columns)
    # In float32 also under mixed precision: half-precision transforms exist for few sizes only.
    spectrum = torch.fft.rfft2((predicted - wanted).mean(1).float(), norm="ortho")
    return (weight * spectrum.abs()).mean()


def bits_losses(log_bits: torch.Tensor, coded_bits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses of predicted log bits against the real bits of every frame, both (B, N, T) of N maps per clip."""
    real = torch.log(coded_bits)
    clip, real_clip = log_bits.logsumexp(-1), real.logsumexp(-1)
    return {
        "frame_bits": (log_bits - real).abs().mean(),
        "clip_bits": (clip - real_clip).abs().mean(),
        "cv_bits": control_variate_loss(real_clip, clip),
    }


class SurrogateModule(L.LightningModule):
    """Trains a `Surrogate`; logs every term, and the error of the trivial answer (copy the input) beside it.

    weights: of the losses by name (`frame_losses`, `bits_losses`, cv_task). maps_with_frames: maps of a group whose frames are
    predicted. cv_frames: in a row, that the task is asked about. task: whose loss L_cv is about; None without that term.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        *,
        weights: Mapping[str, float],
        maps_with_frames: int,
        cv_frames: int,
        learning_rate: float,
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.surrogate, self.task, self.weights, self.learning_rate = surrogate, task, weights, learning_rate
        self.maps_with_frames, self.cv_frames = maps_with_frames, cv_frames
        self._judge = None if task is None else Judge(task)

    def training_step(self, batch: Sample, batch_idx: int) -> torch.Tensor:
        """One group of maps per clip: bits of all of them, frames of some."""
        b, n = batch["qp"].shape[:2]
        if self._judge is not None and self.surrogate.reads_ladder:
            with without_drawing(self.device):
                batch = self._judge.with_degradation(batch)
        predict = self.surrogate.group_predictor(batch)
        bits = predict(torch.arange(n, device=self.device), [])
        pictured = batch["shown"][0, : self.maps_with_frames]
        asked = batch["asked"][0].tolist()
        coded_frames = batch["coded_frames"][:, : len(pictured), asked]
        with_frames = predict(pictured, asked)
        losses = bits_losses(bits.log_bits.unflatten(0, (b, n)), batch["coded_bits"])
        uncoded = batch["frames"][:, asked].repeat_interleave(len(pictured), 0)
        losses |= frame_losses(with_frames, coded_frames.flatten(0, 1), uncoded)
        if self._judge is not None and bits.degradation is not None:
            imitated = self._judge.task.loss_of(bits.degradation).view(b, n).gather(1, batch["shown"])
            with without_drawing(self.device):
                real = self._judge.losses(batch)
            losses["cv_task"] = control_variate_loss(real, imitated)
        elif self.task is not None:
            losses["cv_task"] = self._cv_task(self.task, predict, batch, self._adjacent(asked[0], batch["qp"].shape[2]))
        total = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        check_finite(total, step=self.global_step, terms=losses)
        copy = (as_float(batch["frames"])[:, None, asked] - as_float(coded_frames)).abs().mean()
        for name, value in {**losses, "copy_l1": copy, "loss": total}.items():
            self.log(name, value, prog_bar=name in ("l1", "clip_bits"))
        return total

    def _adjacent(self, frame: int, num_frames: int) -> list[int]:
        """`cv_frames` frames in a row, from this one if there are enough: a task may look at motion."""
        count = min(self.cv_frames, num_frames)
        first = min(frame, num_frames - count)
        return list(range(first, first + count))

    def _cv_task(self, task: Task, predict: GroupPredictor, batch: Sample, asked: list[int]) -> torch.Tensor:
        """L_cv of the task's loss on the predicted frames `asked`, over all maps of a clip: without a ladder to read."""
        b, n = batch["qp"].shape[:2]
        predicted = predict(batch["shown"][0], asked).frames  # in the order of the coded frames
        with torch.no_grad():
            reference = task.predict(as_float(batch["frames"][:, asked])).repeat_interleave(n, 0)
            real = task.loss(task.predict(as_float(batch["coded_frames"][:, :, asked].flatten(0, 1))), reference)
        imitated = task.loss(task.predict(predicted), reference)
        return control_variate_loss(real.view(b, n), imitated.view(b, n))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the task network out: it does not change, and is not stored again."""
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith("task.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put it back, as it stands."""
        checkpoint["state_dict"].update({k: v for k, v in self.state_dict().items() if k.startswith("task.")})

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Check the gradient: a finite loss can have one that is not finite."""
        check_finite_gradients(self.surrogate, step=self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; its rate is set at every step (see `Steps`)."""
        return adam(self.surrogate, self.learning_rate)


def build_module(surrogate: Surrogate, config: SurrogateConfig, task: Task | None = None) -> SurrogateModule:
    """Build the configured training of `surrogate`."""
    return SurrogateModule(
        surrogate,
        weights=to_dict(config.losses),
        maps_with_frames=config.data.maps_with_frames,
        cv_frames=config.losses.cv_frames,
        learning_rate=config.learning_rate,
        task=task,
    )


def run(config: SurrogateConfig) -> Path | str:
    """Train a surrogate as configured; returns the path of its weights, or the place of a cache that was only filled.

    Raises `ConfigError` when `start` is a surrogate of another shape, or of another encoder.
    """
    plan = build_plan(config)
    if not config.cache_only:
        check_out(plan)
    L.seed_everything(config.seed, verbose=False)
    codec, data = build_codec(config.codec), config.data
    model: dict[str, Any] = {
        "name": config.surrogate.name,
        "qps": list(config.data.rungs),
        "gop": config.codec.gop,
        "width": config.surrogate.width or default_width(config.surrogate.name),
        "flow": config.surrogate.flow,
        "flow_weights": config.surrogate.flow_weights,
    }
    surrogate = build_surrogate(**model)
    begun_from: list[dict[str, Any]] = []
    if config.start is not None:
        surrogate, stored = load_surrogate(config.start)
        check_surrogate(config.start, stored, codec=config.codec, rungs=data.rungs if surrogate.reads_ladder else None)
        if {**stored["surrogate"], "qps": model["qps"]} != model:  # rungs are checked where they matter
            raise ConfigError(f"{config.start} is the surrogate {stored['surrogate']}, and {model} is asked for: set the same")
        begun_from.append(stored)
    task = None
    maps = map_settings(data)
    if config.mean_qps is not None:
        maps["mean_qps"] = tuple(config.mean_qps)
    if config.losses.cv_task:
        task = build_task(config.task).requires_grad_(False)
        maps["maps_with_frames"] = data.maps_per_clip  # the real loss of every map is needed
    clips = build_surrogate_clips(config)
    samples = build_samples(clips, codec, **ladder_settings(data, seed=config.seed), **maps)
    if not config.cache_only:
        check_writable(config.out)  # before the encodes
    filling: dict[str, Any] = {"engine": config.engine, "workers": data.cache_workers}
    fill_samples(samples, **filling)
    looked_at: dict[str, Any] = {"frames": config.losses.frames, "seed": config.seed, "whole": task is not None}
    seen: StepSamples | LayerSamples
    if isinstance(surrogate, StructuredSurrogate):
        seen = LayerSamples(samples, surrogate, **looked_at)
        fill_samples(seen, **filling, to="run the layers on", title="layers")
    else:
        seen = StepSamples(samples, **looked_at)
    if config.cache_only:
        return data.cache
    module = build_module(surrogate, config, task)
    out = plan.out
    pictures = SurrogatePictures(lambda: samples[0], out / "pictures", every=config.logger.pictures_every)
    fit(module, seen, plan, callbacks=[pictures])
    path = out / "surrogate.safetensors"
    if not first_process():
        return path
    about = {"surrogate": model, "run": plan.lasting_settings, "trained_on": trained_on(samples.clips, *begun_from), **versions()}
    save_weights(path, Weights("surrogate", about, surrogate.state_dict()))
    return path
