"""Sample pictures of stage 1: what the surrogate predicts."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import lightning as L

from dvcc.pixels import as_float
from dvcc.surrogate.base import Sample, Surrogate, one_hot_qp
from dvcc.training.pictures import Pictures
from dvcc.visuals import amplified_difference, rgb, strip


class SurrogatePictures(Pictures):
    """Input, really coded, predicted, and four times their difference, of the last frame."""

    def draw(self, module: L.LightningModule, sample: Sample, path: Path) -> None:
        """Draw the first of the maps whose frames the sample has."""
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
