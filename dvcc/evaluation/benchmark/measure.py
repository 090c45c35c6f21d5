"""Codes every picture or clip of a data set at every level, and shows it to every network; stored rows are not made again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dvcc.clip import Clip
from dvcc.datasets import DataSet, Example
from dvcc.errors import VideoError
from dvcc.evaluation.benchmark.networks import taken_for
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED, Measured, Row, RowStore, digest_of
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.rgb_clip import RGBClip
from dvcc.tasks import Task
from dvcc.tasks.judging import AT_ONCE, label_frames, parts_of, predict_frames, with_noise
from dvcc.tasks.metric import State


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
    """Rows of every example, level and network, and the names of those that cannot be used.

    labelled: the networks that are also compared with the labels of the data set, and what their classes are there (see
    `label_classes`).
    """
    if not skip_bad:
        _check_labels(examples)
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
                    raise _bad(error) from error
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
