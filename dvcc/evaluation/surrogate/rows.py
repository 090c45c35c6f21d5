"""What is measured of a surrogate: one row per map, one per descent, and the clip that both are about."""

from __future__ import annotations

from dataclasses import dataclass

from dvcc.clip import Clip
from dvcc.surrogate.samples import Sample


@dataclass(frozen=True)
class MapRow:
    """One map of one clip, really coded and predicted. Errors are of natural logs of bits, predicted less real.

    kind: "flat" or "mixed". log_error_i, _p, _b: mean over the frames of a type (NaN where there is none). psnr (dB) and ssim:
    against the really coded frames, of the prediction, of the input (copy), of the flat map of the nearest rung, and of a
    second real encode, of nearly the same map; NaN for maps whose frames were not looked at. second_log_bits,
    second_task_loss: of that encode. predicted_task_loss: as a control learns from it, off the judged ladder where the
    surrogate reads one; frames_task_loss: of the predicted frames.
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
    psnr: float = float("nan")
    copy_psnr: float = float("nan")
    nearest_psnr: float = float("nan")
    second_psnr: float = float("nan")
    ssim: float = float("nan")
    copy_ssim: float = float("nan")
    nearest_ssim: float = float("nan")
    second_ssim: float = float("nan")


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


@dataclass(frozen=True, eq=False)
class TestClip:
    """A clip of a held-out video with its ladder (a batch of one)."""

    clip: Clip
    video: str
    start: int
    sample: Sample
    rungs: tuple[int, ...]
