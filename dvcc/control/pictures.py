"""Sample pictures of stage 2: what the control decides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import lightning as L
import torch

from dvcc import units
from dvcc.control.network import ControlNetwork
from dvcc.control.planes import ClipPlanes
from dvcc.pixels import as_float
from dvcc.surrogate.samples import LadderSamples, Sample, nearest_rung
from dvcc.training.pictures import Pictures
from dvcc.visuals import rgb, strip


class ControlPictures(Pictures):
    """Offsets of the last frame at a low and a high target, over the frame."""

    pixels = False
    samples: LadderSamples

    def draw(self, module: L.LightningModule, sample: Sample, path: Path) -> None:
        """Draw them at what the clip costs at the rungs nearest QP 42 and 28."""
        control, seen = cast(ControlNetwork, module.control), cast(ClipPlanes | None, module.planes)
        planes = None if seen is None else seen.of(sample["clip"])
        frames = as_float(sample["frames"])
        panels, maps = {"input": rgb(frames[0, -1])}, {}
        for qp in (42, 28):
            rung = nearest_rung(self.samples.qps, qp)
            size = {"num_frames": frames.shape[1], "height": frames.shape[3], "width": frames.shape[4]}
            bpp = units.bits_per_pixel(float(sample["ladder_bits"][0, rung].sum()), **size)
            log_bpp = torch.tensor([math.log(bpp)], device=frames.device)
            decided = control.offsets(frames, log_bpp, planes=planes)
            title = f"offsets for {bpp:.3f} bits per pixel"
            panels[title], maps[title] = rgb(frames[0, -1]), decided[0, -1].cpu().numpy()
        strip(panels, path, qp=maps)
