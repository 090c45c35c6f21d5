"""Sample pictures during training."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import default_collate

Sample = dict[str, torch.Tensor]


class Pictures(Callback, AbstractBase):
    """Draw the first sample, which `first` reads, every so many steps and at the end of the run."""

    def __init__(self, first: Callable[[], Sample], folder: Path, *, every: int) -> None:
        self.first, self.folder, self.every = first, folder, every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if (step % self.every == 0 or step == trainer.max_steps) and trainer.is_global_zero:
            sample = {name: value.to(module.device) for name, value in default_collate([self.first()]).items()}
            with torch.no_grad():
                self.draw(module, sample, self.folder / f"step_{step:06d}.png")

    @abstractmethod
    def draw(self, module: L.LightningModule, sample: Sample, path: Path) -> None:
        """Write the picture of `sample` to `path`."""
