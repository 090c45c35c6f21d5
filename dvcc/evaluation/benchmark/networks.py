"""The networks of a benchmark: what they are called, and what they are taken for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dvcc._words import counted
from dvcc.config import BenchmarkConfig
from dvcc.datasets import DataSet
from dvcc.errors import ConfigError
from dvcc.networks.onnx_file import is_onnx
from dvcc.tasks import Task, build_task, check_model


def check_networks(config: BenchmarkConfig) -> None:
    """Raise `ConfigError` or `CheckpointError` for one that is not known, before any is loaded."""
    words = config.words()
    unknown = set(config.weights) - set(words)
    if unknown:
        raise ConfigError(f"weights names {', '.join(sorted(unknown))}, which is not among the networks {', '.join(words)}")
    for word in words:
        check_model(config.task.name, word)


def build_networks(config: BenchmarkConfig) -> dict[str, Task]:
    """The configured networks by their short names."""
    words = config.words()
    weights = {config.task.model: config.task.weights, **config.weights}
    files = [word for word in words if is_onnx(word)] or words  # what task.layout and its like are about
    tasks = []
    for word in words:
        options = config.task.options() if word in files else None
        tasks.append(build_task(config.task.name, model=word, weights=weights.get(word), options=options).eval())
    return dict(zip(short_names(words), tasks, strict=True))


def short_names(words: Sequence[str]) -> list[str]:
    """What networks are called in tables and pictures: the name of a file without its ending, and as many of the folders before
    it as tell it from the others."""
    parts = [Path(os.path.abspath(word)).with_suffix("").parts if is_onnx(word) else (word,) for word in words]
    depths = [1] * len(words)
    while True:
        names = ["/".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
        unclear = [names.count(name) > 1 and depth < len(part) for name, part, depth in zip(names, parts, depths, strict=True)]
        if not any(unclear):
            return names
        depths = [depth + more for depth, more in zip(depths, unclear, strict=True)]


def taken_for(task: Task) -> str:
    """In words, what the network of a task is taken for, and how it is fed; "" where there is nothing to say."""
    classes = num_classes(task)
    words = getattr(getattr(task, "net", None), "words", "")
    return ", ".join([*([] if classes is None else [counted(classes, "class", "classes")]), *([words] if words else [])])


def num_classes(task: Task) -> int | None:
    """That a task's network tells apart; None without classes."""
    return getattr(getattr(task, "net", None), "num_classes", None)


def speaks_of(data: DataSet, task_name: str, task: Task) -> bool:
    """Whether the labels of a data set mean what a network answers: they are of its task and number as many classes, or one less
    for a network that has a background, or the data set says what the network's classes are to it. Else the network is compared
    with itself alone."""
    return data.task == task_name and (_same_classes(data, task) or num_classes(task) in data.class_maps)


def label_classes(data: DataSet, task: Task) -> Sequence[int] | None:
    """The label's class of each class of a network that the labels speak of (see `Task.metrics_of_labels`); None where they have
    the same classes."""
    return None if _same_classes(data, task) else data.class_maps[num_classes(task) or 0]


def _same_classes(data: DataSet, task: Task) -> bool:
    return data.num_classes is None or num_classes(task) in (data.num_classes, data.num_classes + 1)


def labels_left_out(data: DataSet, task_name: str, networks: dict[str, Task]) -> list[str]:
    """A sentence for every network that the labels of a data set do not speak of; none without labels."""
    if data.task is None:
        return []
    if data.task != task_name:
        return [f"The labels are of {data.task} and not of {task_name}: they were left out"]
    return [
        f"The labels have {counted(data.num_classes or 0, 'class', 'classes')} and {name} has {num_classes(task)}: "
        "they do not speak of what it answers, and were left out"
        for name, task in networks.items()
        if not speaks_of(data, task_name, task)
    ]
