"""One pass of an encoder over a video, frame by frame, while the next frames are read and their maps decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing

import av
import numpy as np

from dvcc.codecs import VideoCodec
from dvcc.codecs.encoder import Pass, SimpleRate, StreamEncoder
from dvcc.encode.stats import Tally
from dvcc.media.prefetch import prefetch
from dvcc.media.source import SourceFrame, VideoSource

Mapped = Iterable[tuple[SourceFrame, np.ndarray | None]]
"""Frames with their offsets or QPs int (h, w), None without a map."""
Progress = Callable[[str, int], None]
"""Told the name of a pass, and how many frames it has done."""
Look = Callable[[int, SourceFrame, np.ndarray | None], None]
"""Shown frames by index, with the offsets or QPs (h, w) that were asked for."""


def code(
    name: str,
    codec: VideoCodec,
    rate: SimpleRate,
    source: VideoSource,
    frames: Mapped,
    container: av.container.OutputContainer,
    *,
    mapped: bool = False,
    qps: bool = False,
    number: Pass | None = None,
    progress: Progress = lambda name, done: None,
    begin: Callable[[], None] = lambda: None,
    mux: Callable[[av.Packet], None] | None = None,
    look: Look | None = None,
) -> Tally:
    """Code the `frames` of `source` into `container`, and say what they came to.

    mapped: the frames have maps. qps: the tally is to know the coded QPs, which takes time. begin: called when the container has
    its stream and nothing else. mux: takes the packets (None: the container does). Raises `CodecError` when the encoder fails,
    and what the frames raise.
    """
    tally, mux = Tally(source.num_frames, codec, qps), mux or container.mux_one
    encoder = StreamEncoder(codec, container, rate, source.picture, number=number, mapped=mapped)
    begin()
    first = last = None
    with closing(prefetch(iter(frames))) as prepared:
        for index, (frame, values) in enumerate(prepared):
            first, last = frame.pts if first is None else first, frame.pts
            if look is not None:
                look(index, frame, values)
            for packet in encoder.encode(frame.planes, frame.pts, values):
                tally.add(packet)
                mux(packet)
            progress(name, index + 1)
    for packet in encoder.flush():
        tally.add(packet)
        mux(packet)
    assert first is not None and last is not None  # a source without frames raises
    duration = (last - first) * source.picture.time_base + 1 / source.picture.fps
    tally.close(header_bits=encoder.header_bits, duration=duration)
    return tally


def unmapped(frames: Iterable[SourceFrame]) -> Mapped:
    """Frames that the encoder decides for."""
    return ((frame, None) for frame in frames)
