"""Fills `data.cache` before a training begins, in parallel: a step then waits for no encoder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from dvcc._files import make_folder
from dvcc.errors import ConfigError
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.samples import Clips, LadderSamples, Sample
from dvcc.surrogate.store import SampleStore
from dvcc.training.bar import progress_bar
from dvcc.training.batches import worker_context

T = TypeVar("T")


class Storing(Protocol):
    """Samples that are made once per clip and kept."""

    @property
    def clips(self) -> Clips: ...

    @property
    def store(self) -> SampleStore: ...

    def is_stored(self, clip: int, /) -> bool: ...

    def paths(self, clip: int, /) -> list[Path]: ...

    def store_clip(self, clip: int, /) -> None: ...


def fill_samples(samples: Storing, *, workers: int, to: str = "encode", title: str = "encoding") -> None:
    """Make and store what `samples` lacks, clip by clip: encodes, decoded pixels, or what is computed of them.

    Raises `ConfigError` when the disk has no room for it.
    """
    missing = [clip for clip in range(len(samples.clips)) if not samples.is_stored(clip)]
    folder = samples.store.folder
    if not missing or folder is None:
        return
    first = missing.pop(0)
    samples.store_clip(first)  # tells how large the others are going to be
    size = sum(path.stat().st_size for path in samples.paths(first))
    free = shutil.disk_usage(make_folder(folder)).free
    if size * len(missing) > free:
        raise ConfigError(
            f"decoded samples need {_size(size * len(missing))} more in {folder}, and the disk has {_size(free)} free: "
            f"lower data.max_clips or data.groups, set data.cache to another disk, or set data.store_pixels=false"
        )
    print(f"{folder}: {len(missing) + 1} clips to {to}, about {_size(size * (len(missing) + 1))}")
    for _ in _run(_Stored(samples), missing, workers=workers, title=title):
        pass


def fill_judged(judged: JudgedLadders, *, workers: int, device: torch.device) -> None:
    """Let the task network judge the ladders that it has not judged yet, on `device`, while workers decode the next ones."""
    missing = [clip for clip in range(len(judged.samples.clips)) if not judged.is_stored(clip)]
    judged.task.to(device)
    for sample in _run(_Pixels(judged.samples), missing, workers=workers, title="judging"):
        batch = {name: value.to(device) for name, value in default_collate([sample]).items()}
        judged.degradation(int(sample["clip"]), batch)


class _Stored(Dataset[int]):
    """Storing as a data set, for a loader's workers."""

    def __init__(self, samples: Storing) -> None:
        self.samples = samples

    def __getitem__(self, clip: int) -> int:
        self.samples.store_clip(clip)
        return clip


class _Pixels(Dataset[Sample]):
    """What a task network judges."""

    def __init__(self, samples: LadderSamples) -> None:
        self.samples = samples

    def __getitem__(self, clip: int) -> Sample:
        sample = self.samples.without_pixels(clip * self.samples.groups)
        ladder = self.samples.ladder_frames(clip)
        return {"clip": sample["clip"], "frames": sample["frames"].clone(), "ladder_frames": ladder.clone()}


def _run(dataset: Dataset[T], indices: list[int], *, workers: int, title: str) -> Iterator[T]:
    """Yield the items of `indices`, made by so many processes, with a progress bar."""
    if not indices:
        return
    workers = min(workers, len(indices))
    loader = DataLoader(
        Subset(dataset, indices), batch_size=None, num_workers=workers, multiprocessing_context=worker_context(workers)
    )
    with progress_bar() as bar:
        task = bar.add_task(title, total=len(indices), note="clips")
        for item in loader:
            yield item
            bar.advance(task)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
