"""Fills `data.cache` before a training begins, in parallel: a step then waits for no encoder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import default_collate

from dvcc._files import make_folder
from dvcc.engines import given, open_workers
from dvcc.errors import ConfigError
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.samples import Clips, LadderSamples, Sample
from dvcc.surrogate.store import SampleStore
from dvcc.tasks import Task
from dvcc.training.bar import progress_bar
from dvcc.training.batches import LOADED
from dvcc.training.files import first_process

_LOOK_EVERY = 0.5  # seconds

S = TypeVar("S")
R = TypeVar("R")


class Storing(Protocol):
    """Samples that are made once per clip and kept."""

    @property
    def clips(self) -> Clips: ...

    @property
    def store(self) -> SampleStore: ...

    def entries(self, clip: int, /) -> list[list[object]]: ...

    def store_clip(self, clip: int, /) -> None: ...


def fill_samples(
    samples: Storing,
    *,
    engine: str,
    workers: int | None,
    to: str = "encode",
    title: str = "encoding",
) -> None:
    """Make and store what `samples` lacks, clip by clip: encodes, decoded pixels, or what is computed of them.

    Raises `ConfigError` when the disk has no room for it.
    """
    if samples.store.entries is None:
        return
    folder = samples.store.entries.folder
    missing = clips_to_fill(partial(_is_stored, samples), len(samples.clips))
    if not missing:
        return
    first = missing.pop(0)
    samples.store_clip(first)  # tells how large the others are going to be
    size = sum(samples.store.path(words).stat().st_size for words in samples.entries(first))
    free = shutil.disk_usage(make_folder(folder)).free
    if size * len(missing) > free:
        raise ConfigError(
            f"decoded samples need {_size(size * len(missing))} more in {folder}, and the disk has {_size(free)} free: "
            f"lower data.max_clips or data.groups, set data.cache to another disk, or set data.store_pixels=false"
        )
    print(f"{samples.store.entries}: {len(missing) + 1} clips to {to}, about {_size(size * (len(missing) + 1))}")
    for _ in _run(samples, given(samples), _store, missing, engine=engine, workers=workers, title=title):
        pass


def fill_judged(
    judged: JudgedLadders,
    build_task: Callable[[], Task],
    *,
    engine: str,
    workers: int | None,
    device: torch.device,
) -> None:
    """Let the task network judge the ladders that it has not judged yet.

    On a CPU every worker has the network, which `build_task` makes; on another `device` the network is here, and workers decode.
    """
    missing = clips_to_fill(judged.is_stored, len(judged.samples.clips))
    how: dict[str, Any] = {"engine": engine, "workers": workers, "title": "judging"}
    if device.type == "cpu":
        for _ in _run(judged, partial(_judged_by, build_task, judged.samples), _judge, missing, **how):
            pass
        return
    judged.task.to(device)
    for sample in _run(judged.samples, given(judged.samples), _pixels, missing, **how):
        batch = {name: value.to(device) for name, value in default_collate([sample]).items()}
        judged.degradation(int(sample["clip"]), batch)


def clips_to_fill(is_stored: Callable[[int], bool], count: int) -> list[int]:
    """Return the clips, of so many, that a cache lacks.

    In a later process of a distributed run, wait until the first has made all of them: the cache is shared.
    """
    if first_process():
        return [clip for clip in range(count) if not is_stored(clip)]
    for clip in range(count):
        while not is_stored(clip):
            time.sleep(_LOOK_EVERY)
    return []


def _is_stored(samples: Storing, clip: int) -> bool:
    return all(samples.store.has(words) for words in samples.entries(clip))


def _store(samples: Storing, clip: int) -> None:
    samples.store_clip(clip)


def _judged_by(build_task: Callable[[], Task], samples: LadderSamples) -> JudgedLadders:
    return JudgedLadders(build_task(), samples)


def _judge(judged: JudgedLadders, clip: int) -> None:
    judged.degradation(clip, default_collate([_pixels(judged.samples, clip)]))


def _pixels(samples: LadderSamples, clip: int) -> Sample:
    """Return what a task network judges."""
    sample = samples.without_pixels(clip * samples.groups)
    return {"clip": sample["clip"], "frames": sample["frames"].clone(), "ladder_frames": samples.ladder_frames(clip).clone()}


def _run(
    here: S,
    build: Callable[[], S],
    work: Callable[[S, int], R],
    clips: list[int],
    *,
    engine: str,
    workers: int | None,
    title: str,
) -> Iterator[R]:
    """Yield what `work` makes of `clips`, as it comes, with a progress bar."""
    if not clips:
        return
    with (
        open_workers(engine, build, pieces=len(clips), workers=workers, here=here, imports=LOADED) as started,
        progress_bar() as bar,
    ):
        task = bar.add_task(title, total=len(clips), note="clips")
        for _, result in started.run(work, clips):
            yield result
            bar.advance(task)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
