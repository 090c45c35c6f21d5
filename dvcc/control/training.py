"""Stage 2: the control network learns through the surrogate, on the Lagrangian of task and rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import torch

from dvcc.config import ControlConfig, SurrogateConfig, SurrogateModel
from dvcc.config.parse import to_dict
from dvcc.control import ControlNetwork
from dvcc.control.control_module import ControlModule, log_bits_to_bits_per_pixel
from dvcc.control.offset_module import BASELINES, OffsetModule
from dvcc.errors import ConfigError
from dvcc.surrogate import load_surrogate
from dvcc.surrogate import training as train_surrogate
from dvcc.surrogate.samples import ClipFrames, LadderSamples
from dvcc.tasks import build_task
from dvcc.training.pictures import ControlPictures
from dvcc.training.run import build_codec, build_samples, check_resumed, check_surrogate, fit, trained_on, versions


def fit_prior(control: ControlNetwork, samples: LadderSamples, *, max_clips: int = 64) -> float:
    """Fit the flat start of `control` on the ladders of up to `max_clips` clips. Returns the RMS error in QPs."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(max_clips, len(samples))).round().astype(int))
    clips, log_bpp = [], []
    for sample in (samples[int(index)] for index in chosen):
        clips.append(sample["frames"])
        log_bpp.append(sample["ladder_bits"].sum(1).log() + log_bits_to_bits_per_pixel(sample["frames"]))
    return control.prior.fit(clips, torch.stack(log_bpp), torch.tensor(samples.qps, dtype=torch.float32))


def run(config: ControlConfig) -> Path:
    """Train a control as configured; returns the path of its weights."""
    check_resumed(config)
    L.seed_everything(config.seed, verbose=False)
    absolute, on_ladder = config.control.mode == "absolute", config.objective.judge == "ladder"
    if not absolute and not on_ladder:
        raise ConfigError(f"control.mode={config.control.mode} reads the loss off the ladder: leave objective.judge=ladder")
    if config.resume and config.objective.refresh_every:
        raise ConfigError("a run with objective.refresh_every cannot be resumed, as its surrogate changes: start it anew")
    codec = build_codec(config.codec)
    surrogate, stored = load_surrogate(config.surrogate)
    check_surrogate(config.surrogate, stored, codec=config.codec, rungs=config.data.rungs)
    if on_ladder and not surrogate.reads_ladder:
        raise ConfigError(f"{config.surrogate} predicts without a ladder, so nothing can be read off it: objective.judge=frames")
    task = build_task(config.task.name, model=config.task.model, weights=config.task.weights)
    samples = build_samples(config.data, codec, seed=config.seed, with_maps=False, baselines=0 if absolute else BASELINES)
    model = config.control
    control = ControlNetwork(
        width=model.width, gop=config.codec.gop, reach=model.reach, smoothness=model.smoothness, mode=model.mode
    )
    error = fit_prior(control, samples)
    print(f"flat start fitted on {len(samples)} clips: RMS error {error:.2f} QPs")
    module = (ControlModule if absolute else OffsetModule)(control, surrogate, task, config, samples)
    out = Path(config.out)
    pictures = ControlPictures(samples, out / "pictures", every=config.logger.pictures_every)
    seen = ClipFrames(samples) if on_ladder else samples
    path = out / "control.safetensors"
    about = {"run": to_dict(config), "trained_on": trained_on(samples, stored), **versions()}
    surrogate_path, resume = config.surrogate, config.resume
    for steps in _stops(config):
        # Every part goes on where the last one stopped; the module's own config keeps the schedule of the whole run.
        part = replace(config, trainer=replace(config.trainer, max_steps=steps), resume=resume)
        fit(module, seen, part, callbacks=[pictures])
        control.save(path, about)
        if steps < config.trainer.max_steps:
            surrogate_path = refresh(config, surrogate_path, path, out / f"surrogate-{steps}")
            module.renew(load_surrogate(surrogate_path)[0])
            resume = True
    return path


def _stops(config: ControlConfig) -> list[int]:
    """The steps at which a part of the run ends: every `objective.refresh_every`, and the last."""
    last = config.trainer.max_steps
    return [*range(every, last, every), last] if (every := config.objective.refresh_every) else [last]


def refresh(config: ControlConfig, surrogate_path: str, control_path: Path, out: Path) -> str:
    """Train the surrogate for `objective.refresh_steps` on maps of which a quarter are the control's; returns its path.

    A control leaves the maps that its surrogate was trained on, the further the more it learns; there the surrogate may promise
    what the codec does not keep.
    """
    _, stored = load_surrogate(surrogate_path)
    shape = {key: stored["surrogate"][key] for key in ("name", "width", "flow", "flow_weights")}
    trainer = replace(config.trainer, max_steps=config.objective.refresh_steps, gradient_clip_val=1.0)
    again = SurrogateConfig(
        data=config.data,
        codec=config.codec,
        seed=config.seed,
        out=str(out),
        trainer=trainer,
        logger=config.logger,
        surrogate=SurrogateModel(**shape),
        task=config.task,
        start=surrogate_path,
        control=str(control_path),
    )
    return str(train_surrogate.run(again))
