"""The clips that rate controllers are compared on, with the labels that a data set has for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torchmetrics import Metric

from dvcc.clip import Clip
from dvcc.config import DataConfig, EvaluateControlConfig
from dvcc.datasets import DataSet, build_dataset
from dvcc.datasets.clips import spread
from dvcc.datasets.splits import split_videos
from dvcc.errors import ConfigError
from dvcc.evaluation.benchmark.networks import labels_left_out, num_classes, speaks_of
from dvcc.media.protocols import Protocol
from dvcc.tasks import Task
from dvcc.tasks.judging import pooled, predict_frames, refuse_silence, state_of, with_noise
from dvcc.training.run import build_clips, data_root

_SEQUENCES = ("camvid_sequence", "cityscapes_sequence")
"""Data sets whose clips have as many frames as is asked for; of the others, every picture is a clip of one frame."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A test clip, and how far the network agrees with itself on it. The reference prediction is made when it is needed: those of
    many long clips do not fit into memory. labels: of a data set, where they are of the task and its network's classes."""

    clip: Clip
    video: str
    start: int
    agreement: float
    labels: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class TestSet:
    """The held-out clips of a command's data. sources: the files that they are from. data: None for videos without labels."""

    config: DataConfig
    sources: tuple[Path, ...]
    data: DataSet | None = None

    __test__ = False  # no test, though pytest takes it for one by its name

    def __iter__(self) -> Iterator[tuple[str, int, Clip, torch.Tensor | None]]:
        """(video or group, first frame or number in the group, clip, labels) of every clip."""
        if self.data is None:
            clips = build_clips(self.config, self.sources)
            for index, span in enumerate(clips.spans):
                name = span.video.name if span.shot is None else f"{span.video.name} shot {span.shot}"
                yield name, span.start, clips[index], None
            return
        counts: dict[str, int] = {}
        for example in self.data:
            height, width = self.config.size
            number = counts[example.group] = counts.get(example.group, 0) + 1
            yield (example.group, number - 1, *example.load(Protocol(cover=(height, width))))

    def labels_apply(self, task_name: str, task: Task) -> bool:
        """Whether there are labels, and they mean what the task's network answers."""
        data = self.data
        return data is not None and (
            speaks_of(data, task_name, task) or (data.task == task_name and num_classes(task) in data.class_maps)
        )

    def metric(self, task: Task) -> Metric:
        """A new one of the task's principal metric against the labels."""
        assert self.data is not None
        own = num_classes(task)
        classes = None if self.data.num_classes in (own, (own or 0) - 1) else self.data.class_maps.get(own or 0)
        return task.metrics_of_labels(classes)[task.metric_name]

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


def load_test_clips(config: EvaluateControlConfig, tests: TestSet, task: Task) -> tuple[list[Judged], list[Judged]]:
    """(clips to score, clips that fail the stability gate).

    Raises `ConfigError` when no clip passes.
    """
    labelled = tests.labels_apply(config.task.name, task)
    judged = []
    metric = task.metric()
    for name, start, clip, labels in tests:
        reference = predict_frames(task, clip.frames)
        metric.update(reference, task.labels(reference))
        noisy = with_noise(clip.frames, seed=config.seed)
        agreement = float(task.agreement(predict_frames(task, noisy)[None], reference[None])[0])
        judged.append(Judged(clip, name, start, agreement, labels if labelled else None))
    refuse_silence(task, pooled(task.metric(), [state_of(metric)]))
    stable = [j for j in judged if j.agreement >= config.stability]
    if not stable:
        best = max(j.agreement for j in judged)
        raise ConfigError(
            f"{config.task.model} disagrees with itself under +-1 noise on every clip (best agreement {best:.2f} < "
            f"{config.stability}): use another network or larger frames, or lower stability"
        )
    return stable, [j for j in judged if j.agreement < config.stability]


def names_of(judged: Sequence[Judged]) -> list[tuple[str, int]]:
    """What tells clips apart in rows and summaries."""
    return [(j.video, j.start) for j in judged]
