"""`evaluate.py control`: every rate controller at every target on real encodes, judged by a task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from dvcc import units
from dvcc._files import check_writable
from dvcc.codecs import ABR, Codec, EncodedClip
from dvcc.codecs.cache import EncodeCache
from dvcc.config import EvaluateControlConfig
from dvcc.config.parse import to_dict
from dvcc.control.runtime import Control, load_control
from dvcc.errors import ConfigError
from dvcc.evaluation.control.clips import Judged, TestSet, find_test_set, load_test_clips, names_of
from dvcc.evaluation.control.report import write_report
from dvcc.evaluation.control.summary import seed_spread, summarise, summarise_labels
from dvcc.qp import MAX_QP, QPMap
from dvcc.rate_control import Means, RateController, build_rate_controller
from dvcc.surrogate import load_surrogate
from dvcc.tasks import Task, build_configured
from dvcc.tasks.judging import State, Truth, judge, label_frames, measure_frames, pooled, predict_frames
from dvcc.training.run import (
    build_codec,
    check_control,
    check_surrogate,
    refuse_training_videos,
    versions,
)

_SWEEP_BPP = (0.004, 0.6, 9)
"""Lowest and highest bits per pixel, and how many between, at which the baseline is tried."""

_REACH = 1.25
"""A target below this times the bits of the coarsest flat map (QP 51) is out of a clip's reach."""


@dataclass(frozen=True)
class Row:
    """One encode: a clip, a target, a controller, and what came out. status: "ok" or "unreachable". metric_of_labels: against
    those of the data set, NaN without any."""

    video: str
    start: int
    controller: str
    target_index: int
    target_kbps: float
    achieved_kbps: float
    bits_per_pixel: float
    metric: float
    loss: float
    num_encodes: int
    seconds_per_frame: float
    status: str = "ok"
    metric_of_labels: float = float("nan")


def run(config: EvaluateControlConfig) -> str:
    """Evaluate as configured, write the report, return its table and path."""
    codec = build_codec(config.codec)
    task = build_configured(config.task).eval()
    means = Means(codec, task=task, cache=EncodeCache(config.data.cache))
    if "search" in config.controllers:
        surrogate, stored = load_surrogate(config.surrogate)
        check_surrogate(config.surrogate, stored, codec=config.codec, rungs=config.data.rungs)
        means = replace(means, surrogate=surrogate.requires_grad_(False))
    tests = find_test_set(config.data)
    learned_from = None
    if any(name.startswith("learned") for name in config.controllers):
        path = Path(config.checkpoint or f"runs/control-{config.task.name}/control.onnx")
        control = load_fitting_control(path, config, tests.sources)
        learned_from, means = control.config, replace(means, control=control)
    controllers = {name: build_rate_controller(name, means) for name in config.controllers}
    runs = {"learned": learned_from["run"]} if learned_from and "learned" in controllers else {}
    for path in map(Path, config.extra_checkpoints):
        other = load_fitting_control(path, config, tests.sources)
        runs[f"learned {path.stem}"] = other.config.get("run", {})
        controllers[f"learned {path.stem}"] = build_rate_controller("learned", replace(means, control=other))
    if "abr2" not in controllers:
        raise ConfigError("controllers must include abr2, the baseline that the others are compared with")
    check_writable(config.out)
    judged, unstable = load_test_clips(config, tests, task)
    with Progress(transient=True) as progress:
        targets_bpp = find_targets(config, judged, codec, task, progress)
        rows, states, truths = measure(judged, targets_bpp, config.targets_kbps, controllers, codec, task, tests, progress)
    reached = [row.target_kbps for row in rows if row.status == "ok"]
    if not reached:
        least = codec.encode(judged[0].clip, QPMap.uniform(MAX_QP, like=judged[0].clip)).bitrate_kbps
        raise ConfigError(f"no target is within reach: {judged[0].video} takes {least:.1f} kbit/s at QP 51; raise targets_kbps")
    settings: dict[str, Any] = {"clips": names_of(judged), "bootstrap": config.bootstrap, "seed": config.seed}
    summary = summarise(rows, states, task, **settings)
    report = {
        "summary": summary,
        "seed_spread": seed_spread(summary, runs),
        "labels": summarise_labels(rows, truths, judged, task, tests, **settings),
        "labels_left_out": tests.notes(config.task.name, task, config.task.model),
        "metric": task.metric_name,
        "higher_is_better": bool(task.metric().higher_is_better),
        "lost_as": task.lost_as,
        "judge": config.task.model,
        "trained_for": learned_from and {key: learned_from["run"].get(key) for key in ("task", "data", "codec")},
        "targets_kbps": config.targets_kbps,
        "targets_bits_per_pixel": None if config.targets_kbps else targets_bpp,
        "clips": [{"video": j.video, "start": j.start, "agreement_under_noise": j.agreement} for j in judged],
        "unstable_clips": [{"video": j.video, "start": j.start, "agreement_under_noise": j.agreement} for j in unstable],
        "config": to_dict(config),
        "versions": versions(),
        "settings": codec.encode(judged[0].clip, ABR(max(reached))).settings,
    }
    return write_report(Path(config.out), report, [asdict(row) for row in rows], judged, controllers, task)


