"""Stage 2: a control network learns offsets from x264's QPs, through the surrogate, from what detectors see, or from both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from dvcc import units
from dvcc._files import check_writable, write_atomic
from dvcc.config import ControlConfig
from dvcc.config.build import build_codec, build_plan, build_task, build_training_clips, check_surrogate, ladder_settings
from dvcc.control.analysis import NUM_PLANES
from dvcc.control.boxes import BoxTeacher
from dvcc.control.deployed.onnx_export import export
from dvcc.control.deployed.reader import has_reader
from dvcc.control.eyes import kind_of, make_eyes
from dvcc.control.eyes.base import SCORES
from dvcc.control.eyes.painting import Rule, load_rule
from dvcc.control.ladder import LadderTeacher
from dvcc.control.module import BASELINES, ControlModule, Teachers
from dvcc.control.network import ControlNetwork, load_network
from dvcc.control.pictures import ControlPictures
from dvcc.control.planes import ClipPlanes
from dvcc.errors import ConfigError
from dvcc.surrogate import Surrogate, load_surrogate
from dvcc.surrogate.data import build_samples, load_predicted
from dvcc.surrogate.fill import fill_judged, fill_samples
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.predicted import PredictedLadders
from dvcc.surrogate.samples import ClipFrames, LadderSamples
from dvcc.tasks import DetectionTask, Task
from dvcc.training.files import first_process
from dvcc.training.folder import check_out
from dvcc.training.record import trained_on, versions
from dvcc.training.run import fit
from dvcc.training.workers import device_of

ALL_RATES = [0.001, 1.0]
"""Least and most bits per pixel that a control is told which no surrogate teaches: boxes ask for the same at all rates."""


def fit_prior(control: ControlNetwork, samples: LadderSamples, *, max_clips: int = 64) -> float:
    """Fit the rate prior of `control` on the ladders of up to `max_clips` clips. Returns the RMS error in QPs."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(max_clips, len(samples))).round().astype(int))
    clips, log_bpp = [], []
    for sample in (samples.without_pixels(int(index)) for index in chosen):
        num_frames, _, height, width = sample["frames"].shape
        clips.append(sample["frames"])
        bpp = units.bits_per_pixel(1.0, num_frames=num_frames, height=height, width=width)
        log_bpp.append(sample["ladder_bits"].sum(1).log() + math.log(bpp))
    return control.prior.fit(clips, torch.stack(log_bpp), torch.tensor(samples.qps, dtype=torch.float32))


def seen_rates(samples: LadderSamples) -> list[float]:
    """Return the least and most bits per pixel of x264's own maps: what a control is trained at."""
    rates = []
    for clip in range(len(samples.clips)):
        sample = samples.without_pixels(clip * samples.groups)
        height, width = sample["frames"].shape[-2:]
        per_kbps = units.kbps_to_bits_per_pixel(1.0, fps=float(sample["fps"]), height=height, width=width)
        rates += [float(kbps) * per_kbps for kbps in sample["baseline_kbps"]]
    return [min(rates), max(rates)]


def _rule(config: ControlConfig) -> Rule | None:
    """Return the published rule, if the control is to add to it. Raises `ConfigError` without the eyes that paint its boxes."""
    if not config.control.rule:
        return None
    rule = load_rule()
    eyes = kind_of(config.eyes.name)
    if eyes is None or eyes.file != rule.detector:
        raise ConfigError(f"control.rule=true adds to the boxes of {rule.detector}: set eyes.name=nanodet_plus_m")
    if (rule.unsure, rule.sure) != SCORES:
        raise ConfigError(
            f"eyes paint scores from {SCORES.unsure} to {SCORES.sure}, and checkpoints/objects.json from {rule.unsure} to "
            f"{rule.sure}: make dvcc/control/eyes/base.py and it say the same"
        )
    return rule


def _surrogate(config: ControlConfig) -> tuple[Surrogate | None, dict[str, Any]]:
    """Return the surrogate and its config, if a teacher asks it. Raises `ConfigError` for one that cannot."""
    if not (config.teacher.surrogate or config.teacher.ladder):
        if config.control.analysis:
            raise ConfigError(
                "control.analysis=true sees real encodes of the training clips, and boxes alone need none: set teacher.surrogate "
                "or teacher.ladder above 0"
            )
        return None, {}
    surrogate, stored = load_surrogate(config.surrogate)
    if not surrogate.reads_ladder and (config.teacher.ladder or config.control.analysis):
        raise ConfigError(
            f"{config.surrogate} reads no ladder, and teacher.ladder and control.analysis are made of one: set recipe=surrogate, "
            "or train surrogate.name=anchored"
        )
    check_surrogate(config.surrogate, stored, codec=config.codec, rungs=config.data.rungs if surrogate.reads_ladder else None)
    return surrogate, stored


def _predicted(config: ControlConfig, reader: Surrogate | None) -> tuple[PredictedLadders | None, dict[str, Any]]:
    """Return who predicts the ladders, if they are not encoded, and its config. Raises `ConfigError` for one that cannot."""
    if config.ladder is None:
        return None, {}
    if reader is None:
        raise ConfigError(f"ladder={config.ladder} is for what a ladder teaches, and boxes alone need none: leave it out")
    predicted, stored = load_predicted(config.ladder, reader=reader)
    check_surrogate(config.ladder, stored, codec=config.codec, rungs=None)
    return predicted, stored


