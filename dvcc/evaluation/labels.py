"""Whether the labels of a data set and the answers of a network are about the same classes."""

from __future__ import annotations

from collections.abc import Sequence

from dvcc._words import counted
from dvcc.datasets import DataSet
from dvcc.tasks import Task


def num_classes(task: Task) -> int | None:
    """Return how many classes a task's network tells apart, None without classes."""
    return getattr(getattr(task, "net", None), "num_classes", None)


def labels_apply(data: DataSet, task_name: str, task: Task) -> bool:
    """Return whether the labels of a data set mean what a network answers.

    They do where they are of its task and number as many classes, or one less for a network that has a background, or the data
    set says what the network's classes are to it. Else the network is compared with itself alone.
    """
    return data.task == task_name and (_same_classes(data, task) or num_classes(task) in data.class_maps)


def label_classes(data: DataSet, task: Task) -> Sequence[int] | None:
    """Return the label's class of each class of a network that the labels apply to (see `Task.metrics_of_labels`).

    None where they have the same classes.
    """
    return None if _same_classes(data, task) else data.class_maps[num_classes(task) or 0]


def _same_classes(data: DataSet, task: Task) -> bool:
    return data.num_classes is None or num_classes(task) in (data.num_classes, data.num_classes + 1)


def labels_left_out(data: DataSet, task_name: str, networks: dict[str, Task]) -> list[str]:
    """Return a sentence for every network that the labels of a data set do not speak of; none without labels."""
    if data.task is None:
        return []
    if data.task != task_name:
        return [f"The labels are of {data.task} and not of {task_name}: they were left out"]
    return [
        f"The labels have {counted(data.num_classes or 0, 'class', 'classes')} and {name} has {num_classes(task)}: "
        "they do not speak of what it answers, and were left out"
        for name, task in networks.items()
        if not labels_apply(data, task_name, task)
    ]
