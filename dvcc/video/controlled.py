"""A video before a trained control: what the network is shown of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dvcc.control.network import ControlNetwork
from dvcc.control.stream import ControlStream, reduced_planes
from dvcc.video.source import SourceFrame, VideoSource


def control_stream(source: VideoSource, control: ControlNetwork, target_kbps: float, *, gop: int) -> ControlStream:
    """The control at the beginning of the video."""
    picture = source.picture
    return ControlStream(
        control,
        target_kbps,
        fps=picture.fps,
        height=picture.height,
        width=picture.width,
        gop=gop,
        quarter_turns=round(source.rotation / 90) % 4,
    )


def reduced_frames(source: VideoSource, frames: Sequence[SourceFrame]) -> torch.Tensor:
    """(T, 3, 4h, 4w) of T frames: see `reduced_planes`."""
    full = source.picture.full_range
    return torch.stack([reduced_planes(*frame.planes, matrix=source.matrix, full_range=full) for frame in frames])
