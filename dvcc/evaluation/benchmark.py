"""What coding costs a network: every picture or clip of a data set, coded at many levels, judged by any number of networks.

The reference is what a network says of the uncoded pictures ("relative"), and the data set's labels where there are any
("absolute"). Every encode is made once and shared by all networks; what has been measured is kept, so that an interrupted sweep
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dvcc._files import check_writable
from dvcc.clip import Clip
from dvcc.codecs import ABR, CQP, CRF, JPEG, X264, Codec, Quality, Rate
from dvcc.data.datasets import DataSet, Example, build_dataset
from dvcc.data.protocols import PAPER, Protocol
from dvcc.errors import ConfigError, VideoError
from dvcc.evaluation.benchmark_report import write_report
from dvcc.evaluation.benchmark_rows import NOISE, UNCODED, Measured, Row, RowStore, digest_of
from dvcc.evaluation.metrics import PART, State, label_frames, parts_of, predict_frames, state_of, with_noise
from dvcc.settings import BenchmarkConfig, BenchmarkData
from dvcc.tasks import Task, build_task
from dvcc.training.run import build_codec

RATES = {"x264": ("cqp", "crf", "abr"), "jpeg": ("quality",)}
"""How a codec can be told how much to keep; the first is the default."""

LEVELS: dict[str, tuple[float, ...]] = {
    "cqp": (0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 51),
    "crf": (10, 15, 18, 20, 23, 26, 29, 32, 36, 40, 45, 51),
    "abr": (50, 100, 200, 400, 800, 1600, 3200, 6400),
    "quality": (1, 3, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99),
}

_OPTIONS = {"folder": ("frames", "stride", "per_video", "shots"), "cityscapes_sequence": ("frames", "stride")}


class Clock:
    """Seconds of a sweep, by what they were spent on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._seconds = {"codec": 0.0, "network": 0.0}

    @contextmanager
    def spent_on(self, what: Literal["codec", "network"]) -> Iterator[None]:
        """Count the block."""
        began = time.perf_counter()
        yield
        self._seconds[what] += time.perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """Of "codec", "network" and, the rest so far, "other": reading, metrics, keeping rows."""
        return {**self._seconds, "other": time.perf_counter() - self._began - sum(self._seconds.values())}


@dataclass(frozen=True)
class Sweep:
    """What is tried: a codec at levels of one kind of rate, on pictures that were made to fit by `protocol`."""

    codec: Codec
    rate: str
    levels: tuple[float, ...]
    protocol: Protocol

    def rate_at(self, level: float) -> Rate:
        """The codec's rate at a level. Raises `ConfigError` or `CodecError` for one that it does not have."""
        if self.rate == "abr":
            return ABR(level)
        if self.rate == "crf":
            return CRF(level)
        if level != int(level):
            raise ConfigError(f"levels of {self.rate} are whole numbers, got {level:g}")
        return CQP(int(level)) if self.rate == "cqp" else Quality(int(level))


def run(config: BenchmarkConfig) -> str:
    """Sweep as configured, write the report, return its table and path."""
    sweep = build_sweep(config)
    check_writable(config.out)
    examples = build_examples(config.data)
    names = config.networks or [config.task.model]
    unknown = set(config.weights) - set(names)
    if unknown:
        raise ConfigError(f"weights names {', '.join(sorted(unknown))}, which is not among the networks {', '.join(names)}")
    weights = {**dict.fromkeys(names), config.task.model: config.task.weights, **config.weights}
    networks = {name: build_task(config.task.name, model=name, weights=weights[name]).eval() for name in names}
    clock = Clock()
    labelled = {name for name, task in networks.items() if speaks_of(examples, config.task.name, task)}
    store = RowStore(config.data.cache)
    rows, skipped = measure(examples, sweep, networks, store, clock, labelled=labelled, skip_bad=config.skip_bad)
    return write_report(config, sweep, networks, rows, skipped, clock.seconds(), examples)


def build_examples(data: BenchmarkData) -> DataSet:
    """The configured data set. Raises `ConfigError` when its files are not where its layout has them."""
    options = {"frames": data.frames, "stride": data.stride, "per_video": data.clips_per_video, "shots": data.shots}
    found = build_dataset(data.name, data.root, **{name: options[name] for name in _OPTIONS.get(data.name, ())})
    return found if data.max_clips is None else found.spread(data.max_clips)


def speaks_of(data: DataSet, task_name: str, task: Task) -> bool:
    """Whether the labels of a data set mean what a network answers: they are of its task and number as many classes, or one less
    for a network that has a background. Else the network is compared with itself alone."""
    classes = getattr(getattr(task, "net", None), "num_classes", None)
    return data.task == task_name and (data.num_classes is None or classes in (data.num_classes, data.num_classes + 1))


