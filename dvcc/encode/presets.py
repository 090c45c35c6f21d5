"""A video before what controls it: the stream that decides, and what a trained control's network is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from dvcc.codecs import VIDEO_CODECS, VideoCodec
from dvcc.control.runtime import Control
from dvcc.control.stream import ControlStream, reduced_planes
from dvcc.errors import ConfigError
from dvcc.media.source import SourceFrame, VideoSource
from dvcc.qp import Delivery
from dvcc.rate_control.objects import Objects, ObjectStream

_X265_AQ = {"aq-mode": "2", "aq-strength": "1"}  # as of its other presets
_OBEYED = {  # what a preset must do, or the encoder drops a map or decides its QPs anew
    ("x264", "offsets"): {"ultrafast": {"aq-mode": "1"}},
    ("x264", "map"): {"veryslow": {"subme": "9"}, "placebo": {"subme": "9"}},
    ("x265", "offsets"): {"ultrafast": _X265_AQ, "superfast": _X265_AQ},
}
_MOST_THREADS, _MOST_LIVE_THREADS, _MOST_X265_THREADS = 16, 4, 4


def obedient_codec(
    name: str, preset: str, delivery: Delivery, *, gop: int, threads: int, params: Mapping[str, str] = MappingProxyType({})
) -> VideoCodec:
    """An encoder at a preset, less what of it would ignore a control that is so delivered. Raises `ConfigError` where none
    obeys."""
    if (name, delivery) not in _OBEYED:
        raise ConfigError(f"{name} takes offsets on its own QPs and no map: choose --delivery offsets, or x264")
    return VIDEO_CODECS[name](preset, gop=gop, threads=threads, params={**_OBEYED[name, delivery].get(preset, {}), **params})


def default_threads(name: str, *, live: bool = False) -> int:
    """Frame threads by the encoder's own rule, up to where more gain nothing; of a live stream every one is a frame of delay."""
    cores = os.cpu_count() or 1
    if name == "x265":  # which has threads within a frame, too
        return max(1, min(_MOST_X265_THREADS, cores // 2))
    return min(_MOST_LIVE_THREADS if live else _MOST_THREADS, 3 * cores // 2)


def control_stream(source: VideoSource, control: Control, target_kbps: float, *, gop: int) -> ControlStream:
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


def object_stream(source: VideoSource, objects: Objects) -> ObjectStream:
    """The rule of objects at the beginning of the video."""
    picture = source.picture
    return ObjectStream(
        objects,
        height=picture.height,
        width=picture.width,
        matrix=source.matrix,
        full_range=picture.full_range,
        quarter_turns=round(source.rotation / 90) % 4,
    )


def live_decisions(
    source: VideoSource, control: Control | Objects | None, target_kbps: float, codec: VideoCodec
) -> tuple[Callable[[SourceFrame], np.ndarray | None], Callable[[], str]]:
    """What decides the offsets, int8 (h, w), of each frame as it comes (None: the encoder alone), and what says what it did."""
    if control is None:
        return lambda frame: None, lambda: ""
    if isinstance(control, Objects):
        seeing = object_stream(source, control)
        return lambda frame: seeing.decide_next(frame.planes), lambda: seeing.words(codec.name)
    stream = control_stream(source, control, target_kbps, gop=codec.gop)
    return lambda frame: np.rint(stream.decide(reduced_frames(source, [frame]))[0]).astype(np.int8), lambda: ""


def reduced_frames(source: VideoSource, frames: Sequence[SourceFrame]) -> np.ndarray:
    """(T, 3, 4h, 4w) of T frames: see `reduced_planes`."""
    full = source.picture.full_range
    return np.stack([reduced_planes(*frame.planes, matrix=source.matrix, full_range=full) for frame in frames])
