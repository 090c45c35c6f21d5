"""`evaluate.py control`: every rate controller at every target on real encodes, judged by a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from dvcc._storage import open_folder, write_results
from dvcc.codecs import ABR, X265, VideoCodec
from dvcc.codecs.cache import EncodeCache
from dvcc.config import CodecConfig, DataConfig, EvaluateControlConfig, TaskConfig
from dvcc.config.build import build_clips, build_codec, build_task, check_control, check_surrogate, data_root
from dvcc.config.parse import to_dict
from dvcc.control.analysis import Reader
from dvcc.control.deployed.reader import reading
from dvcc.control.deployed.runtime import Control, load_control
from dvcc.datasets import build_dataset
from dvcc.datasets.clips import spread
from dvcc.datasets.splits import split_videos
from dvcc.datasets.table import choose
from dvcc.errors import ConfigError
from dvcc.evaluation.control.clips import TestSet
from dvcc.evaluation.control.measure import Bench, looking_once, spread_targets, swept_rates
from dvcc.evaluation.control.report import write_report
from dvcc.evaluation.control.rows import Looked, Measured
from dvcc.evaluation.control.summary import figures_of, seed_spread, summarise, summarise_labels, summarise_pairs
from dvcc.evaluation.control.verdicts import Verdicts
from dvcc.evaluation.control.workers import BenchWorkers, opened
from dvcc.evaluation.statistics import or_none
from dvcc.rate_control import Means, RateController, build_rate_controller
from dvcc.rate_control.task_reader import TaskReader
from dvcc.surrogate import load_surrogate
from dvcc.tasks import Task
from dvcc.tasks.judging import pooled, refuse_silence
from dvcc.training.record import refuse_training_videos, versions

_SEQUENCES = ("camvid_sequence", "cityscapes_sequence")
"""Data sets whose clips have as many frames as is asked for; of the others, every picture is a clip of one frame."""


def run(config: EvaluateControlConfig) -> str:
    """Evaluate as configured, write the report, return its table and path."""
    bench = build_bench(config)
    open_folder(config.out).check_writable()
    with opened(bench, partial(build_bench, config), engine=config.engine, workers=config.workers) as started:
        everything = range(len(bench.tests.names))
        looks = started.run(Bench.look, everything, title="looking at uncoded clips")
        stable = _stable(bench, looks, model=config.task.model, least=config.stability)
        targets_bpp = config.targets_bpp or []
        if not (targets_bpp or config.targets_kbps):
            targets_bpp = find_targets(started, stable, bench.task, count=config.num_targets)
        per_clip = started.run(Bench.measure, stable, targets_bpp, title="encoding and judging")
        measured = [row for rows in per_clip for row in rows]
        if not any(row.status == "ok" for row, _, _ in measured):
            name, least = bench.tests.names[stable[0]], bench.least_kbps(stable[0])
            raise ConfigError(f"no target is within reach: {name.video} takes {least:.1f} kbit/s at QP 51; raise the targets")
    report = _report(config, bench, looks, stable, measured, targets_bpp)
    rows = [asdict(row) for row, _, _ in measured]
    return write_results(config.out, lambda out: write_report(out, report, rows, bench, stable))


def build_bench(config: EvaluateControlConfig) -> Bench:
    """Return the configured bench. Raises `ConfigError` and `CheckpointError` for what does not fit together."""
    task = build_task(config.task).eval()
    if config.judged_every > 1 and task.overlap:
        raise ConfigError(f"{config.task.name} needs neighbouring frames: set judged_every=1, got {config.judged_every}")
    cache = EncodeCache(config.data.cache)
    codec = replace(_build_codec(config.codec), cache=cache)
    tests = build_test_set(config.data)
    controllers, controls = _build_controllers(config, Means(codec, task=task, cache=cache), tests)
    return Bench(
        task=task,
        codec=codec,
        tests=tests,
        labelled=tests.labels_apply(config.task.name, task),
        verdicts=Verdicts(task, config.data.cache, every=config.judged_every),
        controllers=controllers,
        controls=controls,
        targets_kbps=config.targets_kbps,
        rate_factors=config.rate_factors,
        reach=config.reach,
        seed=config.seed,
    )


def build_test_set(data: DataConfig) -> TestSet:
    """Return the test side of the configured videos or data set.

    Raises `ConfigError` when its files are not where its layout has them.
    """
    root, make = data_root(data.root), partial(TestSet, data.name, cut=partial(build_clips, data), size=data.size)
    if data.name == "folder":
        return make(tuple(split_videos(root, test=data.test, exclude=data.exclude)[1]))
    if data.test or data.exclude:
        named = [*data.test, *data.exclude]
        raise ConfigError(f"data={data.name} has its own split: leave out data.test and data.exclude, got {named}")
    if data.name == "corpus":
        rows = choose(root, data.split, kinds=data.kinds, folds=data.folds, fold=data.fold)
        return make(tuple(row.path for row in rows), listed={row.path.name: row for row in rows})
    options = {"frames": data.frames, "stride": data.stride} if data.name in _SEQUENCES else {}
    labelled = build_dataset(data.name, root, **options)
    examples = list(labelled.examples)
    if data.clips_per_video is not None:
        groups = dict.fromkeys(example.group for example in examples)
        per_group = [spread([item for item in examples if item.group == group], data.clips_per_video) for group in groups]
        examples = [example for group in per_group for example in group]
    examples = spread(examples, data.max_clips)
    sources = dict.fromkeys(example.source for example in examples if example.source is not None)
    return make(tuple(sources), data=replace(labelled, examples=tuple(examples)))


def _build_codec(config: CodecConfig) -> VideoCodec:
    """Return the configured encoder. Raises `ConfigError` for one that takes no offsets."""
    if config.name != X265.name:
        return build_codec(config)
    return X265(preset=config.preset, gop=config.gop, bframes=config.bframes)


def _build_controllers(
    config: EvaluateControlConfig, means: Means, tests: TestSet
) -> tuple[dict[str, RateController], dict[str, Control]]:
    """Return the configured controllers, and the controls among them, by name."""
    controls: dict[str, Control] = {}
    if {"descent", "search"} & set(config.controllers):
        surrogate, stored = load_surrogate(config.surrogate)
        rungs = config.data.rungs if surrogate.reads_ladder else None
        check_surrogate(config.surrogate, stored, codec=config.codec, rungs=rungs)
        means = replace(means, surrogate=surrogate.requires_grad_(False))
    reader = _reader(config, means.task)
    if any(name.startswith("learned") for name in config.controllers):
        path = Path(config.checkpoint or f"runs/control-{config.task.name}/control.onnx")
        controls["learned"] = _load_fitting_control(path, config.codec, reader, tests)
        means = replace(means, control=controls["learned"])
    controllers = {name: build_rate_controller(name, means) for name in config.controllers}
    for path in map(Path, config.extra_checkpoints):
        name = f"learned {path.stem}"
        controls[name] = _load_fitting_control(path, config.codec, reader, tests)
        controllers[name] = build_rate_controller("learned", replace(means, control=controls[name]))
    return {name: looking_once(controller) for name, controller in controllers.items()}, controls


def _reader(config: EvaluateControlConfig, judge: Task | None) -> Reader | None:
    """Return who reads analysis encodes for the controls; None: the network beside each."""
    if not config.readers:
        return None
    known = {} if judge is None else {config.task.model: judge}
    networks = [known.get(model) or build_task(TaskConfig(config.task.name, model)).eval() for model in config.readers]
    return reading([TaskReader(network) for network in networks])


def _load_fitting_control(path: Path, codec: CodecConfig, reader: Reader | None, tests: TestSet) -> Control:
    """Return the control at `path`. Raises `ConfigError` when it is for another encoder or has seen a test video."""
    control = load_control(path)
    check_control(path, control.config, codec=codec)
    refuse_training_videos(path, control.config, list(tests.sources))
    if control.analysis and reader is not None:
        control.reader = reader
    return control


def _stable(bench: Bench, looks: Sequence[Looked], *, model: str, least: float) -> list[int]:
    """Return the clips on which the network agrees with itself by `least` or more. Raises `ConfigError` when there is none."""
    metric = bench.task.metric()
    refuse_silence(bench.task, pooled(metric, [look.state for look in looks]))
    stable = [index for index, look in enumerate(looks) if look.agreement >= least]
    if not stable:
        best = max(look.agreement for look in looks)
        raise ConfigError(
            f"{model} disagrees with itself under +-1 noise on every clip (best agreement {best:.2f} < "
            f"{least}): use another network or larger frames, or lower stability"
        )
    return stable


def find_targets(started: BenchWorkers, stable: Sequence[int], task: Task, *, count: int) -> list[float]:
    """`count` targets in bits per pixel, by a sweep of two-pass ABR over some of the clips."""
    some = stable[:: max(1, len(stable) // 4)]
    least = max(started.run(Bench.least_bpp, some, title="finding the least rate"))
    swept = started.run(Bench.sweep, some, swept_rates(least), title="finding the rates where the metric moves")
    return spread_targets(swept, task, count=count)


def _report(
    config: EvaluateControlConfig,
    bench: Bench,
    looks: Sequence[Looked],
    stable: Sequence[int],
    measured: Sequence[Measured],
    targets_bpp: Sequence[float],
) -> dict[str, Any]:
    task, tests = bench.task, bench.tests
    names = [tests.names[index] for index in stable]
    settings: dict[str, Any] = {"clips": names, "bootstrap": config.bootstrap, "seed": config.seed}
    against: dict[str, Any] = {**settings, "baseline": config.baseline}
    summary = summarise(measured, task, **against)
    runs = {name: control.config.get("run", {}) for name, control in bench.controls.items() if name in bench.controllers}
    learned_from = bench.controls["learned"].config if "learned" in bench.controls else None
    reached = max(row.target_kbps for row, _, _ in measured if row.status == "ok")

    def clips(chosen: Sequence[int]) -> list[dict[str, Any]]:
        listed = []
        for index in chosen:
            name, look = tests.names[index], looks[index]
            figures = {"metric_under_noise": or_none(pooled(task.metric(), [look.noisy]))}
            listed.append({**asdict(name), "agreement_under_noise": look.agreement, "weight": task.weight(look.state)} | figures)
        return listed

    noisy = figures_of(task, [looks[index].noisy for index in stable])
    return {
        "summary": summary,
        "pairs": summarise_pairs(measured, task, rivals=config.rivals, **settings),
        "under_noise": {name: or_none(value) for name, value in noisy.items()},
        "seed_spread": seed_spread(summary, runs),
        "labels": summarise_labels(measured, [looks[index].uncoded for index in stable], task, tests, **against),
        "labels_left_out": tests.notes(config.task.name, task, config.task.model),
        "metric": task.metric_name,
        "beside": list(task.beside),
        "higher_is_better": bool(task.metric().higher_is_better),
        "lost_as": task.lost_as,
        "judge": config.task.model,
        "baseline": config.baseline,
        "trained_for": learned_from and {key: learned_from["run"].get(key) for key in ("task", "data", "codec")},
        "targets_kbps": config.targets_kbps,
        "targets_bits_per_pixel": None if config.targets_kbps else list(targets_bpp),
        "clips": clips(stable),
        "unstable_clips": clips([index for index in range(len(looks)) if index not in stable]),
        "config": to_dict(config),
        "versions": versions(),
        "settings": bench.codec.encode(tests.load(stable[0])[0], ABR(reached)).settings,
    }
