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


class StepSampler(Sampler[tuple[int, int, int]]):
    """The (index, step, place in the step) of steps `start`, start + 1, .. up to `steps`: shuffled epochs, endlessly.

    Position p depends on (seed, p) alone, so a run resumed at a step sees the samples it would have seen; nothing
    has to be stored. A step takes `world_size` batches, and process `rank` yields its own of them: what one process with so large
    a batch would take.
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

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        shuffled_epoch, order = -1, torch.empty(0)
        for batch in self.batches:
            for position in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                epoch, place = divmod(position, self.size)
                if epoch != shuffled_epoch:
                    order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
                    shuffled_epoch = epoch
                step, place_in_step = divmod(position, self.world_size * self.batch_size)
                yield int(order[place]), step, place_in_step


class BySteps(Dataset[Sample]):
    """Items by (index, step, place in the step), as `StepSampler` asks for them.

    An item has also `draw_seed` int64 (), for what a step draws for it (see `generators`).
    """

    def __init__(self, samples: SizedSamples, *, seed: int) -> None:
        self.samples, self.seed = samples, seed

    def __getitem__(self, at: tuple[int, int, int]) -> Sample:
        index, step, place = at
        return {**self.samples.at_step(index, step), "draw_seed": torch.tensor(draw_seed(self.seed, step, place))}


def draw_seed(seed: int, step: int, place: int = 0) -> int:
    """Return the seed of what is drawn in a step, for the item at a place of it."""
    return (seed * 1_000_003 + step) * 1009 + place


def generators(batch: Sample) -> list[torch.Generator | None]:
    """Return what to draw from for each clip of a batch; None, torch's own, without `draw_seed`.

    What is drawn for a clip depends on (seed, step, place in the step), and not on which process has it, nor on the others.
    """
    if "draw_seed" not in batch:
        return [None] * len(batch["frames"])
    return [torch.Generator().manual_seed(seed) for seed in batch["draw_seed"].tolist()]


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
