"""NanoDet-Plus-m: the painted boxes of the plain rule, how sure its best class is at every scale, and its features."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from dvcc.control.eyes.base import SCORES, Eyes, Look
from dvcc.networks.detectors.base import select
from dvcc.networks.detectors.detector import candidates_of
from dvcc.networks.detectors.gfl import Nanodet
from dvcc.networks.feed import Placement
from dvcc.networks.sources import InRepository

_LAYOUT, _CLASSES, _STRIDES = Nanodet(), 80, (8, 16, 32, 64)


class NanoDetEyes(Eyes):
    """NanoDet-Plus-m: painted boxes, class scores and features as planes.

    Scores are the best class at strides 8, 16, 32 and 64. Features are those of the neck, or of the backbone.
    """

    name = "nanodet_plus_m"
    file = "nanodet_plus_m_416.onnx"
    answers = ("output",)
    answer_planes = 1 + len(_STRIDES)
    choices: ClassVar = {"neck": ("1367", "1391", "1415", "1428"), "backbone": ("994", "1209", "1312"), "none": ()}
    channels: ClassVar = {"neck": 4 * 96, "backbone": 116 + 232 + 464, "none": 0}
    gains: ClassVar = {"neck": 5.0, "backbone": 10.0, "none": 1.0}

    @classmethod
    def make_file(cls, folder: Path) -> Path:
        """See `Eyes.make_file`: the published file itself."""
        return InRepository(cls.file).fetch(cls.name)

    def normalised(self, pictures: np.ndarray) -> np.ndarray:
        """See `Eyes.normalised`."""
        return _LAYOUT.feed.normalised(pictures * np.float32(1 / 255), np)

    def read(self, answers: list[np.ndarray], size: tuple[int, int]) -> Look:
        """See `Eyes.read`."""
        candidates = candidates_of(_LAYOUT, answers, size, Placement(0, 0, size[1], size[0]), _CLASSES, np)[0]
        best, maps, start = answers[0][0, :, :_CLASSES].max(1), [], 0
        for stride in _STRIDES:
            rows, columns = (-(-side // stride) for side in size)
            maps.append(best[start : start + rows * columns].reshape(1, rows, columns))
            start += rows * columns
        return Look(select(candidates, least_score=SCORES.unsure, suppress=True), maps)
