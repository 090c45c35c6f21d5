"""A task that reads analysis encodes for a control, in place of the network that lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.analysis import Lost
from dvcc.media.format import Planes
from dvcc.pixels import as_float
from dvcc.surrogate.base import log_coding_error, per_macroblock
from dvcc.tasks.base import Task
from dvcc.tasks.judging import check_finite


@dataclass(frozen=True)
class TaskReader:
    """Asks a task's own network of as many neighbouring pictures as it takes."""

    task: Task
    name: str = "the network of the task"

    @property
    def frames(self) -> int:
        """See `Reader.frames`."""
        return 1 + self.task.overlap

    @torch.no_grad()
    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """See `Reader.lost`."""
        pictures = []
        for many in (uncoded, coded):
            rgb = np.stack([frame_to_rgb(planar_frame(*planes), matrix=matrix, full_range=full_range) for planes in many])
            pictures.append(as_float(torch.from_numpy(rgb).permute(0, 3, 1, 2)))
        before, after = (frames.rot90(quarter_turns, (-2, -1)) for frames in pictures)
        answer = check_finite(self.task, self.task.predict(before))
        lost = F.interpolate(self.task.degradation(self.task.predict(after)[None], answer[None]), after.shape[-2:])[0]
        read = per_macroblock(lost.rot90(-quarter_turns, (-2, -1))), log_coding_error(*pictures[::-1])
        return Lost(*(values.mean(0).numpy() for values in read))
