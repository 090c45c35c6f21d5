"""Sample pictures of stage 2: what the control decides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import lightning as L
import torch

from dvcc.control.module import ControlModule
from dvcc.pixels import as_float
from dvcc.surrogate.samples import Sample
from dvcc.training.pictures import Pictures
from dvcc.visuals import rgb, strip


class ControlPictures(Pictures):
    """Offsets of the last frame at the lowest and the highest rate that the control is told, over the frame."""

    def draw(self, module: L.LightningModule, sample: Sample, path: Path) -> None:
        """See `Pictures.draw`. What is added to a rule is drawn without it."""
        stage = cast(ControlModule, module)
        control, frames = stage.control, as_float(sample["frames"])
        panels, maps = {"input": rgb(frames[0, -1])}, {}
        for rate, planes in zip(control.config["rates"], stage.planes_at_ends(sample["clip"]), strict=True):
            decided = control.offsets(frames, torch.tensor([math.log(rate)], device=frames.device), planes=planes)
            title = f"offsets for {rate:.3g} bits per pixel"
            panels[title], maps[title] = rgb(frames[0, -1]), decided[0, -1].cpu().numpy()
        strip(panels, path, qp=maps)
