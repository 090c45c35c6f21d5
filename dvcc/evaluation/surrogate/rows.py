"""What `evaluate.py surrogate` measures, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dvcc.clip import Clip
from dvcc.surrogate.samples import Sample


@dataclass(frozen=True)
class MapRow:
    """One map of one clip, really coded and predicted. Errors are of natural logs of bits, predicted less real.

    kind: "flat" or "mixed". log_error_i, _p, _b: mean over the frames of a type (NaN where there is none). psnr (dB) and ssim:
    against the really coded frames, of the prediction, of the input (copy), of the flat map of the nearest rung, of a second
    real encode, of nearly the same map, and of one of this map with another preset; NaN for maps whose frames were not looked
    at. second_log_bits, second_task_loss: of that of nearly the same map. predicted_task_loss: as a control learns from it,
    off the judged ladder where the surrogate reads one; frames_task_loss: of the predicted frames. frame_error: median over
    frames of |predicted / real - 1| of their bits.
    """

    video: str
    start: int
    mean_qp: int
    kind: str
    real_log_bits: float
    log_error: float
    log_error_i: float
    log_error_p: float
    log_error_b: float
    task_loss: float
    predicted_task_loss: float
    frames_task_loss: float
    second_log_bits: float
    second_task_loss: float
    map_mean: float
    activity_qp: float
    frame_error: float
    psnr: float = float("nan")
    copy_psnr: float = float("nan")
    nearest_psnr: float = float("nan")
    second_psnr: float = float("nan")
    preset_psnr: float = float("nan")
    ssim: float = float("nan")
    copy_ssim: float = float("nan")
    nearest_ssim: float = float("nan")
    second_ssim: float = float("nan")
    preset_ssim: float = float("nan")


@dataclass(frozen=True)
class DescentRow:
    """The descent test of one clip at one mean QP: real task losses, at equal real bits."""

    video: str
    start: int
    mean_qp: int
    flat: float
    gradient: float
    gradient_of_frames: float
    random: float


@dataclass(frozen=True)
class AveragedRow:
    """A step along the gradient through predicted frames, averaged over `draws` of noise, as a judge sees it.

    Real losses of the flat map and of the step, at equal real bits. judge: 0 is the task that the gradient is of, 1 the second
    judge.
    """

    video: str
    start: int
    mean_qp: int
    draws: int
    judge: int
    flat: float
    step: float


@dataclass(frozen=True)
class Cost:
    """Seconds of processor on one clip.

    Of the real encodes that a surrogate needs (and how many), of its analysis, and of one map with all of its frames.
    """

    num_encodes: int
    encodes: float
    analysis: float
    one_map: float


@dataclass(frozen=True)
class Found:
    """All rows of a run. beside: maps of the other surrogates by path. costs: of all surrogates by path."""

    maps: Sequence[MapRow]
    steps: Sequence[DescentRow]
    averaged: Sequence[AveragedRow]
    beside: Mapping[str, Sequence[MapRow]]
    costs: Mapping[str, Cost]


@dataclass(frozen=True, eq=False)
class TestClip:
    """A clip of a held-out video with its ladder (a batch of one)."""

    clip: Clip
    video: str
    start: int
    sample: Sample
    rungs: tuple[int, ...]
