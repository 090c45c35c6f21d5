"""Codes every picture or clip of a data set at every level, and shows it to every network; stored rows are not made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dvcc.clip import Clip
from dvcc.datasets import DataSet, Example
from dvcc.engines import given, open_workers
from dvcc.errors import VideoError
from dvcc.evaluation.benchmark.networks import taken_for
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED, Measured, Row, RowStore, digest_of
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.rgb_clip import RGBClip
from dvcc.tasks import Task
from dvcc.tasks.judging import AT_ONCE, label_frames, parts_of, predict_frames, with_noise
from dvcc.tasks.metric import State

Spent = Literal["codec", "network"]


class Clock:
    """Seconds of a sweep, by what they were spent on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.spent: dict[str, float] = {"codec": 0.0, "network": 0.0}

    @contextmanager
    def spent_on(self, what: Spent) -> Iterator[None]:
        """Count the block."""
        began = time.perf_counter()
        yield
        self.spent[what] += time.perf_counter() - began

    def add(self, spent: Mapping[str, float]) -> None:
        """Count what a worker has spent."""
        for what, seconds in spent.items():
            self.spent[what] += seconds

    def seconds(self) -> dict[str, float]:
        """Of "codec", "network" and, the rest so far, "other": reading, metrics, keeping rows.

        Those of several workers are added up, and leave no rest.
        """
        return {**self.spent, "other": max(0.0, time.perf_counter() - self._began - sum(self.spent.values()))}


@dataclass(frozen=True, eq=False)
class Measuring:
    """All that is needed to measure the examples of a data set; every worker has its own.

    labelled: the networks that are also compared with the labels of the data set, and what their classes are there (see
    `label_classes`). skip_bad: leave out what cannot be read.
    """

    examples: DataSet
    sweep: Sweep
    networks: dict[str, Task]
    store: RowStore
    labelled: Mapping[str, Sequence[int] | None]
    skip_bad: bool


class _Measured(NamedTuple):
    """What was measured of an example: rows, or why it was left out; how many were kept before, and the seconds of the others."""

    rows: list[Row]
    skipped: str
    kept: int
    seconds: dict[str, float]


class Measurements(NamedTuple):
    """Rows of every example, level and network, the names of those that cannot be used, and how many rows were kept before."""

    rows: list[Row]
    skipped: list[str]
    kept: int


def measure(
    measuring: Measuring,
    clock: Clock,
    build: Callable[[], Measuring] | None = None,
    *,
    engine: str = "processes",
    workers: int | None = 1,
) -> Measurements:
    """Measure every example, by the workers of an engine. build: makes the `measuring` of each worker but this process."""
    examples, networks = measuring.examples, measuring.networks
    if not measuring.skip_bad:
        _check_labels(examples)
    started = open_workers(
        engine,
        build or given(measuring),
        pieces=len(examples),
        workers=workers,
        here=measuring,
        imports=(__name__,),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress, started:
        for name, task in networks.items():
            if words := taken_for(task):
                progress.print(f"{name} is taken for {words}", highlight=False, markup=False, soft_wrap=True)
        each = len(networks) * (2 + len(measuring.sweep.levels))
        bar = progress.add_task("coding and judging", total=len(examples) * each)
        parts = started.map(_measure, range(len(examples)), advance=lambda: progress.advance(bar, each))
    for part in parts:
        clock.add(part.seconds)
    rows, skipped = [row for part in parts for row in part.rows], [part.skipped for part in parts if part.skipped]
    if not rows:
        raise VideoError(f"none of the {len(examples)} pictures and clips can be used, e.g. {skipped[0]}")
    return Measurements(rows, skipped, sum(part.kept for part in parts))


def _measure(measuring: Measuring, index: int) -> _Measured:
    """Measure one example: the piece of work that workers share."""
    example, clock = measuring.examples[index], Clock()
    try:
        clip, truth = example.load_any(measuring.sweep.protocol)
        _check_frames(example, clip, measuring.networks)
    except VideoError as error:
        if not measuring.skip_bad:
            raise _bad(error) from error
        return _Measured([], str(error) if example.name in str(error) else f"{example.name}: {error}", 0, {})
    truths = {name: Truth(truth, classes) for name, classes in measuring.labelled.items() if truth is not None}
    before = measuring.store.hits
    rows = list(_rows_of(example, clip, truths, measuring.sweep, measuring.networks, measuring.store, clock))
    return _Measured(rows, "", measuring.store.hits - before, clock.spent)


def _check_labels(examples: DataSet) -> None:
    """Look at the headers of all files first: the last picture may be the one whose labels do not fit."""
    try:
        examples.check()
    except VideoError as error:
        raise _bad(error) from error


def _bad(error: VideoError) -> VideoError:
    return VideoError(f"{error} (skip_bad=true leaves such out)")


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
        version: Version | None = None
        for name, task in networks.items():
            key = store.key(clip, digests.get(name), sweep, level, task)
            measured = store.read(key)
            if measured is None:
                if name not in references:
                    with clock.spent_on("network"):
                        references[name] = label_frames(task, clip.frames)
                version = version or _version_at(level, clip, sweep, clock)
                began = time.perf_counter()
                relative, absolute = _judge(task, version.frames, references[name], truths.get(name), clock)
                measured = Measured(version.bits, version.file_bits, time.perf_counter() - began, relative, absolute)
                store.write(key, measured)
            size = (clip.num_frames, clip.height, clip.width, float(clip.fps))
            yield Row(example.name, example.group, level, name, *size, measured)


class Version(NamedTuple):
    """A clip as networks see it at a level.

    uint8 (T, 3, H, W), and its bits without and with the container, None if it was not coded.
    """

    frames: torch.Tensor
    bits: int | None
    file_bits: int | None


def _version_at(level: float | str, clip: Clip | RGBClip, sweep: Sweep, clock: Clock) -> Version:
    if level == UNCODED:
        return Version(clip.frames, None, None)
    if level == NOISE:
        return Version(with_noise(clip.frames, seed=0), None, None)
    with clock.spent_on("codec"):
        coded = sweep.codec.encode(clip, sweep.rate_at(float(level)))
        return Version(coded.frames, coded.bits, coded.file_bits)


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
