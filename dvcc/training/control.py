"""Stage 2: the control network learns through the surrogate, on the Lagrangian of task and rate."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import torch

from dvcc.config import to_dict
from dvcc.control import ControlNetwork
from dvcc.data.module import ClipFrames, LadderSamples
from dvcc.errors import ConfigError
from dvcc.settings import ControlConfig
from dvcc.surrogates import load_surrogate
from dvcc.tasks import build_task
from dvcc.training.control_module import ControlModule, log_bits_to_bits_per_pixel
from dvcc.training.offset_module import BASELINES, OffsetModule
from dvcc.training.run import build_codec, build_samples, check_resumed, check_surrogate, fit, trained_on, versions
from dvcc.training.visuals import ControlPictures


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
    offset, on_ladder = config.control.mode == "offset", config.objective.judge == "ladder"
    if offset and not on_ladder:
        raise ConfigError("control.mode=offset reads the task's loss off the ladder: leave objective.judge=ladder")
    codec = build_codec(config.codec)
    surrogate, stored = load_surrogate(config.surrogate)
    check_surrogate(config.surrogate, stored, codec=config.codec, rungs=config.data.rungs)
    if on_ladder and not surrogate.reads_ladder:
        raise ConfigError(f"{config.surrogate} predicts without a ladder, so nothing can be read off it: objective.judge=frames")
    task = build_task(config.task.name, model=config.task.model, weights=config.task.weights)
    samples = build_samples(config.data, codec, seed=config.seed, with_maps=False, baselines=BASELINES if offset else 0)
    model = config.control
    control = ControlNetwork(width=model.width, gop=config.codec.gop, reach=model.reach, mode=model.mode)
    error = fit_prior(control, samples)
    print(f"flat start fitted on {len(samples)} clips: RMS error {error:.2f} QPs")
    module = (OffsetModule if offset else ControlModule)(control, surrogate, task, config, samples)
    out = Path(config.out)
    pictures = ControlPictures(samples, out / "pictures", every=config.logger.pictures_every)
    fit(module, ClipFrames(samples) if on_ladder else samples, config, callbacks=[pictures])
    path = out / "control.safetensors"
    control.save(path, {"run": to_dict(config), "trained_on": trained_on(samples, stored), **versions()})
    return path
