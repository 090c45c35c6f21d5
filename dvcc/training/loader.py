"""The loader of a training, as Lightning asks for it."""

from __future__ import annotations

import lightning as L
import torch
from torch.utils.data import DataLoader

from dvcc.training.batches import BySteps, Sample, SizedSamples, StepSampler, collate, worker_context


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
            BySteps(self.samples, seed=self.seed),
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            multiprocessing_context=worker_context(self.num_workers),
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
