"""A task that reads analysis encodes for a control in training, before its network lies beside the control."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.analysis import Lost
from dvcc.errors import ConfigError
from dvcc.media.format import Planes
from dvcc.pixels import as_float
from dvcc.surrogate.base import log_coding_error
from dvcc.surrogate.judged import macroblock_degradation
from dvcc.tasks.base import Task
from dvcc.tasks.judging import check_finite


@dataclass(frozen=True)
class TaskReader:
    """Asks a task's own network of single pictures. Raises `ConfigError` for a task that needs neighbouring ones."""

    task: Task

    def __post_init__(self) -> None:
        if self.task.overlap:
            raise ConfigError(
                f"{type(self.task).__name__} needs neighbouring frames, and an analysis encode is read by single ones: train "
                "without control.analysis"
            )

    @torch.no_grad()
    def lost(self, uncoded: Planes, coded: Planes, *, matrix: Matrix, full_range: bool, quarter_turns: int) -> Lost:
        """See `Reader.lost`."""
        pictures = []
        for planes in (uncoded, coded):
            rgb = torch.from_numpy(frame_to_rgb(planar_frame(*planes), matrix=matrix, full_range=full_range))
            pictures.append(as_float(rgb.permute(2, 0, 1)[None]).rot90(quarter_turns, (-2, -1)))
        before, after = pictures
        answer = check_finite(self.task, self.task.predict(before))
        read = macroblock_degradation(self.task, after, answer), log_coding_error(after, before)
        return Lost(*(values[0].rot90(-quarter_turns, (-2, -1)).numpy() for values in read))
