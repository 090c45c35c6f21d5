"""From a camera to the network while it happens: one pass, a full channel, at most one GOP behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dvcc._words import counted
from dvcc.codecs import ABR, VideoCodec
from dvcc.codecs.passes import code
from dvcc.codecs.stats import EncodeStats
from dvcc.control.deployed.runtime import Control
from dvcc.encoding.plan import check_target
from dvcc.encoding.presets import default_threads, obedient_codec
from dvcc.encoding.target import LiveTarget
from dvcc.errors import ConfigError
from dvcc.media.container import MEND_FILE, open_container
from dvcc.media.damage import Damage
from dvcc.media.decode import OtherPacket
from dvcc.media.format import SourceFrame
from dvcc.media.output import LiveStream
from dvcc.media.prefetch import prefetch
from dvcc.media.probe import probe
from dvcc.media.source import VideoSource
from dvcc.rate_control.abr import streamed
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import begin_offsets
from dvcc.units import gop_of_a_second

_HEAD_START = "500000"  # bytes or microseconds that FFmpeg may look at before the first frame; its own 5 s are a long wait
_LOOKAHEAD = 10  # frames; mbtree needs some, each is a frame of delay
_LEAST_LOOKAHEAD = {"x264": 1, "x265": 5}  # x265's must be longer than a run of B frames
_SLOW = ("slower", "veryslow", "placebo")  # whose up to 16 B frames in a row, and the search for them, are frames of delay
_QUICK = {"x264": {"bframes": "3", "b-adapt": "1"}, "x265": {"bframes": "4"}}  # as of the presets before them
_ASIDE = 6  # frames of delay that are not lookahead: B frames, and what frame threads hold


@dataclass(frozen=True)
class LiveResult:
    """stats: of what was sent.

    target_kbps: what was asked for, on average over the frames. num_targets: how many there were. elapsed_seconds: of encoding.
    damage, notes, decided: as of an `EncodeResult`.
    """

    stats: EncodeStats
    target_kbps: float
    num_targets: int
    elapsed_seconds: float
    damage: Damage
    notes: tuple[str, ...]
    decided: str


def encode_live(
    url: str,
    out: Path,
    *,
    target_kbps: float | LiveTarget,
    control: Control | Objects | None,
    codec: str = "x264",
    preset: str = "medium",
    gop: int | None = None,
    threads: int | None = None,
    form: str | None = None,
    fps: Fraction | None = None,
    clock: bool = False,
    begun: Callable[[VideoSource, VideoCodec], None] = lambda source, codec: None,
) -> LiveResult:
    """Code what comes from `url` until it ends or is interrupted; either way what was written can be played.

    url: "-" for stdin, or whatever FFmpeg opens. form: the format to open it in; None: FFmpeg finds out.

    One-pass ABR with a buffer of one second, and the control's offsets on it, if there is one. target_kbps: on average, or what
    says it for every frame (`RetargetedEncoder` tells how it is followed). gop, threads: frames of a GOP and frame threads (None:
    `live_codec` chooses). fps: of a source without time stamps, or with wrong ones, which are not looked at then. clock: the time
    of a picture is when it arrives. begun: told when the first frame is there.

    Raises `ConfigError` for a target out of reach, `VideoError` when there is no video, `CodecError` when the encoder fails,
    `DvccError` when nothing more can be written.
    """
    if form is not None:
        _check_form(form)
    damage, begun_writing = Damage(), threading.Event()
    asked = Asked(target_kbps)
    with closing(prefetch(_read(url, form, fps, clock, damage, begun_writing), wait=False)) as items:
        try:
            source, container = next(items)
            asked.check(source)
            chosen = live_codec(codec, preset, source.picture.fps, gop=gop, threads=threads)
            begun(source, chosen)
            began, notes = time.monotonic(), list(source.notes)
            generator = begin_offsets(control, source, asked.kbps, chosen)
            with LiveStream(out, source, damage.corrections) as output:

                def begin() -> None:
                    notes.extend(output.begin(container))
                    begun_writing.set()

                def frames() -> Iterator[tuple[SourceFrame, np.ndarray | None]]:
                    for item in items:
                        if isinstance(item, SourceFrame):
                            if asked.again(source) and generator is not None:
                                generator.retarget(asked.kbps)
                            yield item, None if generator is None else generator.generate_next(item)
                        else:
                            output.copy(item)

                stats = code(
                    chosen,
                    asked.rate if asked.changes else asked.rate(),
                    source.picture,
                    frames(),
                    output.container,
                    EncodeStats(None, chosen, qps=True),
                    mapped=generator is not None,
                    begin=begin,
                    mux=output.mux,
                    stop_at=(KeyboardInterrupt,),
                )
            decided = generator.words() if generator else ""
            notes += asked.sentences()
            elapsed = time.monotonic() - began
            return LiveResult(stats, asked.mean_kbps, asked.num_targets, elapsed, damage, tuple(notes), decided)
        finally:
            begun_writing.set()


class Asked:
    """What is asked for, and was. changes: whether it may become another. kbps: what holds for the next frame."""

    def __init__(self, target: float | LiveTarget) -> None:
        self.changes = isinstance(target, LiveTarget)
        self._target = target if isinstance(target, LiveTarget) else LiveTarget(target)
        self.kbps, self.num_targets = self._target.target_kbps, 1
        self._sum, self._frames, self._refused = 0.0, 0, ""

    def check(self, source: VideoSource) -> None:
        """Raise `ConfigError` for a first target that no encode of `source` can have."""
        check_target(source, self.kbps)

    def again(self, source: VideoSource) -> bool:
        """Ask for the next frame. Returns whether it is another target; one out of reach leaves the last one."""
        kbps, before = self._target.target_kbps, self.kbps
        if kbps != before:
            try:
                check_target(source, kbps)
                self.kbps, self.num_targets = kbps, self.num_targets + 1
            except ConfigError as error:
                self._refused = str(error)
        self._sum, self._frames = self._sum + self.kbps, self._frames + 1
        return self.kbps != before

    def rate(self) -> ABR:
        """Return what to ask of the encoder now."""
        return streamed(self.kbps)

    @property
    def mean_kbps(self) -> float:
        """On average over the frames."""
        return self._sum / self._frames if self._frames else self.kbps

    def sentences(self) -> list[str]:
        """Return what was refused, one sentence each."""
        return [*self._target.sentences(), *([f"{self._refused}; the target before was kept"] if self._refused else [])]


def _check_form(form: str) -> None:
    try:
        av.ContainerFormat(form, "r")
    except ValueError as error:
        raise ConfigError(f"FFmpeg reads no format {form!r} here: name another, as mpegts, or v4l2 for a camera") from error


def _read(
    url: str, form: str | None, fps: Fraction | None, clock: bool, damage: Damage, begun_writing: threading.Event
) -> Iterator[Any]:
    """Read the source and its container, then frames, and packets of the other streams.

    For a thread of its own: a camera that says nothing must not keep Ctrl-C from being heard. The container stays open until the
    output has been made after it, even when the source breaks off before.
    """
    name, others = "stdin" if url == "-" else url, deque[OtherPacket]()
    advice = _what_to_do(url, form)
    options = {"probesize": _HEAD_START, "analyzeduration": _HEAD_START}
    with open_container("pipe:0" if url == "-" else url, form=form, options=options, name=name, advice=advice) as container:
        probed = probe(name, container, fps=fps, damage=damage, others=others.append, ahead=False, clock=clock, advice=advice)
        yield probed.source, container
        try:
            for frame in probed.read(container, damage):
                while others:
                    yield others.popleft()
                yield frame
            yield from others
        finally:
            begun_writing.wait()


def _what_to_do(url: str, form: str | None) -> str:
    """About a source that cannot be read: what to do differs from a file's."""
    how = f", and that it is {form}" if form else "; where FFmpeg does not see what it is, say it with --input-format"
    if url == "-":
        return f"pipe MPEG-TS, Matroska or fragmented mp4, since an mp4 with its index at its end cannot be piped{how}"
    if "://" in url:
        return f"check that it can be reached and is sending{how}"
    if Path(url).is_dir():
        return "give a file, a device or a URL"
    if Path(url).is_file():
        return f"{MEND_FILE}{how}"
    return f"check that it is there and not in use{how}"


