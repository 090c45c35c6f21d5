"""A video before a trained control: what the network is shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from dvcc.codecs import X264
from dvcc.control.network import ControlNetwork
from dvcc.control.stream import ControlStream, reduced_planes
from dvcc.video.source import SourceFrame, VideoSource

_OBEYED = {  # what a preset must not do, or x264 drops a map or decides its QPs anew
    "offset": {"ultrafast": {"aq-mode": "1"}},
    "absolute": {"veryslow": {"subme": "9"}, "placebo": {"subme": "9"}},
}


def obedient_codec(preset: str, mode: str, *, gop: int, threads: int, params: Mapping[str, str] = MappingProxyType({})) -> X264:
    """x264 at a preset, less what of it would ignore the map of a control of that mode."""
    needed = _OBEYED["offset" if mode == "offset" else "absolute"].get(preset, {})
    return X264(preset, gop=gop, threads=threads, params={**needed, **params})


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
