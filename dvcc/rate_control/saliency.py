"""Maps from what a task network looks at: no training, but the network and a backward pass wherever the video is coded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from dvcc.clip import Clip
from dvcc.codecs import ABR, X264, EncodedClip
from dvcc.pixels import as_float
from dvcc.qp import MAX_QP, QPMap, QPOffsets
from dvcc.rate_control.base import ClipController, add_encode_cost
from dvcc.rate_control.constant import search_level
from dvcc.surrogate.base import per_macroblock
from dvcc.tasks.base import Task

_LARGEST_OFFSET = 8


@dataclass(frozen=True)
class GradedSaliency(ClipController):
    """Offsets on two-pass ABR: -strength log2(saliency / mean).

    Saliency = |d loss / d pixel| x |coding error|, summed over a macroblock, dilated by one and averaged over the clip. A first
    two-pass encode tells the coding error.
    """

    task: Task
    codec: X264 = field(default_factory=X264)
    strength: float = 2.0

    def encode_clip(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `ClipController.encode_clip`."""
        first = self.codec.encode(clip, ABR(target_kbps))
        saliency = dilated(saliency_of(self.task, clip, first)).mean(0, keepdim=True)
        offsets = -self.strength * torch.log2(saliency / saliency.mean().clamp(min=1e-12) + 1e-3)
        offsets = (offsets - offsets.mean()).round().clamp(-_LARGEST_OFFSET, _LARGEST_OFFSET)
        values = offsets.expand(clip.num_frames, -1, -1).to(torch.int64).numpy()
        second = self.codec.encode(clip, ABR(target_kbps, offsets=QPOffsets(values)))
        return add_encode_cost(second, [first, second])


@dataclass(frozen=True)
class BinarySaliency(ClipController):
    """AccMPEG's two levels (Du et al., MLSys 2022): the most salient macroblocks at one QP, the others `gap` coarser.

    The published pair 30 and 40 knows no target; here it is moved as a whole until the bits fit, within `max_encodes` tries.

    Saliency: |d loss / d pixel| x |coding error| of the clip at QP 40; AccMPEG takes the difference to QP 30.
    share: of the macroblocks at the finer QP, before they are dilated by one.
    """

    task: Task
    codec: X264 = field(default_factory=X264)
    gap: int = 10
    share: float = 0.15
    max_encodes: int = 6

    def encode_clip(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `ClipController.encode_clip`."""
        coarse = self.codec.encode(clip, QPMap.uniform(40, like=clip))
        saliency = saliency_of(self.task, clip, coarse)
        chosen = dilated((saliency > saliency.flatten().quantile(1 - self.share)).float()) > 0

        def at(value: float) -> EncodedClip:
            values = np.where(chosen.numpy(), round(value), round(value) + self.gap)
            return self.codec.encode(clip, QPMap(values.clip(0, MAX_QP).astype(int)))

        coded = search_level(at, target_kbps, self.max_encodes, step=1)
        return add_encode_cost(coded, [coarse, coded])


def saliency_of(task: Task, clip: Clip, coded: EncodedClip) -> torch.Tensor:
    """(T, h, w): |d task loss / d pixel| x |coding error| at `coded`, summed over the pixels and colours of a macroblock."""
    pixels = as_float(coded.frames)[None].requires_grad_()
    uncoded = as_float(clip.frames)[None]
    with torch.no_grad():
        reference = task.predict(uncoded)
    (gradient,) = torch.autograd.grad(task.loss(task.predict(pixels), reference).sum(), pixels)
    return per_macroblock((gradient * (pixels.detach() - uncoded)).abs().sum(2)[0])


def dilated(values: torch.Tensor) -> torch.Tensor:
    """(T, h, w): the largest of every macroblock and its eight neighbours."""
    return F.max_pool2d(values[:, None], 3, 1, 1)[:, 0]
