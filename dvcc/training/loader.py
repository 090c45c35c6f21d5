"""Samples for a number of steps: the same in every run with the same seed, also after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

Sample = dict[str, torch.Tensor]


class SizedSamples(Protocol):
    """Samples by index, and how many there are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class StepSampler(Sampler[int]):
    """The indices of steps `start`, start + 1, .. up to `steps`: shuffled epochs, endlessly.

    Position p depends on (seed, p) alone, so a run resumed at a step sees the samples it would have seen; nothing
    has to be stored. A step takes `world_size` batches, and process `rank` yields its own of them.
    """

    def __init__(
        self, size: int, *, batch_size: int, steps: int, start: int = 0, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size, self.batch_size, self.seed, self.steps = size, batch_size, seed, steps
        self.batches = range(start * world_size + rank, steps * world_size, world_size)

    def __len__(self) -> int:
        """Of the whole run, also after a resume: Lightning goes on counting batches where the run stopped."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        shuffled_epoch, order = -1, torch.empty(0)
        for batch in self.batches:
            for position in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                epoch, place = divmod(position, self.size)
                if epoch != shuffled_epoch:
                    order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
                    shuffled_epoch = epoch
                yield int(order[place])


class ClipModule(L.LightningDataModule):
    """Serves one data set for a number of steps, from the step where the trainer stands."""

    def __init__(self, samples: SizedSamples, *, batch_size: int, steps: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.samples, self.batch_size, self.steps, self.num_workers, self.seed = samples, batch_size, steps, num_workers, seed

    def train_dataloader(self) -> DataLoader[Sample]:
        """One pass over all steps that are left; every process of a distributed run gets its own samples."""
        place = {"start": 0, "rank": 0, "world_size": 1}
        if self.trainer is not None:
            place = {
                "start": self.trainer.global_step,
                "rank": self.trainer.global_rank,
                "world_size": self.trainer.world_size,
            }
        sampler = StepSampler(len(self.samples), batch_size=self.batch_size, steps=self.steps, seed=self.seed, **place)
        # A generator of its own: workers are seeded from it, and torch's own state stays as the step left it.
        return DataLoader(
            cast("Dataset[Sample]", self.samples),
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            generator=torch.Generator(),
        )
