"""Sample pictures during training: what the surrogate predicts, what the control decides."""

from __future__ import annotations

import math
from abc import ABC as AbstractBase
from abc import abstractmethod
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import default_collate

from dvcc import units
from dvcc.control import ControlNetwork
from dvcc.pixels import as_float
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.surrogate.samples import LadderSamples, nearest_rung
from dvcc.visuals import amplified_difference, rgb, strip


class _Pictures(Callback, AbstractBase):
    """Draws the first sample every so many steps and at the end of the run.

    pixels: whether `draw` needs the decoded ladder.
    """

    pixels: bool

    def __init__(self, samples: LadderSamples, folder: Path, *, every: int) -> None:
        self.samples, self.folder, self.every = samples, folder, every

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if (step % self.every == 0 or step == trainer.max_steps) and trainer.is_global_zero:
            item = self.samples[0] if self.pixels else self.samples.without_pixels(0)
            sample = {name: value.to(module.device) for name, value in default_collate([item]).items()}
            with torch.no_grad():
                self.draw(module, sample, self.folder / f"step_{step:06d}.png")

    @abstractmethod
    def draw(self, module: L.LightningModule, sample: dict[str, torch.Tensor], path: Path) -> None:
        """Write the picture of `sample` to `path`."""


class SurrogatePictures(_Pictures):
    """Input, really coded, predicted, and four times their difference, of the last frame."""

    pixels = True

    def draw(self, module: L.LightningModule, sample: dict[str, torch.Tensor], path: Path) -> None:
        """The first of the maps whose frames the sample has."""
        frames, coded = as_float(sample["frames"])[0, -1], as_float(sample["coded_frames"])[0, 0, -1]
        surrogate = cast(Surrogate, module.surrogate)
        predicted = surrogate(sample, one_hot_qp(sample["qp"][:, sample["shown"][0, 0]])).frames[0, -1]
        panels = {
            "input": rgb(frames),
            "really coded": rgb(coded),
            "predicted": rgb(predicted),
            "4 x (predicted - coded)": rgb(amplified_difference(predicted, coded)),
        }
        strip(panels, path)


class ControlPictures(_Pictures):
    """The map of the last frame at a low and a high target, over the frame."""

    pixels = False

    def draw(self, module: L.LightningModule, sample: dict[str, torch.Tensor], path: Path) -> None:
        """Targets are what the clip costs at the rungs nearest QP 42 and 28."""
        control = cast(ControlNetwork, module.control)
        frames = as_float(sample["frames"])
        panels, maps = {"input": rgb(frames[0, -1])}, {}
        for qp in (42, 28):
            rung = nearest_rung(self.samples.qps, qp)
            size = {"num_frames": frames.shape[1], "height": frames.shape[3], "width": frames.shape[4]}
            bpp = units.bits_per_pixel(float(sample["ladder_bits"][0, rung].sum()), **size)
            log_bpp = torch.tensor([math.log(bpp)], device=frames.device)
            decided = control.offsets(frames, log_bpp)
            title = f"offsets for {bpp:.3f} bits per pixel"
            panels[title], maps[title] = rgb(frames[0, -1]), decided[0, -1].cpu().numpy()
        strip(panels, path, qp=maps)
