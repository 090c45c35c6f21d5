"""The paper's qualitative figures (3 and 8), drawn of the one clip of ours that may be shown."""

from __future__ import annotations

from pathlib import Path

from dvcc.codecs import JPEG
from dvcc.codecs.plain import PerspectiveX264
from dvcc.datasets import build_dataset
from dvcc.errors import DvccError
from dvcc.evaluation.benchmark.pictures import draw_strips
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.media.protocols import Protocol
from dvcc.tasks import build_task

STREET = "examples/street.mp4"
_CLIP = Path(__file__).parents[4] / STREET


def draw_street(folder: Path) -> list[str]:
    """Draw segmentation on JPEG of four qualities, and optical flow on H.264 of four QPs; return paths in `folder`.

    Nothing is drawn where the clip is not there, as in a wheel, or a network is not.
    """
    if not _CLIP.exists():
        return []
    drawn: list[str] = []
    jpeg = Sweep(JPEG(), "quality", (3, 20, 60, 99), Protocol())
    h264 = Sweep(PerspectiveX264(pixel_format="yuv444p"), "cqp", (0, 20, 35, 50), Protocol(rgb=True))
    for task, network, sweep, label in (
        ("segmentation", "efficientvit_b0", jpeg, "JPEG quality"),
        ("optical_flow", "raft_small", h264, "QP"),
    ):
        frames = 1 if task == "segmentation" else 8
        example = build_dataset("folder", _CLIP, frames=frames, stride=3)[0]
        levels = sorted(sweep.levels, reverse=task == "segmentation")
        try:
            networks = {network: build_task(task, model=network).eval()}
        except DvccError:
            continue
        drawn += draw_strips(folder, example, sweep, networks, levels, label)
    return drawn
