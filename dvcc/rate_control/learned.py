"""The learned control: one forward pass decides the map; at most one correction meets the rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from dvcc import units
from dvcc.clip import Clip
from dvcc.codecs import ABR, CRF, X264, EncodedClip, VideoCodec
from dvcc.control.network import ControlNetwork, reduced
from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP, QPMap, QPOffsets, without_inherited
from dvcc.rate_control.abr import encode_abr, streamed
from dvcc.rate_control.base import RateController, best_within, check_target, needs_correction

# What a shift by one QP changes in log bits, at least and at most; a correction takes the one that errs to the cheap side.
_LEAST_PER_QP, _TYPICAL_PER_QP, _MOST_PER_QP = 0.09, 0.115, 0.14


@dataclass(frozen=True)
class LearnedControl(RateController):
    """A trained network decides.

    corrected: when the result misses the target (`needs_correction`), encode once more. Raises `ConfigError` for a network of
    the other mode.
    """

    control: ControlNetwork
    codec: VideoCodec = field(default_factory=X264)
    corrected: bool = False
    mode = ""

    def __post_init__(self) -> None:
        if self.control.mode != self.mode:
            raise ConfigError(
                f"this control was trained for {self.control.mode} mode, not {self.mode}: train one with control.mode"
            )

    def _inputs(self, clip: Clip, target_kbps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network takes: frames (1, T, 3, H, W) and log bits per pixel (1,), on its device."""
        bpp = units.kbps_to_bits_per_pixel(target_kbps, fps=clip.fps, height=clip.height, width=clip.width)
        device = self.control.head.weight.device
        return clip.frames[None].to(device), torch.tensor([math.log(bpp)], device=device, dtype=torch.float32)


class AbsoluteControl(LearnedControl):
    """The network decides every QP; a correction shifts the whole map."""

    mode = "absolute"

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        return self._encode_near(clip, self.mean_qp(clip, target_kbps), target_kbps)

    def _encode_near(self, clip: Clip, mean_qp: torch.Tensor, target_kbps: float) -> EncodedClip:
        """Encode at `mean_qp` (T, h, w), and once more, shifted, when that misses the target and `corrected` is set."""
        first = self.codec.encode(clip, dithered(mean_qp))
        if not self.corrected or not needs_correction(first, target_kbps):
            return first
        second = self.codec.encode(clip, dithered(mean_qp + correcting_shift(first.bitrate_kbps, target_kbps)))
        return best_within([first, second], target_kbps)

    @torch.inference_mode()
    def mean_qp(self, clip: Clip, target_kbps: float) -> torch.Tensor:
        """(T, h, w): what the network decides, not rounded."""
        return self.control.mean_qp(*self._inputs(clip, target_kbps))[0].cpu()


@dataclass(frozen=True)
class OffsetControl(LearnedControl):
    """The network moves quality on top of x264's two-pass ABR, which keeps the rate; a correction asks it for more or less.

    vbv: on top of one-pass ABR with a buffer instead (`streamed`), no frame waiting for a later one.
    """

    vbv: bool = False
    mode = "offset"

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        offsets = self.map_of(clip, target_kbps)
        rate = streamed(target_kbps, offsets) if self.vbv else ABR(target_kbps, offsets=offsets)
        return encode_abr(self.codec, clip, rate, corrected=self.corrected)

    @torch.inference_mode()
    def map_of(self, clip: Clip, target_kbps: float) -> QPOffsets:
        """Offsets, 0 on average in every frame but for rounding: what they have in common x264 would take back."""
        offsets = self.control.offsets(*self._inputs(clip, target_kbps), gop=self.codec.gop)[0].cpu()
        return QPOffsets(offsets.round().to(torch.int64).numpy())


class AnalysedControl(AbsoluteControl):
    """An analysis encode tells the QPs that x264 itself would take; the network sees them too and decides how far to depart from
    them; a common shift meets the target. As many encodes as two-pass ABR, and absolute QPs.

    The analysis is at constant rate factor, near the target by the network's prior: one-pass ABR drifts on a short clip.
    """

    mode = "analysed"

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        coded = self._encode_near(clip, self.mean_qp(clip, target_kbps), target_kbps)
        return replace(coded, num_encodes=coded.num_encodes + 1)

    @torch.inference_mode()
    def mean_qp(self, clip: Clip, target_kbps: float) -> torch.Tensor:
        """(T, h, w): what the network decides, whole QPs but for the shift. Encodes once."""
        frames, log_bpp = self._inputs(clip, target_kbps)
        analysis = self.codec.encode(clip, CRF(float(self.control.prior(reduced(frames), log_bpp))))
        read = analysis.realised_qp().values.astype("float32")
        shown, base = (torch.from_numpy(qp).to(frames.device) for qp in (read, without_inherited(read)))
        offsets = self.control.offsets(frames, log_bpp, shown[None], gop=self.codec.gop)[0]  # as in training
        shift = shift_to_target(analysis.bitrate_kbps, target_kbps)
        # Whole but for what all have in common: only that has to be dithered.
        return ((base + offsets).round() + shift).cpu()


LEARNED = {controller.mode: controller for controller in (AbsoluteControl, AnalysedControl, OffsetControl)}


def shift_to_target(achieved_kbps: float, target_kbps: float) -> float:
    """QPs, not rounded, by which to shift a whole map to get from what it came to to the target."""
    return math.log(achieved_kbps / target_kbps) / _TYPICAL_PER_QP


def correcting_shift(achieved_kbps: float, target_kbps: float) -> float:
    """The same, erring to the cheap side: the target is not to be exceeded again."""
    miss = math.log(achieved_kbps / target_kbps)
    return miss / (_LEAST_PER_QP if miss > 0 else _MOST_PER_QP)


def dithered(mean_qp: torch.Tensor) -> QPMap:
    """Whole QPs (T, h, w) with the mean of `mean_qp` (T, h, w): a whole step is 6 to 11 % of the bits, too coarse to meet a rate.

    The fraction is made up by macroblocks two QPs coarser, the last of every frame: x264 codes a QP one off its predecessor's as
    its predecessor's, and a fine pattern would have to be signalled at every macroblock.
    """
    rows, columns = mean_qp.shape[1:]
    place = (torch.arange(rows * columns, dtype=mean_qp.dtype) + 0.5) / (rows * columns)
    whole = mean_qp.floor()
    coarser = (mean_qp - whole) / 2 > 1 - place.view(rows, columns)
    return QPMap((whole + 2 * coarser).clamp(0, MAX_QP).to(torch.int64).numpy())