def load_fitting_control(path: Path, config: EvaluateControlConfig, videos: Sequence[Path]) -> Control:
    """The control at `path`. Raises `ConfigError` when it is for another encoder or has seen a test video."""
    control = load_control(path)
    check_control(path, control.config, codec=config.codec)
    refuse_training_videos(path, control.config, list(videos))
    return control


def find_targets(
    config: EvaluateControlConfig, judged: Sequence[Judged], codec: Codec, task: Task, progress: Progress
) -> list[float]:
    """Bits per pixel from where the baseline's metric is at the worse end of the task's range to the better end.

    Only two-pass ABR is looked at, so the choice favours no control. Not needed when `targets_kbps` are given.
    """
    if config.targets_kbps:
        return []
    some = judged[:: max(1, len(judged) // 4)]
    least = max(_REACH * codec.encode(j.clip, QPMap.uniform(MAX_QP, like=j.clip)).bits_per_pixel for j in some)
    labels = [label_frames(task, j.clip.frames) for j in some]
    sign = 1 if task.metric().higher_is_better else -1
    curve = []
    tried = np.geomspace(max(_SWEEP_BPP[0], least), max(_SWEEP_BPP[1], 2 * least), _SWEEP_BPP[2])
    for rate in progress.track(tried, description="finding the rates where the metric moves"):
        states = []
        for j, true in zip(some, labels, strict=True):
            kbps = units.bits_per_pixel_to_kbps(rate, fps=j.clip.fps, height=j.clip.height, width=j.clip.width)
            coded = codec.encode(j.clip, ABR(max(1.0, kbps)))
            states.append((coded.bits_per_pixel, measure_frames(task, coded.frames, true)))
        curve.append((float(np.mean([s[0] for s in states])), sign * pooled(task.metric(), [s[1] for s in states])))
    rates, values = (np.array(column) for column in zip(*curve, strict=True))
    values = np.maximum.accumulate(values)
    low, high = (float(np.exp(np.interp(sign * wanted, values, np.log(rates)))) for wanted in task.metric_range)
    if high < 1.5 * low:
        low, high = float(rates[0]), float(rates[-1])
    return [float(rate) for rate in np.geomspace(low, high, config.num_targets)]


def measure(
    judged: Sequence[Judged],
    targets_bpp: Sequence[float],
    targets_kbps: Sequence[float] | None,
    controllers: dict[str, RateController],
    codec: Codec,
    task: Task,
    tests: TestSet,
    progress: Progress,
) -> tuple[list[Row], list[State | None], list[State | None]]:
    """One row and one metric state per clip, target and controller, and one of the metric against labels; no state where the
    target is out of reach, or there are no labels."""
    rows: list[Row] = []
    states: list[State | None] = []
    truths: list[State | None] = []
    total = len(judged) * len(targets_kbps or targets_bpp) * len(controllers)
    bar = progress.add_task("encoding and judging", total=total)
    for j in judged:
        reference = predict_frames(task, j.clip.frames)
        size = {"fps": j.clip.fps, "height": j.clip.height, "width": j.clip.width}
        targets = targets_kbps or [units.bits_per_pixel_to_kbps(rate, **size) for rate in targets_bpp]
        least_kbps = codec.encode(j.clip, QPMap.uniform(MAX_QP, like=j.clip)).bitrate_kbps
        for index, target in enumerate(targets):
            for name, controller in controllers.items():
                row = _unreachable(j, name, index, float(target))
                state = truth = None
                if target >= max(1.0, _REACH * least_kbps):
                    began = time.perf_counter()
                    coded = controller.encode(j.clip, target)
                    seconds = (time.perf_counter() - began) / j.clip.num_frames
                    labels = None if j.labels is None else Truth(j.labels, tests.metric(task))
                    verdict = judge(task, coded.frames, reference, labels)
                    state, truth = verdict.state, verdict.state_of_truth
                    row = _filled(row, coded, verdict.metric, verdict.loss, seconds)
                    if truth is not None:
                        row = replace(row, metric_of_labels=pooled(tests.metric(task), [truth]))
                rows.append(row)
                states.append(state)
                truths.append(truth)
                progress.advance(bar)
    return rows, states, truths


def _unreachable(judged: Judged, controller: str, target_index: int, target_kbps: float) -> Row:
    """A row of which no encode was made."""
    return Row(
        judged.video,
        judged.start,
        controller,
        target_index,
        target_kbps,
        achieved_kbps=float("nan"),
        bits_per_pixel=float("nan"),
        metric=float("nan"),
        loss=float("nan"),
        num_encodes=0,
        seconds_per_frame=float("nan"),
        status="unreachable",
    )


def _filled(row: Row, coded: EncodedClip, metric: float, loss: float, seconds: float) -> Row:
    return replace(
        row,
        achieved_kbps=coded.bitrate_kbps,
        bits_per_pixel=coded.bits_per_pixel,
        metric=metric,
        loss=loss,
        num_encodes=coded.num_encodes,
        seconds_per_frame=seconds,
        status="ok",
    )
