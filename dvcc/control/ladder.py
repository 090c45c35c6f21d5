"""A teacher for one clip at a time: the offsets that the descent on its own judged ladder finds at each of x264's rates."""

from __future__ import annotations

import torch

from dvcc._source import source_digest
from dvcc.control.descent import descend
from dvcc.control.objective import Codec
from dvcc.networks.weights import state_digest
from dvcc.surrogate.base import Surrogate
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks.base import Task
from dvcc.tasks.identity import task_key


class LadderTeacher:
    """Offsets that lower `task`'s loss on a clip of `samples`, by the `surrogate` that reads its judged ladder.

    They are kept in the samples' store. A control learns to predict them from the picture alone.
    """

    def __init__(self, task: Task, surrogate: Surrogate, samples: LadderSamples) -> None:
        self.samples = samples
        code = source_digest("dvcc.control.descent", "dvcc.surrogate", within=("dvcc.surrogate", "dvcc.control.objective"))
        self._words: list[object] = [
            "descent",
            code,
            task_key(task),
            state_digest(surrogate.state_dict()),
            samples.codec,
            *samples.ladder_words,
        ]
        self._words.append(samples.baselines)

    def offsets(self, clip: int, codec: Codec, base: torch.Tensor) -> torch.Tensor:
        """Return offsets (K, h, w) from x264's own QPs (K, T, h, w) of clip number `clip`. codec: answers for it."""
        stored = self.samples.store.get(self._of(clip), lambda: {"offsets": descend(codec, base.float()).cpu()})
        return stored["offsets"].to(base.device)

    def is_stored(self, clip: int) -> bool:
        """Return whether the offsets of a clip are there."""
        return self.samples.store.has(self._of(clip))

    def _of(self, clip: int) -> list[object]:
        return [*self._words, self.samples.digest(clip)]