def live_codec(name: str, preset: str, fps: Fraction, *, gop: int | None = None, threads: int | None = None) -> VideoCodec:
    """Return an encoder that answers within a GOP: its lookahead is what is left of one.

    gop, threads: None is a GOP of one second, or what a lookahead takes at a low rate, and as many threads as fit in. Raises
    `ConfigError` where nothing is left.
    """
    aside, most = _ASIDE + _LEAST_LOOKAHEAD[name], default_threads(name, live=True)
    chosen_gop = max(gop_of_a_second(fps), aside + (threads or 1)) if gop is None else gop
    chosen_threads = max(1, min(most, chosen_gop - aside)) if threads is None else threads
    lookahead = min(_LOOKAHEAD, chosen_gop - _ASIDE - chosen_threads)
    if lookahead < _LEAST_LOOKAHEAD[name]:
        least, working = aside + chosen_threads, counted(chosen_threads, "thread")
        fewer = ", or fewer threads" if chosen_threads > 1 else ""
        raise ConfigError(
            f"a live GOP of {counted(chosen_gop, 'frame')} is too short for {working} of {name}: ask for at least {least}{fewer}"
        )
    params = {"rc-lookahead": str(lookahead), **({"sync-lookahead": "0"} if name == "x264" else {})}
    params |= _QUICK[name] if preset in _SLOW else {}
    return obedient_codec(name, preset, "offsets", gop=chosen_gop, threads=chosen_threads, params=params)
