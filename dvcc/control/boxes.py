"""A teacher that needs no codec: the plain rule, if it saw on every frame what detectors see on the uncoded clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dvcc._source import source_digest
from dvcc.control.eyes.painting import Rule, offsets_of_clip, paint
from dvcc.networks.detectors.base import Boxes
from dvcc.pixels import as_float
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks.detection import DetectionTask
from dvcc.tasks.identity import task_key


class BoxTeacher:
    """Offsets of the rule for the share of `detectors` that see an object in a macroblock: what one of two sees is worth half.

    What a detector sees of a clip of `samples` is kept in their store.

    gop: frames per GOP, which the rule decides as a whole.
    """

    def __init__(self, detectors: Sequence[DetectionTask], samples: LadderSamples, rule: Rule, *, gop: int) -> None:
        self.samples, self.rule, self.gop = samples, rule, gop
        self.clips, self.store = samples.clips, samples.store
        self._keys = [(detector, task_key(detector)) for detector in detectors]  # a key reads all weights
        self._offsets: dict[int, torch.Tensor] = {}

    def offsets(self, clip: int) -> torch.Tensor:
        """Offsets (T, h, w) for clip number `clip`: made once."""
        if clip not in self._offsets:
            shares: np.ndarray = np.mean([self._seen(detector, key, clip) for detector, key in self._keys], axis=0)
            self._offsets[clip] = torch.from_numpy(offsets_of_clip(shares, self.rule, gop=self.gop))
        return self._offsets[clip]

    def entries(self, clip: int) -> list[list[object]]:
        """See `LadderSamples.entries`."""
        return [self._words(key, clip) for _, key in self._keys]

    def store_clip(self, clip: int) -> None:
        """Ask every detector about a clip, and keep what it sees."""
        self.offsets(clip)

    def _words(self, key: str, clip: int) -> list[object]:
        return ["boxes", source_digest("dvcc.control.boxes", "dvcc.control.eyes.painting"), key, self.samples.digest(clip)]

    def _seen(self, detector: DetectionTask, key: str, clip: int) -> np.ndarray:
        """float32 (T, h, w): 1 where one of its objects touches a macroblock."""
        return self.store.get(self._words(key, clip), lambda: self._look(detector, clip))["seen"].numpy().astype(np.float32)

    def _look(self, detector: DetectionTask, clip: int) -> dict[str, torch.Tensor]:
        source, seen = self.samples.clips[clip], []
        for objects in detector.objects(as_float(source.frames)):
            corners = objects.corners.float().cpu().numpy()
            boxes = Boxes(corners, np.zeros(len(corners), int), np.ones(len(corners), np.float32))
            seen.append(paint(boxes, boxes.scores, source.height, source.width))
        return {"seen": torch.from_numpy(np.stack(seen)).to(torch.uint8)}
