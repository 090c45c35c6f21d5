"""What coding costs a network: every picture or clip of a data set, coded at many levels, judged by any number of networks.

The reference is what a network says of the uncoded pictures ("relative"), and the data set's labels where there are any
("absolute"). Every encode is made once and shared by all networks; what has been measured is kept, so that an interrupted sweep
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dvcc._files import check_writable
from dvcc.clip import Clip, RGBClip
from dvcc.codecs import ABR, CQP, CRF, JPEG, PLAIN, X264, Codec, Quality, Quantizer, Rate
from dvcc.config import LEVELS, RATES, BenchmarkConfig, BenchmarkData
from dvcc.config.build import build_codec
from dvcc.datasets import DataSet, Example, build_dataset
from dvcc.errors import ConfigError, VideoError
from dvcc.evaluation.benchmark.networks import build_networks, check_networks, label_classes, speaks_of, taken_for
from dvcc.evaluation.benchmark.pictures import chosen_example
from dvcc.evaluation.benchmark.report import write_report
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED, Measured, Row, RowStore, digest_of
from dvcc.media.protocols import PAPER, Protocol
from dvcc.tasks import Task
from dvcc.tasks.judging import (
    AT_ONCE,
    label_frames,
    parts_of,
    pooled,
    predict_frames,
    refuse_silence,
    with_noise,
)
from dvcc.tasks.metric import State

_OPTIONS = {
    "folder": ("frames", "stride", "per_video", "shots"),
    "cityscapes_sequence": ("frames", "stride"),
    "camvid_sequence": ("frames", "stride"),
}


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
        """The codec's rate at a level."""
        if self.rate == "abr":
            return ABR(level)
        if self.rate == "crf":
            return CRF(level)
        kinds: dict[str, Callable[[int], Rate]] = {"cqp": CQP, "quality": Quality, "quantizer": Quantizer}
        return kinds[self.rate](int(level))


def run(config: BenchmarkConfig) -> str:
    """Sweep as configured, write the report, return its table and path."""
    sweep = build_sweep(config)
    if not Path(config.data.root).exists():
        raise ConfigError(f"{config.data.root} does not exist: set data.root to the pictures, videos or data set")
    check_networks(config)
    check_writable(config.out)
    check_writable(config.data.cache, key="data.cache")
    examples = build_examples(config.data)
    if config.example is not None:
        chosen_example(examples, config.example, [])
    networks = build_networks(config)
    clock = Clock()
    labelled = {
        name: label_classes(examples, task) for name, task in networks.items() if speaks_of(examples, config.task.name, task)
    }
    store = RowStore(config.data.cache)
    try:
        rows, skipped = measure(examples, sweep, networks, store, clock, labelled=labelled, skip_bad=config.skip_bad)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"what was measured is kept in {config.data.cache}, and the same command goes on from there"
        ) from stop
    for name, task in networks.items():
        uncoded = [row.measured.relative[task.metric_name] for row in rows if row.network == name and row.level == NOISE]
        refuse_silence(task, pooled(task.metric(), uncoded))
    return write_report(config, sweep, networks, rows, skipped, clock.seconds(), examples, labelled, store.found)


def build_examples(data: BenchmarkData) -> DataSet:
    """The configured data set. Raises `ConfigError` when its files are not where its layout has them."""
    options = {"frames": data.frames, "stride": data.stride, "per_video": data.clips_per_video, "shots": data.shots}
    found = build_dataset(data.name, data.root, **{name: options[name] for name in _OPTIONS.get(data.name, ())})
    return found if data.max_clips is None else found.spread(data.max_clips)


def build_sweep(config: BenchmarkConfig) -> Sweep:
    """The codec, its levels and the input protocol. Raises `ConfigError` for what the codec does not have."""
    rate = config.rate or RATES[config.codec.name][0]
    codec = _codec(config, rate)
    size = config.data.size
    if config.protocol == "paper":
        if size is not None:
            raise ConfigError("protocol=paper says how pictures are scaled: leave data.size out")
        if config.task.name not in PAPER:
            raise ConfigError(f"the paper has no protocol for {config.task.name}: leave protocol=none")
        protocol = PAPER[config.task.name]
    else:
        protocol = Protocol(resize=(size[0], size[1]) if size else None)
    if config.pixel_format == "paper":
        protocol = replace(protocol, rgb=True)
    levels = tuple(sorted(config.levels or LEVELS[rate]))
    if config.audit_level is not None and config.audit_level not in levels:
        raise ConfigError(
            f"audit_level={config.audit_level:g} is none of the levels {', '.join(f'{level:g}' for level in levels)}"
        )
    return Sweep(codec, rate, levels, protocol)


