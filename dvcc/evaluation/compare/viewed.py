"""Where the looking network sees objects in the uncoded frames, and where a person sees nothing but background."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from dvcc.evaluation.compare.stretch import Stretch
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import begin_objects
from dvcc.units import MACROBLOCK

_COUNTS = 0.5  # value from which a macroblock is inside


class ObjectRegions:
    """The macroblocks in which the rule's network sees objects that count, looking at every frame of a stretch.

    Raises `ConfigError` where the rule's zones have another shape.
    """

    def __init__(self, objects: Objects, stretch: Stretch) -> None:
        of_any_size = replace(objects, rule=replace(objects.rule, fall=0.0))
        self._stream, self._stretch = begin_objects(of_any_size, stretch), stretch
        self._frames, self._inside = 0, 0.0

    def of(self, frames: Iterable[int]) -> torch.Tensor:
        """bool (T, H, W): the pixels inside, of frames by number."""
        masks = []
        for t in frames:
            inside = self._stream.paint(self._stream.look(self._stretch.planes(t))) >= _COUNTS
            pixels = inside.repeat(MACROBLOCK, 0).repeat(MACROBLOCK, 1)[: self._stretch.height, : self._stretch.width]
            self._frames, self._inside = self._frames + 1, self._inside + float(pixels.mean())
            masks.append(pixels)
        return torch.from_numpy(np.stack(masks))

    def words(self) -> str:
        """Return what is inside, in a line."""
        objects = self._stream.objects
        zones = "" if objects.zones is None else ", and the zones that always count; zones that never do are outside"
        share = f"{100 * self._inside / max(1, self._frames):.0f} % of the pixels"
        return f"inside are macroblocks where {objects.rule.detector} sees objects in the uncoded frame{zones}: {share}"
