"""The learned control delivered as a map of every QP; its other delivery is `AverageBitrate` with offsets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from dvcc._files import temporary_folder
from dvcc.codecs import CRF, X264, VideoCodec
from dvcc.codecs.bitstream import CodedStream
from dvcc.codecs.encoder import GivenQPs
from dvcc.codecs.passes import Destination, EncoderPass, MappedFrame, Progress, encode, no_progress
from dvcc.codecs.stats import EncodeStats
from dvcc.control.deployed.runtime import Control
from dvcc.media.format import Source, SourceFrame
from dvcc.media.output import temporary_container
from dvcc.qp import MAX_QP, QPMap, fill_skipped_qps
from dvcc.rate_control.analysed import Analysis, reader_of, refuse_two_rules
from dvcc.rate_control.base import R, RateController, add_encode_cost, largest_within, needs_correction
from dvcc.rate_control.kept_maps import KeptMaps, next_map
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import LearnedOffsets, reduced_frame

# What a shift by one QP changes in log bits, at least and at most; a correction takes the one that errs to the cheap side.
_LEAST_PER_QP, _TYPICAL_PER_QP, _MOST_PER_QP = 0.09, 0.115, 0.14
_LOOK_EVERY = 16


@dataclass(frozen=True)
class LearnedMap(RateController):
    """A trained network decides offsets, and the encoder is given every QP.

    An analysis encode at constant rate factor tells the QPs that the encoder itself would take (one-pass ABR drifts on a short
    clip); skipped macroblocks are filled, offsets are added, and a common shift meets the target: as many encodes as two-pass
    ABR.

    objects: whose offsets are added to the network's. corrected: when the result misses the target (`needs_correction`), encode
    once more with another shift. Raises `ConfigError` for objects beside a control that adds to a rule.
    """

    control: Control
    codec: VideoCodec = field(default_factory=X264)
    objects: Objects | None = None
    corrected: bool = False

    def __post_init__(self) -> None:
        refuse_two_rules(self.control, self.objects)

    def encode_into(self, source: Source, target_kbps: float, into: Destination[R]) -> R:
        """See `RateController.encode_into`."""
        with temporary_folder() as folder:
            maps = self.generator(source, target_kbps, folder, into.progress)
            candidates = [encode(self.codec, source, GivenQPs(), into, maps.generate)]
            if self.corrected and needs_correction(candidates[0], target_kbps):
                shift = correcting_shift(candidates[0].bitrate_kbps, target_kbps)
                shifted = partial(maps.generate, correction=shift)
                candidates.append(encode(self.codec, source, GivenQPs(), into, shifted, name="correction"))
        return add_encode_cost(largest_within(candidates, target_kbps), candidates, others=1)

    def generator(self, source: Source, target_kbps: float, folder: Path, progress: Progress = no_progress) -> QPMapGenerator:
        """Return what decides every QP of `source`, after an analysis encode into `folder`.

        That encode is near the target by the network's prior.
        """
        path = folder / "analysis.mkv"
        offsets, stats = analysed_offsets(self.control, source, target_kbps, self.codec, path, progress, objects=self.objects)
        kept = KeptMaps(offsets.generate, source, folder / "offsets")
        return QPMapGenerator(kept, path, shift_to_target(stats.bitrate_kbps, target_kbps))


def analysed_offsets(
    control: Control,
    source: Source,
    target_kbps: float,
    codec: VideoCodec,
    path: Path,
    progress: Progress = no_progress,
    *,
    objects: Objects | None = None,
) -> tuple[LearnedOffsets, EncodeStats]:
    """Return what decides the offsets of `source`, after an analysis encode near the target, and what that came to.

    path: the Matroska file of that encode. A control that sees an analysis encode sees this one.
    """
    watch = Analysis(reader_of(control), source, codec.gop, path.with_suffix(".planes")) if control.analysis else None
    planes = None if watch is None else watch.planes()
    offsets = LearnedOffsets(control, source, target_kbps, codec, analysis=planes, objects=objects)
    rate = CRF(_prior_qp(offsets, source, progress))
    analysis = EncoderPass("analysis", codec, source, rate, progress=progress, watch=watch)
    with temporary_container(path) as container:
        return offsets, analysis.run(source.frames(), container)


@dataclass(frozen=True)
class QPMapGenerator:
    """offsets: on the QPs of the encode in the file `analysis`. shift: by which all have to move, in QPs, to meet the target."""

    offsets: KeptMaps
    analysis: Path
    shift: float

    def generate(self, frames: Iterable[SourceFrame], *, correction: float = 0.0) -> Iterator[MappedFrame]:
        """Frames with every QP, 0..51. correction: QPs by which to move them all."""
        analysed = (frame.qp for frame in CodedStream(self.analysis))
        for frame, offsets in self.offsets(frames):
            # Whole but for what all have in common: only that has to be dithered.
            qp = fill_skipped_qps(next_map(analysed)) + offsets + self.shift + correction
            yield frame, dithered(qp[None]).values[0]


def _prior_qp(offsets: LearnedOffsets, source: Source, progress: Progress) -> float:
    """Return the prior's QP for the whole video, from its first frames and two in a row out of every few.

    A title says little of the film.
    """
    mean_qps, frames = list[float](), list[np.ndarray]()
    for index, frame in enumerate(source.frames()):
        if index % _LOOK_EVERY == 0 and frames:
            mean_qps.append(offsets.stream.mean_qp(np.stack(frames)))
            frames = []
        if index < _LOOK_EVERY or index % _LOOK_EVERY < 2:
            frames.append(reduced_frame(source, frame))
        progress("look", index + 1)
    if len(frames) > 1 or not mean_qps:
        mean_qps.append(offsets.stream.mean_qp(np.stack(frames)))
    return sum(mean_qps) / len(mean_qps)


def shift_to_target(achieved_kbps: float, target_kbps: float) -> float:
    """QPs, not rounded, by which to shift a whole map to get from what it came to to the target."""
    return math.log(achieved_kbps / target_kbps) / _TYPICAL_PER_QP


def correcting_shift(achieved_kbps: float, target_kbps: float) -> float:
    """Return the same, erring to the cheap side: the target is not to be exceeded again."""
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
