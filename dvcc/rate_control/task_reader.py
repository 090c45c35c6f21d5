"""Networks of a task that read analysis encodes for a control, in place of the one that lies beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.analysis import Lost, Reader
from dvcc.media.format import Planes
from dvcc.pixels import as_float
from dvcc.surrogate.base import log_coding_error
from dvcc.surrogate.judged import macroblock_degradation
from dvcc.tasks.base import Task
from dvcc.tasks.judging import check_finite

_LEAST_MEAN = 1e-6  # of a degradation that is divided by its mean


@dataclass(frozen=True)
class TaskReader:
    """Asks a task's own network of as many neighbouring pictures as it takes."""

    task: Task

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
            pictures.append(as_float(torch.from_numpy(rgb).permute(0, 3, 1, 2)).rot90(quarter_turns, (-2, -1)))
        before, after = pictures
        answer = check_finite(self.task, self.task.predict(before))
        read = macroblock_degradation(self.task, after, answer), log_coding_error(after, before)
        return Lost(*(values.mean(0).rot90(-quarter_turns, (-2, -1)).numpy() for values in read))


@dataclass(frozen=True)
class MeanReader:
    """Asks several, for who does not know which network is going to look.

    The degradation is the mean of theirs, each relative to its own mean over the picture: none outweighs the others.
    """

    readers: tuple[TaskReader, ...]

    @property
    def frames(self) -> int:
        """See `Reader.frames`."""
        return self.readers[0].frames  # of one task, so all take as many

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """See `Reader.lost`."""
        found = [
            reader.lost(uncoded, coded, matrix=matrix, full_range=full_range, quarter_turns=quarter_turns)
            for reader in self.readers
        ]
        means = [float(one.degradation.mean()) for one in found]
        shares = [one.degradation / max(mean, _LEAST_MEAN) for one, mean in zip(found, means, strict=True)]
        return Lost(np.mean(shares, 0) * np.float32(np.mean(means)), found[0].log_error)


def reading(tasks: Sequence[Task]) -> Reader:
    """Return who reads encodes, one network or several."""
    readers = tuple(map(TaskReader, tasks))
    return readers[0] if len(readers) == 1 else MeanReader(readers)
