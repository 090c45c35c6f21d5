"""The learned control: one forward pass decides every QP; at most one more encode meets the rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from dvcc import units
from dvcc.clip import Clip
from dvcc.codecs import X264, EncodedClip
from dvcc.control.network import ControlNetwork
from dvcc.qp import MAX_QP, QPMap
from dvcc.rate_control.base import RateController, best_within, check_target, needs_correction

# What a shift by one QP changes in log bits, at least and at most; a correction takes the one that errs to the cheap side.
_LEAST_PER_QP, _MOST_PER_QP = 0.09, 0.14


@dataclass(frozen=True)
class LearnedControl(RateController):
    """Absolute mode.

    control: a trained network. corrected: when the first encode misses the target (`needs_correction`), encode once
    more with the whole map shifted.
    """

    control: ControlNetwork
    codec: X264 = field(default_factory=X264)
    corrected: bool = False

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        mean_qp = self.mean_qp(clip, target_kbps)
        first = self.codec.encode(clip, _rounded(mean_qp))
        if not self.corrected or not needs_correction(first, target_kbps):
            return first
        miss = math.log(first.bitrate_kbps / target_kbps)
        shift = miss / (_LEAST_PER_QP if miss > 0 else _MOST_PER_QP)
        second = self.codec.encode(clip, _rounded(mean_qp + shift))
        return best_within([first, second], target_kbps)

    def qp_map(self, clip: Clip, target_kbps: float) -> QPMap:
        """The map that `encode` asks for first."""
        return _rounded(self.mean_qp(clip, target_kbps))

    @torch.inference_mode()
    def mean_qp(self, clip: Clip, target_kbps: float) -> torch.Tensor:
        """(T, h, w): what the network decides, not rounded."""
        bpp = units.kbps_to_bits_per_pixel(target_kbps, fps=clip.fps, height=clip.height, width=clip.width)
        device = self.control.head.weight.device
        log_bpp = torch.tensor([math.log(bpp)], device=device, dtype=torch.float32)
        return self.control.mean_qp(clip.frames[None].to(device), log_bpp)[0].cpu()


def _rounded(mean_qp: torch.Tensor) -> QPMap:
    return QPMap(mean_qp.round().clamp(0, MAX_QP).to(torch.int64).numpy())
