"""From a camera to the network while it happens: one pass, a full channel, at most one GOP behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from dvcc.codecs import X264
from dvcc.codecs.encoder import StreamEncoder
from dvcc.control.network import ControlNetwork
from dvcc.errors import ConfigError
from dvcc.rate_control.abr import streamed
from dvcc.video.controlled import control_stream, obedient_codec, reduced_frames
from dvcc.video.output import LiveStream
from dvcc.video.probe import probe
from dvcc.video.source import Damage, VideoSource, opened
from dvcc.video.tally import Tally

_HEAD_START = "500000"  # bytes or microseconds that FFmpeg may look at before the first frame; its own 5 s are a long wait
_LOOKAHEAD = 10  # frames; mbtree needs some, each is a frame of delay
_ASIDE = 6  # frames of delay that are not lookahead: three B frames, and what frame threads hold


@dataclass(frozen=True)
class LiveResult:
    """tally: what was sent. most_delay: frames that went into the encoder before an earlier one came out, at most. seconds: of
    encoding. interrupted: ended by the user and not by the source."""

    tally: Tally
    most_delay: int
    elapsed_seconds: float
    damage: Damage
    notes: tuple[str, ...]
    interrupted: bool


def encode_live(
    url: str,
    out: Path,
    *,
    target_kbps: float,
    control: ControlNetwork,
    preset: str = "medium",
    gop: int | None = None,
    threads: int = 2,
    form: str | None = None,
    begun: Callable[[VideoSource, X264], None] = lambda source, codec: None,
) -> LiveResult:
    """Code what comes from `url`, "-" for stdin, or whatever FFmpeg opens in `form` (None: it finds out), until it ends or is
    interrupted; either way what was written can be played.

    One-pass ABR with a buffer of one second, and the control's offsets on it. A GOP of `gop` frames (None: one second). begun:
    told when the first frame is there. Raises `ConfigError` for a control that needs more than one pass, `VideoError` when there
    is no video, `CodecError` when the encoder fails, `DvccError` when nothing more can be written.
    """
    if control.mode != "offset":
        raise ConfigError(f"a live stream takes a control of offset mode, and this is of {control.mode} mode: leave --mode out")
    damage, name = Damage(), Path("stdin" if url == "-" else url)
    options = {"probesize": _HEAD_START, "analyzeduration": _HEAD_START}
    with ExitStack() as stack:
        container = stack.enter_context(opened("pipe:0" if url == "-" else url, form=form, options=options))
        output: LiveStream | None = None
        source, decoded = probe(name, container, damage=damage, others=lambda packet: output.copy(packet) if output else None)
        picture = source.picture
        codec = live_codec(preset, gop or min(250, max(1, round(picture.fps))), threads)
        begun(source, codec)
        stream = control_stream(source, control, target_kbps, gop=codec.gop)
        output = stack.enter_context(LiveStream(out, source))
        rate = streamed(target_kbps)
        encoder = StreamEncoder(codec, output.container, rate, picture, mapped=True)
        notes = output.begin(container)
        tally, began, interrupted, most_delay = Tally(), time.monotonic(), False, 0

        def take(packets: Iterable[av.Packet]) -> None:
            for packet in packets:
                tally.add(packet)
                output.mux(packet)

        frames = source.read(container, decoded, damage)
        first = last = None
        try:
            for index, frame in enumerate(frames):
                first, last = frame.pts if first is None else first, frame.pts
                offsets = np.rint(stream.decide(reduced_frames(source, [frame]))[0]).astype(np.int8)
                take(encoder.encode(frame.planes, frame.pts, offsets))
                most_delay = max(most_delay, index + 1 - tally.num_frames)
        except KeyboardInterrupt:
            interrupted = True
        take(encoder.flush())
        if first is not None and last is not None:
            duration = (last - first) * picture.time_base + 1 / picture.fps
            tally.close(header_bits=encoder.header_bits, duration=duration)
    elapsed = time.monotonic() - began
    return LiveResult(tally, most_delay, elapsed, damage, (*source.notes, *notes), interrupted)


def live_codec(preset: str, gop: int, threads: int) -> X264:
    """x264 that answers within a GOP: its lookahead is what is left of one. Raises `ConfigError` where nothing is left."""
    lookahead = min(_LOOKAHEAD, gop - _ASIDE - threads)
    if lookahead < 1:
        raise ConfigError(
            f"a live GOP of {gop} frames is too short for {threads} threads: ask for at least {_ASIDE + threads + 1}"
        )
    params = {"rc-lookahead": str(lookahead), "sync-lookahead": "0"}
    return obedient_codec(preset, "offset", gop=gop, threads=threads, params=params)