def _detectors(config: ControlConfig, task: Task) -> Sequence[DetectionTask]:
    """Return the detectors whose boxes teach. Raises `ConfigError` for another task."""
    if not config.teacher.boxes:
        return []
    if not isinstance(task, DetectionTask):
        raise ConfigError(f"teacher.boxes are those of detectors, and the task is {config.task.name}: set task=detection")
    return [DetectionTask(model=model).eval() for model in config.teacher.detectors] or [task]


def _start(control: ControlNetwork, path: str) -> dict[str, Any]:
    """Give `control` the weights of a trained one, and return what that stores. Raises `ConfigError` for one of another shape."""
    trained, stored = load_network(path)
    ours = ("gop", "rates", "analysis")  # which a control is told, or which says who reads an analysis: not its shape
    shapes = [{k: v for k, v in network.config.items() if k not in ours} for network in (trained, control)]
    if shapes[0] != shapes[1] or ("analysis" in trained.config) != ("analysis" in control.config):
        raise ConfigError(f"{path} is a control of {trained.config}, and {control.config} is asked for: set the same control.*")
    control.load_state_dict(trained.state_dict())
    return stored


def run(config: ControlConfig) -> Path | str:
    """Train a control as configured; returns the path of control.onnx, or the place of a cache that was only filled.

    The weights, control.safetensors, and the files of its eyes and of the network that reads analysis encodes are beside it.

    Raises `ConfigError` for a surrogate of another encoder, or one that reads no ladder where the control is taught by it, for
    unknown eyes, and for boxes of another task than detection.
    """
    plan = build_plan(config)
    if not config.cache_only:
        check_out(plan)
    kind_of(config.eyes.name)
    rule = _rule(config)
    L.seed_everything(config.seed, verbose=False)
    codec = build_codec(config.codec)
    surrogate, stored = _surrogate(config)
    predicted, of_predicted = _predicted(config, surrogate)
    task = build_task(config.task)
    if surrogate is not None:
        task.check_trainable()
    detectors = _detectors(config, task)
    data, seed = config.data, config.seed
    clips = build_training_clips(data, seed=seed)
    # A judge looks at all rungs once more: encodes are kept, and predictions have to be.
    of_ladder: dict[str, Any] = {"predicted": predicted, "store_pixels": predicted is not None and data.store_pixels}
    samples = build_samples(clips, codec, **ladder_settings(data, seed=seed), baselines=BASELINES, **of_ladder)
    if not config.cache_only:
        check_writable(config.out)  # before the encodes
    filling: dict[str, Any] = {"engine": config.engine, "workers": data.cache_workers}
    if surrogate is not None:
        fill_samples(samples, **filling)
        if surrogate.reads_ladder:
            device = device_of(config.trainer.accelerator)
            fill_judged(JudgedLadders(task, samples), partial(build_task, config.task), **filling, device=device)
    boxes = BoxTeacher(detectors, samples, rule or load_rule(), gop=config.codec.gop) if detectors else None
    if boxes is not None:
        fill_samples(boxes, engine="processes", workers=1, to="show to detectors", title="detecting")
    looking, folder = config.eyes, samples.cache.entries.folder / "eyes"
    made = make_eyes(looking.name, features=looking.features, every=looking.every, folder=folder)
    planes = None if made is None else ClipPlanes(made[0], samples)
    if planes is not None:
        fill_samples(planes, **filling, to="look at", title="looking")
    analysed = config.control.analysis and has_reader(config.task.model)
    reads = make_eyes(config.task.model, features="none", every=1, folder=folder) if analysed else None
    model = config.control
    L.seed_everything(config.seed, verbose=False)  # again: what fills the caches draws, and a run from full ones does not
    control = ControlNetwork(
        width=model.width,
        gop=config.codec.gop,
        max_delta_qp=model.max_delta_qp,
        blur_sigma=model.blur_sigma,
        extra_planes=(0 if made is None else made[0].num_planes) + (NUM_PLANES if model.analysis else 0),
        eyes=None if made is None else made[0].settings,
        rates=ALL_RATES if surrogate is None else seen_rates(samples),
        rule=None if rule is None else asdict(rule),
        averaged=model.averaged,
        analysis=None if not model.analysis else {} if reads is None else reads[0].settings,
    )
    begun_from = [] if config.start is None else [_start(control, config.start)]
    ladder = LadderTeacher(task, surrogate, samples) if surrogate is not None and config.teacher.ladder else None
    weights = config.teacher
    teachers = Teachers(surrogate, ladder, boxes, weights.surrogate, weights.ladder, weights.boxes)
    rates, learning_rate = config.rates_per_clip, config.learning_rate
    module = ControlModule(control, teachers, task, samples, planes, rates_per_clip=rates, learning_rate=learning_rate)
    if ladder is not None:
        module.to(device_of(config.trainer.accelerator)).fill(ladder)
    if config.cache_only:
        return data.cache
    if surrogate is not None:
        error = fit_prior(control, samples)
        print(f"rate prior fitted on {len(samples)} clips: RMS error {error:.2f} QPs")
    out, frames = plan.out, ClipFrames(samples, coded=surrogate is not None)
    pictures = ControlPictures(lambda: frames.at_step(0, 0), out / "pictures", every=config.logger.pictures_every)
    fit(module, frames, plan, callbacks=[pictures])
    path = out / "control.safetensors"
    if not first_process():
        return path
    seen = trained_on(samples.clips, stored, of_predicted, *begun_from)
    control.save(path, {"run": plan.lasting_settings, "trained_on": seen, **versions()})
    for network in (made, reads):
        if network is not None:
            write_atomic(out / network[0].file, network[1].read_bytes())
    return export(path)