def _codec(config: BenchmarkConfig, rate: str) -> Codec:
    if config.codec.name == "jpeg":
        return JPEG(optimised=config.jpeg.optimised, progressive=config.jpeg.progressive)
    if config.codec.name != "x264" or config.pixel_format == "paper":
        pixel_format: Literal["yuv420p", "yuv444p"] = "yuv444p" if config.pixel_format == "paper" else "yuv420p"
        return PLAIN[config.codec.name](preset=config.codec.preset, gop=config.codec.gop, pixel_format=pixel_format)
    if rate == "cqp":
        paper = X264.perspective()
        return replace(build_codec(config.codec), flags=paper.flags, params=paper.params)
    return build_codec(config.codec)


def measure(
    examples: DataSet,
    sweep: Sweep,
    networks: dict[str, Task],
    store: RowStore,
    clock: Clock,
    *,
    labelled: Mapping[str, Sequence[int] | None],
    skip_bad: bool,
) -> tuple[list[Row], list[str]]:
    """Rows of every example, level and network, and the names of those that cannot be used. labelled: the networks that are also
    compared with the labels of the data set, and what their classes are there (see `label_classes`)."""
    rows: list[Row] = []
    skipped: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        for name, task in networks.items():
            if words := taken_for(task):
                progress.print(f"{name} is taken for {words}", highlight=False, markup=False, soft_wrap=True)
        bar = progress.add_task("coding and judging", total=len(examples) * len(networks) * (2 + len(sweep.levels)))
        for example in examples:
            try:
                clip, truth = example.load_any(sweep.protocol)
                _check_frames(example, clip, networks)
            except VideoError as error:
                if not skip_bad:
                    raise VideoError(f"{error} (skip_bad=true leaves such out)") from error
                skipped.append(str(error) if example.name in str(error) else f"{example.name}: {error}")
                progress.advance(bar, len(networks) * (2 + len(sweep.levels)))
                continue
            truths = {name: Truth(truth, classes) for name, classes in labelled.items() if truth is not None}
            for row in _rows_of(example, clip, truths, sweep, networks, store, clock):
                rows.append(row)
                progress.advance(bar)
    if not rows:
        raise VideoError(f"none of the {len(examples)} pictures and clips can be used, e.g. {skipped[0]}")
    return rows, skipped


class Truth(NamedTuple):
    """Labels of a data set, and what the classes of a network are there (see `label_classes`)."""

    labels: torch.Tensor
    classes: Sequence[int] | None


def _check_frames(example: Example, clip: Clip | RGBClip, networks: dict[str, Task]) -> None:
    needed = 1 + max(task.overlap for task in networks.values())
    if clip.num_frames < needed:
        raise VideoError(
            f"{example.name} is a clip of {clip.num_frames} frame(s), and {needed} in a row are compared: give videos, and "
            f"data.frames={needed} or more"
        )


def _rows_of(
    example: Example,
    clip: Clip | RGBClip,
    truths: dict[str, Truth],
    sweep: Sweep,
    networks: dict[str, Task],
    store: RowStore,
    clock: Clock,
) -> Iterator[Row]:
    """Level by level, so that an encode serves every network before the next is made; what the store knows is not made."""
    references: dict[str, torch.Tensor] = {}
    digests = {name: digest_of(*truth) for name, truth in truths.items()}
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
                measured = Measured(shown.bits, shown.file_bits, time.perf_counter() - began, relative, absolute)
                store.write(key, measured)
            size = (clip.num_frames, clip.height, clip.width, float(clip.fps))
            yield Row(example.name, example.group, level, name, *size, measured)


class Shown(NamedTuple):
    """What networks see at a level: uint8 (T, 3, H, W), and the bits it took without and with the container, None if nothing was
    coded."""

    frames: torch.Tensor
    bits: int | None
    file_bits: int | None


def _shown_at(level: float | str, clip: Clip | RGBClip, sweep: Sweep, clock: Clock) -> Shown:
    if level == UNCODED:
        return Shown(clip.frames, None, None)
    if level == NOISE:
        return Shown(with_noise(clip.frames, seed=0), None, None)
    with clock.spent_on("codec"):
        coded = sweep.codec.encode(clip, sweep.rate_at(float(level)))
        return Shown(coded.frames, coded.bits, coded.file_bits)


def _judge(
    task: Task, frames: torch.Tensor, reference: torch.Tensor, truth: Truth | None, clock: Clock
) -> tuple[dict[str, State], dict[str, State] | None]:
    """States of every metric of the task, against its own labels of the uncoded pictures and against the true ones."""
    compared = [(task.metrics(), reference)]
    if truth is not None:
        compared.append((task.metrics_of_labels(truth.classes), truth.labels))
    for i, part in enumerate(parts_of(frames, AT_ONCE, overlap=task.overlap)):
        with clock.spent_on("network"):
            prediction = predict_frames(task, part)
        where = slice(i * AT_ONCE, i * AT_ONCE + len(prediction))
        for metrics, labels in compared:
            for metric in metrics.values():
                metric.update(prediction, labels[where])
    relative, *absolute = [{name: metric.state for name, metric in metrics.items()} for metrics, _ in compared]
    return relative, absolute[0] if absolute else None
