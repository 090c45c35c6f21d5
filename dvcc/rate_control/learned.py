"""The learned control: one network, two ways to deliver what it decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from dvcc.clip import Clip
from dvcc.codecs import ABR, CRF, X264, EncodedClip, VideoCodec
from dvcc.control.runtime import Control
from dvcc.control.stream import ControlStream, reduced_planes
from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP, Delivery, QPMap, QPOffsets, fill_skipped_qps
from dvcc.rate_control.abr import encode_abr, streamed
from dvcc.rate_control.base import RateController, best_within, check_target, needs_correction

# What a shift by one QP changes in log bits, at least and at most; a correction takes the one that errs to the cheap side.
_LEAST_PER_QP, _TYPICAL_PER_QP, _MOST_PER_QP = 0.09, 0.115, 0.14


@dataclass(frozen=True)
class LearnedControl(RateController):
    """A trained network decides offsets from the encoder's own QPs; `delivery` says how the encoder gets them.

    offsets: on top of two-pass ABR, which keeps the rate. map: every QP. An analysis encode at constant rate factor tells the QPs
    that the encoder itself would take (one-pass ABR drifts on a short clip); skipped macroblocks are filled, offsets are added,
    and a common shift meets the target: as many encodes as two-pass ABR.

    corrected: when the result misses the target (`needs_correction`), encode once more. vbv: offsets on top of one-pass ABR with
    a buffer instead (`streamed`), no frame waiting for a later one. Raises `ConfigError` for a map with vbv.
    """

    control: Control
    codec: VideoCodec = field(default_factory=X264)
    delivery: Delivery = "offsets"
    corrected: bool = False
    vbv: bool = False

    def __post_init__(self) -> None:
        if self.delivery not in get_args(Delivery):
            raise ConfigError(f"a control is delivered as {' or '.join(get_args(Delivery))}, got {self.delivery!r}")
        if self.vbv and self.delivery == "map":
            raise ConfigError("a map needs an analysis encode, and vbv is for streams: deliver offsets")

    def encode(self, clip: Clip, target_kbps: float) -> EncodedClip:
        """See `RateController.encode`."""
        check_target(target_kbps)
        if self.delivery == "map":
            return self._encode_map(clip, target_kbps)
        offsets = QPOffsets(self.offsets(clip, target_kbps).round().astype(int))
        rate = streamed(target_kbps, offsets) if self.vbv else ABR(target_kbps, offsets=offsets)
        return encode_abr(self.codec, clip, rate, corrected=self.corrected)

    def offsets(self, clip: Clip, target_kbps: float) -> np.ndarray:
        """float32 (T, h, w): offsets, 0 on average in every frame: what they have in common the encoder would take back."""
        return np.stack(list(self._stream(clip, target_kbps).decide_all(_reduced(clip))))

    def requested_qp(self, clip: Clip, target_kbps: float) -> np.ndarray:
        """(T, h, w): every QP, whole but for the common shift: only that has to be dithered. Encodes once."""
        crf = self._stream(clip, target_kbps).level(np.stack(list(_reduced(clip))))
        analysis = self.codec.encode(clip, CRF(crf))
        base = fill_skipped_qps(analysis.realised_qp().values.astype(np.float32))
        shift = shift_to_target(analysis.bitrate_kbps, target_kbps)
        return np.rint(base + self.offsets(clip, target_kbps)) + shift

    def _encode_map(self, clip: Clip, target_kbps: float) -> EncodedClip:
        qp = self.requested_qp(clip, target_kbps)
        coded = self.codec.encode(clip, dithered(qp))
        if self.corrected and needs_correction(coded, target_kbps):
            shifted = self.codec.encode(clip, dithered(qp + correcting_shift(coded.bitrate_kbps, target_kbps)))
            coded = best_within([coded, shifted], target_kbps)
        return replace(coded, num_encodes=coded.num_encodes + 1)

    def _stream(self, clip: Clip, target_kbps: float) -> ControlStream:
        size = {"height": clip.height, "width": clip.width}
        return ControlStream(self.control, target_kbps, fps=clip.fps, **size, gop=self.codec.gop)


def _reduced(clip: Clip) -> Iterator[np.ndarray]:
    """Yield what the network is shown of every frame."""
    for planes in zip(clip.y, clip.u, clip.v, strict=True):
        yield reduced_planes(*planes, matrix=clip.matrix, full_range=clip.full_range)


def shift_to_target(achieved_kbps: float, target_kbps: float) -> float:
    """QPs, not rounded, by which to shift a whole map to get from what it came to to the target."""
    return math.log(achieved_kbps / target_kbps) / _TYPICAL_PER_QP


def correcting_shift(achieved_kbps: float, target_kbps: float) -> float:
    """The same, erring to the cheap side: the target is not to be exceeded again."""
    miss = math.log(achieved_kbps / target_kbps)
    return miss / (_LEAST_PER_QP if miss > 0 else _MOST_PER_QP)


def dithered(qp: np.ndarray) -> QPMap:
    """Whole QPs (T, h, w) with the mean of `qp` (T, h, w): a whole step is 6 to 11 % of the bits, too coarse to meet a rate.

    The fraction is made up by macroblocks two QPs coarser, the last of every frame: x264 codes a QP one off its predecessor's as
    its predecessor's, and a fine pattern would have to be signalled at every macroblock.
    """
    rows, columns = qp.shape[1:]
    place = (np.arange(rows * columns) + 0.5) / (rows * columns)
    whole = np.floor(qp)
    coarser = (qp - whole) / 2 > 1 - place.reshape(rows, columns)
    return QPMap((whole + 2 * coarser).clip(0, MAX_QP).astype(int))
