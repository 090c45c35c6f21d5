"""`train.py calibrate`: how strong offsets should be for your network, by real encodes of some videos; others say the gain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dvcc._files import check_writable, write_atomic
from dvcc._words import counted
from dvcc.config import CalibrateConfig, EvaluateControlConfig
from dvcc.config.build import check_control
from dvcc.config.parse import to_dict
from dvcc.control.deployed.onnx_export import control_to_onnx, export
from dvcc.control.deployed.runtime import Control
from dvcc.control.network import ControlNetwork, load_network
from dvcc.datasets.splits import split_data
from dvcc.errors import ConfigError
from dvcc.evaluation.control.measure import Bench, looking_once
from dvcc.evaluation.control.run import build_bench, find_targets
from dvcc.evaluation.control.summary import summarise
from dvcc.evaluation.control.workers import opened
from dvcc.evaluation.tables import markdown_table
from dvcc.rate_control import Means, RateController, build_rate_controller
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.objects import OWN_STRENGTH, Objects, looking_every, with_strength
from dvcc.rate_control.oracle import objects_of
from dvcc.rate_control.task_reader import TaskReader
from dvcc.tasks import DetectionTask, Task

Side = Literal["fit", "held out"]
_ALONE = "x264 alone"


def run(config: CalibrateConfig) -> str:
    """Choose a strength on the training videos, measure it on the others, write what came of it, and return its table.

    The choice has the least bits at equal task loss, which is less noisy than the metric. Raises `ConfigError` for a task other
    than detection without a control, a control of another encoder, or when a side has no video.
    """
    check_writable(config.out)
    found = _measure(config, "fit", config.strengths, config.targets_bpp)
    best = min(config.strengths, key=lambda strength: _bits(found["summary"][_name(strength)]))
    figures = found["summary"][_name(best)]
    if figures["bd_rate_of_loss_percent"] is None:
        why = figures["bd_basis"]["reason_of_loss"]
        raise ConfigError(f"the videos do not tell which strength is best: {why}; set targets_bpp, or give other videos")
    gains = _bits(figures) < 0
    held = _measure(config, "held out", [best], found["targets_bpp"])
    out = Path(config.out)
    chosen = best if gains else 0.0
    result = {"strength": chosen, "fit": found, "held_out": held, "config": to_dict(config)}
    write_atomic(out / "calibration.json", json.dumps(result, indent=1))
    lines = [_table(found, "chosen on"), _table(held, "held out:"), _deliver(config, chosen, out)]
    return "\n\n".join(lines)


def _measure(
    config: CalibrateConfig, side: Side, strengths: Sequence[float], targets_bpp: Sequence[float] | None
) -> dict[str, Any]:
    """Encode and judge one side of the videos at every strength; held out, as `dvcc encode` codes."""
    build = partial(_bench, config, side, tuple(strengths))
    bench = build()
    clips = range(len(bench.tests.names))
    with opened(bench, build, engine=config.engine, workers=config.workers) as started:
        if targets_bpp is None:
            targets_bpp = find_targets(started, clips, bench.task, count=config.num_targets)
        per_clip = started.run(Bench.measure, clips, targets_bpp, title=f"encoding and judging: {side}")
    rows = [row for rows in per_clip for row in rows]
    if not any(row.status == "ok" for row, _, _ in rows):
        raise ConfigError(f"no target is within reach of the videos of the side {side}: raise targets_bpp")
    settings: dict[str, Any] = {
        "clips": bench.tests.names,
        "baseline": _ALONE,
        "bootstrap": config.bootstrap,
        "seed": config.seed,
    }
    groups = len({name.group for name in bench.tests.names})
    summary = summarise(rows, bench.task, **settings)
    return {"summary": summary, "targets_bpp": list(targets_bpp), "clips": len(clips), "videos": groups}


def _bench(config: CalibrateConfig, side: Side, strengths: Sequence[float]) -> Bench:
    shared = {name: getattr(config, name) for name in ("task", "data", "codec", "seed", "out", "rate_factors", "judged_every")}
    bench = build_bench(EvaluateControlConfig(**shared, controllers=["abr2"]))
    data = config.data
    sides = split_data(data.name, data.root, test=data.test, exclude=data.exclude)
    sources = tuple(sides[0] if side == "fit" else sides[1])
    if not sources:
        raise ConfigError(f"{data.root} has no video for the side {side}: add videos, or name fewer in data.test")
    means = Means(bench.codec, task=bench.task)
    controllers = {_ALONE: bench.controllers["abr2"]}
    for strength in strengths:
        controller = _controller(config, bench.task, means, strength, checked=side == "held out")
        controllers[_name(strength)] = looking_once(controller)
    return replace(bench, tests=replace(bench.tests, sources=sources), controllers=controllers)


def _controller(config: CalibrateConfig, task: Task, means: Means, strength: float, *, checked: bool) -> RateController:
    """Return what codes at a strength: of the rule, which is looked for at every frame, or of the control."""
    if config.checkpoint is not None:
        control = _running(Path(config.checkpoint), strength, config, task)
        return build_rate_controller("learned" if checked else "learned_unchecked", replace(means, control=control))
    return AverageBitrate(means.codec, control=rule_at(task, strength))


def rule_at(task: Task, strength: float) -> Objects:
    """Return the rule with the task's network as the one that looks, at every frame, and so many times its offsets.

    Raises `ConfigError` for another task than detection, a network of no ONNX file, and more QPs than `dvcc encode` takes.
    """
    if not isinstance(task, DetectionTask):
        raise ConfigError(
            "without checkpoint=PATH the rule of objects is calibrated, which is for task=detection: give a control"
        )
    objects = looking_every(objects_of(task), 1)
    return replace(objects, rule=with_strength(objects.rule, strength * objects.rule.strength))


def control_at(path: Path, strength: float, *, model: str) -> tuple[ControlNetwork, dict[str, Any]]:
    """Return the control of the weights at `path` with so many times its offsets, and the config that it stores.

    Where another network than `model` lies beside it to read analysis encodes, the task has to read. Raises `CheckpointError` for
    what are no weights of a control.
    """
    network, stored = load_network(path)
    network.config["max_delta_qp"] *= strength
    if network.config.get("analysis", {}).get("name", model) != model:
        network.config["analysis"] = {}
    return network, stored


def _running(path: Path, strength: float, config: CalibrateConfig, task: Task) -> Control:
    """Return the same as it runs, with the networks beside it, or the task that reads."""
    network, stored = control_at(path, strength, model=config.task.model)
    check_control(path, stored, codec=config.codec)
    control = Control(control_to_onnx(network, stored), name=str(path), folder=path.parent)
    if control.analysis and control.reader is None:
        control.reader = TaskReader(task)
    return control


def _name(strength: float) -> str:
    return f"{strength:g} times the offsets"


def _bits(figures: dict[str, Any]) -> float:
    """Percent of bits at equal task loss; infinite where there is no such figure."""
    percent = figures["bd_rate_of_loss_percent"]
    return float("inf") if percent is None else float(percent)


def _table(side: dict[str, Any], title: str) -> str:
    """Return the figures of one side, a row for every strength."""
    head = [f"{title} {counted(side['clips'], 'clip')} of {counted(side['videos'], 'video')}", "at equal loss", "at equal metric"]
    rows = []
    for name, figures in side["summary"].items():
        if name != _ALONE:
            cells = (_percent(figures[f"{kind}_percent"], figures[f"{kind}_ci95"]) for kind in ("bd_rate_of_loss", "bd_rate"))
            rows.append([name, *cells])
    return markdown_table(head, rows)


def _percent(value: float | None, interval: Sequence[float] | None) -> str:
    of_it = "" if interval is None else f" [{interval[0]:+.0f}, {interval[1]:+.0f}]"
    return "-" if value is None else f"{value:+.1f} %{of_it}"


def _deliver(config: CalibrateConfig, strength: float, out: Path) -> str:
    """Write the calibrated control, if one was, and return how to use what was chosen."""
    if not strength:
        return "No strength needs fewer bits than x264 alone on the videos that chose: use --controller abr."
    if config.checkpoint is None:
        qps = strength * OWN_STRENGTH
        return f"dvcc encode VIDEO OUT --target-kbps N --look-every 1 --detector {config.task.model} --strength {qps:.3g}"
    source, path = Path(config.checkpoint), out / "control.safetensors"
    network, stored = control_at(source, strength, model=config.task.model)
    network.save(path, {**stored, "calibrated": {"from": str(source), "strength": strength}})
    for seen in ("eyes", "analysis"):
        file = source.parent / network.config.get(seen, {}).get("file", "")
        if file.is_file():  # else it is one of the published
            write_atomic(out / file.name, file.read_bytes())
    command, task = f"dvcc encode VIDEO OUT --target-kbps N --checkpoint {export(path)}", config.task
    if network.config.get("analysis", True):
        return command
    return f"{command} --task {task.name} --model {task.model}{f' --weights {task.weights}' if task.weights else ''}"
