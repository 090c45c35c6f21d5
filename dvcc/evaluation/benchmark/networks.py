"""The networks of a benchmark: what they are called, and what they are taken for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dvcc._words import counted
from dvcc.errors import ConfigError
from dvcc.evaluation.labels import num_classes
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.onnx_file import is_onnx
from dvcc.tasks import Task, build_task, check_model


def check_networks(task_name: str, words: Sequence[str], weights: Mapping[str, str]) -> None:
    """Raise `ConfigError` or `CheckpointError` for one of the `words` that is no network of the task, before any is loaded.

    weights: paths by word, where they are not the network's own.
    """
    unknown = set(weights) - set(words)
    if unknown:
        raise ConfigError(f"weights names {', '.join(sorted(unknown))}, which is not among the networks {', '.join(words)}")
    for word in words:
        check_model(task_name, word)


def build_networks(
    task_name: str, words: Sequence[str], weights: Mapping[str, str | None], options: NetworkOptions
) -> dict[str, Task]:
    """Return the networks that the `words` name, by their short names. options: of those that are files, or of all if none is."""
    files = [word for word in words if is_onnx(word)] or words
    tasks = []
    for word in words:
        given = options if word in files else None
        tasks.append(build_task(task_name, model=word, weights=weights.get(word), options=given).eval())
    return dict(zip(short_names(words), tasks, strict=True))


def short_names(words: Sequence[str]) -> list[str]:
    """Return what networks are called in tables and pictures.

    That is the name of a file without its ending, and as many of the folders before it as tell it from the others.
    """
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
