"""Sample pictures during training."""

from __future__ import annotations

from abc import ABC as AbstractBase
from abc import abstractmethod
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import default_collate

Sample = dict[str, torch.Tensor]


class PictureSamples(Protocol):
    """Samples by index, with or without decoded ladders."""

    def __getitem__(self, index: int, /) -> Sample: ...

    def without_pixels(self, index: int, /) -> Sample: ...


class Pictures(Callback, AbstractBase):
    """Draw the first sample every so many steps and at the end of the run.

    pixels: whether `draw` needs the decoded ladder.
    """

    pixels: bool

    def __init__(self, samples: PictureSamples, folder: Path, *, every: int) -> None:
        self.samples, self.folder, self.every = samples, folder, every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if (step % self.every == 0 or step == trainer.max_steps) and trainer.is_global_zero:
            item = self.samples[0] if self.pixels else self.samples.without_pixels(0)
            sample = {name: value.to(module.device) for name, value in default_collate([item]).items()}
            with torch.no_grad():
                self.draw(module, sample, self.folder / f"step_{step:06d}.png")

    @abstractmethod
    def draw(self, module: L.LightningModule, sample: Sample, path: Path) -> None:
        """Write the picture of `sample` to `path`."""
