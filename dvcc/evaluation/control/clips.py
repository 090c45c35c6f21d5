"""The clips that rate controllers are compared on, with the labels that a data set has for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from dvcc.clip import Clip
from dvcc.config import DataConfig
from dvcc.config.build import build_clips, data_root
from dvcc.datasets import DataSet, build_dataset
from dvcc.datasets.clips import ClipDataset, spread
from dvcc.datasets.splits import split_videos
from dvcc.datasets.table import SPLITS, Listed, fold_of, of_kinds, on_side, read_table
from dvcc.errors import ConfigError
from dvcc.evaluation.benchmark.networks import label_classes, labels_left_out, speaks_of
from dvcc.media.protocols import Protocol
from dvcc.tasks import Task
from dvcc.tasks.metric import Metric

_SEQUENCES = ("camvid_sequence", "cityscapes_sequence")
"""Data sets whose clips have as many frames as is asked for; of the others, every picture is a clip of one frame."""


@dataclass(frozen=True)
class ClipName:
    """What tells a clip apart. group: what intervals resample: footage that belongs together. kind: of scene, "" if unknown."""

    video: str
    start: int
    group: str
    kind: str = ""


@dataclass(frozen=True, eq=False)
class TestSet:
    """The held-out clips of a command's data. sources: the files that they are from. data: None for videos without labels.
    listed: rows of a corpus' table, by file name."""

    config: DataConfig
    sources: tuple[Path, ...]
    data: DataSet | None = None
    listed: dict[str, Listed] = field(default_factory=dict)

    __test__ = False  # no test, though pytest takes it for one by its name

    @cached_property
    def _clips(self) -> ClipDataset:
        return build_clips(self.config, self.sources)

    @cached_property
    def names(self) -> list[ClipName]:
        """Of all clips, in order; start: the first frame, or the number in the group."""
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
        """A clip and its labels."""
        if self.data is None:
            return self._clips[index], None
        height, width = self.config.size
        return self.data[index].load(Protocol(cover=(height, width)))

    def labels_apply(self, task_name: str, task: Task) -> bool:
        """Whether there are labels, and they mean what the task's network answers."""
        return self.data is not None and speaks_of(self.data, task_name, task)

    def metric(self, task: Task) -> Metric:
        """A new one of the task's principal metric against the labels."""
        assert self.data is not None
        return task.metrics_of_labels(label_classes(self.data, task))[task.metric_name]

    def notes(self, task_name: str, task: Task, model: str) -> list[str]:
        """Why the labels are left out, if they are."""
        if self.data is None or self.labels_apply(task_name, task):
            return []
        return labels_left_out(self.data, task_name, {model: task})


def find_test_set(data: DataConfig) -> TestSet:
    """The test side of the configured videos or data set. Raises `ConfigError` when its files are not where its layout has
    them."""
    root = data_root(data.root)
    if data.name == "folder":
        return TestSet(data, tuple(split_videos(root, test=data.test, exclude=data.exclude)[1]))
    if data.test or data.exclude:
        named = [*data.test, *data.exclude]
        raise ConfigError(f"data={data.name} has its own split: leave out data.test and data.exclude, got {named}")
    if data.name == "corpus":
        chosen = _listed(root, data)
        return TestSet(data, tuple(one.path for one in chosen), listed={one.path.name: one for one in chosen})
    options = {"frames": data.frames, "stride": data.stride} if data.name in _SEQUENCES else {}
    found = build_dataset(data.name, root, **options)
    examples = list(found.examples)
    if data.clips_per_video is not None:
        groups = dict.fromkeys(example.group for example in examples)
        per_group = [spread([one for one in examples if one.group == group], data.clips_per_video) for group in groups]
        examples = [example for group in per_group for example in group]
    examples = spread(examples, data.max_clips)
    sources = dict.fromkeys(example.source for example in examples if example.source is not None)
    return TestSet(data, tuple(sources), DataSet(found.name, tuple(examples), found.task, found.num_classes, found.class_maps))


def _listed(root: Path, data: DataConfig) -> list[Listed]:
    """The chosen rows of a corpus' table. Raises `ConfigError` for a side, a fold or a kind that it has not."""
    split = data.split
    if split not in SPLITS:
        raise ConfigError(f"data.split is {', '.join(SPLITS)}, got {split!r}")
    listed = on_side(read_table(root), split)
    if data.folds > 1:
        if split != "train":
            raise ConfigError(f"data.folds are of the training side: set data.split=train, got {split!r}")
        place = fold_of(listed, data.folds)
        listed = [one for one in listed if place[one.group] == data.fold]
    chosen = of_kinds(listed, data.kinds)
    if not chosen:
        raise ConfigError(f"{root} has no video of the split {split!r}: choose another data.split")
    return chosen
