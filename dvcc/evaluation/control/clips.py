"""The clips that rate controllers are compared on, with the labels that a data set has for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from dvcc.clip import Clip
from dvcc.datasets import DataSet
from dvcc.datasets.clips import ClipDataset
from dvcc.datasets.table import Listed
from dvcc.evaluation.labels import label_classes, labels_apply, labels_left_out
from dvcc.media.protocols import Protocol
from dvcc.tasks import Task
from dvcc.tasks.metric import Metric


@dataclass(frozen=True)
class ClipName:
    """What tells a clip apart. group: what intervals resample: footage that belongs together. kind: of scene, "" if unknown."""

    video: str
    start: int
    group: str
    kind: str = ""


@dataclass(frozen=True, eq=False)
class TestSet:
    """The held-out clips of a command's data.

    name: of the data. sources: the files that the clips are from. cut: makes the clips of videos. size: (H, W) of labelled
    pictures. data: None for videos without labels. listed: rows of a corpus' table, by file name.
    """

    name: str
    sources: tuple[Path, ...]
    cut: Callable[[Sequence[Path]], ClipDataset]
    size: tuple[int, int]
    data: DataSet | None = None
    listed: dict[str, Listed] = field(default_factory=dict)

    __test__ = False  # no test, though pytest takes it for one by its name

    @cached_property
    def _clips(self) -> ClipDataset:
        return self.cut(self.sources)

    @cached_property
    def names(self) -> list[ClipName]:
        """The names of all clips, in order; start: the first frame, or the number in the group."""
        names: list[ClipName] = []
        if self.data is None:
            for span in self._clips.spans:
                video = span.video.name if span.shot is None else f"{span.video.name} shot {span.shot}"
                row = self.listed.get(span.video.name)
                names.append(ClipName(video, span.start, row.group if row else video, row.kind if row else ""))
            return names
        counts: dict[str, int] = {}
        for example in self.data:
            counts[example.group] = counts.get(example.group, 0) + 1
            names.append(ClipName(example.group, counts[example.group] - 1, example.group))
        return names

    def load(self, index: int) -> tuple[Clip, torch.Tensor | None]:
        """Return a clip and its labels."""
        if self.data is None:
            return self._clips[index], None
        height, width = self.size
        return self.data[index].load(Protocol(cover=(height, width)))

    def labels_apply(self, task_name: str, task: Task) -> bool:
        """Whether there are labels, and they mean what the task's network answers."""
        return self.data is not None and labels_apply(self.data, task_name, task)

    def metric(self, task: Task) -> Metric:
        """Return a new one of the task's principal metric against the labels."""
        assert self.data is not None
        return task.metrics_of_labels(label_classes(self.data, task))[task.metric_name]

    def notes(self, task_name: str, task: Task, model: str) -> list[str]:
        """Why the labels are left out, if they are."""
        if self.data is None or self.labels_apply(task_name, task):
            return []
        return labels_left_out(self.data, task_name, {model: task})
