"""What a task's own detector sees: on every frame, a bound for a control that has to find it; now and then, the rule with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip, VideoCodec
from dvcc.control.eyes.painting import load_rule
from dvcc.errors import ConfigError
from dvcc.networks.exported import OnnxDetector
from dvcc.pixels import as_float
from dvcc.qp import QPOffsets
from dvcc.rate_control.base import ClipController
from dvcc.rate_control.objects import Objects, rule_of
from dvcc.tasks.detection import DetectionTask
from dvcc.units import MACROBLOCK, macroblock_grid


def objects_of(task: DetectionTask) -> Objects:
    """Return the published rule with the network of `task` as the one that looks.

    Raises `ConfigError` for one of no ONNX file.
    """
    if not isinstance(task.net, OnnxDetector):
        raise ConfigError(f"only a network of an ONNX file looks as dvcc encode does, and {task.model} is none: export it first")
    return Objects(task.net.detector, rule_of(task.net.detector, load_rule()))


@dataclass(frozen=True)
class BoxOracle(ClipController):
    """Offsets on two-pass ABR: `inside` where a box of the uncoded clip touches the macroblock, `outside` elsewhere."""

    task: DetectionTask
    codec: VideoCodec = field(default_factory=X264)
    inside: int = -4
    outside: int = 8
    _kept: dict[str, QPOffsets] = field(default_factory=dict, repr=False, compare=False)

    def encode_clip(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `ClipController.encode_clip`."""
        if clip.digest not in self._kept:  # a comparison encodes a clip at many targets, one after the other
            self._kept.clear()
            self._kept[clip.digest] = self._offsets(clip)
        return self.codec.encode(clip, ABR(target_kbps, offsets=self._kept[clip.digest]))

    def _offsets(self, clip: Clip) -> QPOffsets:
        values = np.full((clip.num_frames, *macroblock_grid(clip.height, clip.width)), self.outside)
        scale = np.array([clip.width, clip.height] * 2) / MACROBLOCK
        for t, objects in enumerate(self.task.objects(as_float(clip.frames))):
            for left, top, right, bottom in objects.corners.numpy() * scale:
                values[t, int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = self.inside
        return QPOffsets(values)