def build_sweep(config: BenchmarkConfig) -> Sweep:
    """The codec, its levels and the input protocol. Raises `ConfigError` for what the codec does not have."""
    kinds = RATES.get(config.codec.name)
    if kinds is None:
        raise ConfigError(f"there is no codec {config.codec.name!r}: choose codec={'|'.join(RATES)}")
    rate = config.rate or kinds[0]
    if rate not in kinds:
        raise ConfigError(f"{config.codec.name} has no rate {rate!r}: choose rate={'|'.join(kinds)}")
    if config.codec.name == "jpeg":
        codec: Codec = JPEG()
    elif rate == "cqp":
        paper = X264.perspective()
        codec = replace(build_codec(config.codec), flags=paper.flags, params=paper.params)
    else:
        codec = build_codec(config.codec)
    size = config.data.size
    if config.protocol == "paper":
        if size is not None:
            raise ConfigError("protocol=paper says how pictures are scaled: leave data.size out")
        if config.task.name not in PAPER:
            raise ConfigError(f"the paper has no protocol for {config.task.name}: leave protocol=none")
        protocol = PAPER[config.task.name]
    else:
        protocol = Protocol(resize=(size[0], size[1]) if size else None)
    sweep = Sweep(codec, rate, tuple(sorted(config.levels or LEVELS[rate])), protocol)
    for level in sweep.levels:
        sweep.rate_at(level)  # a wrong one is found now, not after hours
    if config.at is not None and config.at not in sweep.levels:
        raise ConfigError(f"at={config.at:g} is none of the levels {', '.join(f'{level:g}' for level in sweep.levels)}")
    return sweep


def measure(
    examples: DataSet,
    sweep: Sweep,
    networks: dict[str, Task],
    store: RowStore,
    clock: Clock,
    *,
    labelled: set[str],
    skip_bad: bool,
) -> tuple[list[Row], list[str]]:
    """Rows of every example, level and network, and the names of those that could not be read. labelled: the networks that are
    also compared with the labels of the data set."""
    rows: list[Row] = []
    skipped: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("coding and judging", total=len(examples) * len(networks) * (2 + len(sweep.levels)))
        for example in examples:
            try:
                clip, truth = example.load(sweep.protocol)
            except VideoError as error:
                if not skip_bad:
                    raise VideoError(f"{error} (skip_bad=true leaves such pictures out)") from error
                skipped.append(f"{example.name}: {error}")
                progress.advance(bar, len(networks) * (2 + len(sweep.levels)))
                continue
            truths = {name: truth for name in labelled if truth is not None}
            for row in _rows_of(example, clip, truths, sweep, networks, store, clock):
                rows.append(row)
                progress.advance(bar)
    if not rows:
        raise VideoError(f"none of the {len(examples)} pictures and clips can be read, e.g. {skipped[0]}")
    return rows, skipped


def _rows_of(
    example: Example,
    clip: Clip,
    truths: dict[str, torch.Tensor],
    sweep: Sweep,
    networks: dict[str, Task],
    store: RowStore,
    clock: Clock,
) -> Iterator[Row]:
    """Level by level, so that an encode serves every network before the next is made; what the store knows is not made."""
    references: dict[str, torch.Tensor] = {}
    digests = {name: digest_of(truth) for name, truth in truths.items()}
    tried: list[float | str] = [UNCODED, NOISE, *sweep.levels]
    for level in tried:
        shown: Shown | None = None
        for name, task in networks.items():
            key = store.key(clip, digests.get(name), sweep, level, task)
            measured = store.read(key)
            if measured is None:
                if name not in references:
                    with clock.spent_on("network"):
                        references[name] = label_frames(task, clip.frames)
                shown = shown or _shown_at(level, clip, sweep, clock)
                began = time.perf_counter()
                relative, absolute = _judge(task, shown.frames, references[name], truths.get(name), clock)
                measured = Measured(shown.bits, time.perf_counter() - began, relative, absolute)
                store.write(key, measured)
            size = (clip.num_frames, clip.height, clip.width, float(clip.fps))
            yield Row(example.name, example.group, level, name, *size, measured)


class Shown(NamedTuple):
    """What networks see at a level: uint8 (T, 3, H, W), and the bits it took, None if nothing was coded."""

    frames: torch.Tensor
    bits: int | None


def _shown_at(level: float | str, clip: Clip, sweep: Sweep, clock: Clock) -> Shown:
    if level == UNCODED:
        return Shown(clip.frames, None)
    if level == NOISE:
        return Shown(with_noise(clip.frames, seed=0), None)
    with clock.spent_on("codec"):
        coded = sweep.codec.encode(clip, sweep.rate_at(float(level)))
        return Shown(coded.frames, coded.bits)


def _judge(
    task: Task, frames: torch.Tensor, reference: torch.Tensor, truth: torch.Tensor | None, clock: Clock
) -> tuple[dict[str, State], dict[str, State] | None]:
    """States of every metric of the task, against its own labels of the uncoded pictures and against the true ones."""
    compared = [(task.metrics(), labels) for labels in (reference, truth) if labels is not None]
    for i, part in enumerate(parts_of(frames, PART, overlap=task.overlap)):
        with clock.spent_on("network"):
            prediction = predict_frames(task, part)
        where = slice(i * PART, i * PART + len(prediction))
        for metrics, labels in compared:
            for metric in metrics.values():
                metric.update(prediction, labels[where])
    relative, *absolute = [{name: state_of(metric) for name, metric in metrics.items()} for metrics, _ in compared]
    return relative, absolute[0] if absolute else None
