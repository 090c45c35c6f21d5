"""Samples for a number of steps: the same in every run with the same seed, also after a resume.

What the processes of a loader import: without Lightning, which takes ten seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.context import BaseContext
from typing import Protocol

import torch
from torch.utils.data import Dataset, Sampler, default_collate

from dvcc._processes import fresh_processes

Sample = dict[str, torch.Tensor]


class SizedSamples(Protocol):
    """Samples by index and step, and how many there are."""

    def __len__(self) -> int: ...

    def at_step(self, index: int, step: int) -> Sample: ...


LOADED = ("dvcc.surrogate.fill", "dvcc.surrogate.step_samples", "dvcc.datasets.clips")
"""What processes that make or read samples import, once for all of them."""


def worker_context(workers: int) -> BaseContext | None:
    """How so many processes of a loader start; None for none."""
    return fresh_processes(*LOADED) if workers else None


class StepSampler(Sampler[tuple[int, int]]):
    """The (index, step) of steps `start`, start + 1, .. up to `steps`: shuffled epochs, endlessly.

    Position p depends on (seed, p) alone, so a run resumed at a step sees the samples it would have seen; nothing
    has to be stored. A step takes `world_size` batches, and process `rank` yields its own of them.
    """

    def __init__(
        self, size: int, *, batch_size: int, steps: int, start: int = 0, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size, self.batch_size, self.seed, self.steps = size, batch_size, seed, steps
        self.world_size = world_size
        self.batches = range(start * world_size + rank, steps * world_size, world_size)

    def __len__(self) -> int:
        """Return the count of the whole run, also after a resume: Lightning goes on counting batches where the run stopped."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        shuffled_epoch, order = -1, torch.empty(0)
        for batch in self.batches:
            for position in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                epoch, place = divmod(position, self.size)
                if epoch != shuffled_epoch:
                    order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
                    shuffled_epoch = epoch
                yield int(order[place]), batch // self.world_size


class BySteps(Dataset[Sample]):
    """Items by (index, step), as `StepSampler` asks for them."""

    def __init__(self, samples: SizedSamples) -> None:
        self.samples = samples

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        return self.samples.at_step(*place)


_OWN_LENGTH = ("ladder_frames", "ladder_rungs")
"""What each item has as many of as its own map needs."""


def collate(samples: list[Sample]) -> Sample:
    """Return a batch of items. Of `_OWN_LENGTH`, one that is shorter than that of another item repeats its last entry."""
    if len(samples) == 1:  # no copy: its tensors may be memory maps
        return {name: value[None] for name, value in samples[0].items()}
    for name in _OWN_LENGTH:
        if name in samples[0] and len({len(sample[name]) for sample in samples}) > 1:
            longest = torch.arange(max(len(sample[name]) for sample in samples))
            samples = [{**sample, name: sample[name][longest.clamp(max=len(sample[name]) - 1)]} for sample in samples]
    batch: Sample = default_collate(samples)
    return batch
