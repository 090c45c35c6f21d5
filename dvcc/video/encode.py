"""Whole videos of any length under a trained control, in memory that does not grow with them."""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch

from dvcc.codecs import ABR, CRF
from dvcc.codecs.bitstream import CodedStream
from dvcc.codecs.encoder import GivenQPs, Pass, SimpleRate, StreamEncoder
from dvcc.errors import VideoError
from dvcc.rate_control.base import needs_correction
from dvcc.rate_control.learned import correcting_shift, dithered, shift_to_target
from dvcc.units import macroblock_grid
from dvcc.video.ahead import ahead
from dvcc.video.controlled import reduced_frames
from dvcc.video.maps import MapFile
from dvcc.video.output import WholeFile
from dvcc.video.plan import EncodePlan
from dvcc.video.source import Damage, OtherPacket, SourceFrame, opened
from dvcc.video.tally import Tally

_CHUNK = 8  # frames that the network is shown at once
_LOOK_EVERY = 16

Progress = Callable[[str, int], None]
"""Told the name of a pass, and how many frames it has done."""
Look = Callable[[int, SourceFrame, np.ndarray | None], None]
"""Shown the frames of the delivered encode by index, with the offsets or QPs (h, w) that were asked for."""
Mapped = Iterable[tuple[SourceFrame, np.ndarray | None]]
Maps = Callable[[Iterable[SourceFrame]], Mapped]


@dataclass(frozen=True)
class EncodeResult:
    """tally: of what was delivered. num_encodes: encoder passes spent, in so many seconds. damage: what was wrong with the
    source. notes: what is not kept of it, one sentence each."""

    tally: Tally
    num_encodes: int
    elapsed_seconds: float
    damage: Damage
    notes: tuple[str, ...]


def encode_video(plan: EncodePlan, *, progress: Progress | None = None, look: Look | None = None) -> EncodeResult:
    """Code the plan's source to its output, which appears when it is whole; an error or an interruption leaves none.

    Raises `VideoError` when the source cannot be read, `CodecError` when the encoder fails, `DvccError` when the
    output cannot be written, `OSError` when the folder for temporary files is full.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dvcc-") as folder:
        passes = _Passes(plan, Path(folder), progress or (lambda name, done: None), look)
        absolute = plan.control is not None and plan.control.mode != "offset"
        tally = passes.given_qps() if absolute else passes.two()
    notes = (*plan.source.notes, *passes.notes)
    return EncodeResult(tally, passes.spent, time.monotonic() - began, passes.damage, notes)


class _Passes:
    """Over the video, from its start to its end; each opens the source anew."""

    def __init__(self, plan: EncodePlan, folder: Path, progress: Progress, look: Look | None) -> None:
        self.plan, self.folder, self.progress, self.look = plan, folder, progress, look
        self.damage, self.notes, self.spent = Damage(), list[str](), 0

    def two(self) -> Tally:
        """The encoder keeps the rate; the control's offsets are decided in the first pass and are the same in the second."""
        plan, rate, stats = self.plan, ABR(self.plan.target_kbps), f"{self.folder}/stats"
        if plan.control is None:
            self._scratch("first pass", rate, _unmapped, Pass(1, stats))
            return self._deliver("second pass", rate, _unmapped, Pass(2, stats))
        with MapFile(self.folder / "offsets", macroblock_grid(plan.picture.height, plan.picture.width)) as offsets:
            self._scratch("first pass", rate, lambda frames: _kept(self._offsets(frames), offsets), Pass(1, stats))
        return self._deliver("second pass", rate, lambda frames: self._paired(frames, iter(offsets)), Pass(2, stats))

    def given_qps(self) -> Tally:
        """Every QP is the control's, on top of an analysis encode if it needs one; one correction where the target is missed."""
        plan, shift, analysis = self.plan, 0.0, None
        assert plan.control is not None
        if plan.control.mode == "analysed":
            analysis = self.folder / "analysis.mkv"
            analysed = self._scratch("analysis", CRF(self._level()), _unmapped, None, analysis)
            shift = shift_to_target(analysed.bitrate_kbps, plan.target_kbps)

        def maps(frames: Iterable[SourceFrame]) -> Mapped:
            return self._absolute(frames, analysis, shift)

        tally = self._deliver("encode", GivenQPs(), maps, keep=lambda tally: not needs_correction(tally, plan.target_kbps))
        if not needs_correction(tally, plan.target_kbps):
            return tally
        shift += correcting_shift(tally.bitrate_kbps, plan.target_kbps)
        return self._deliver("correction", GivenQPs(), maps)

    def _level(self) -> float:
        """The prior's QP for the whole video, from two frames in a row out of every few: a title says little of the film."""
        control, levels, before = self.plan.control_stream(), list[float](), None
        for index, frame in enumerate(self.plan.source.frames()):
            if index % _LOOK_EVERY == 0:
                before = reduced_frames(self.plan.source, [frame])
            elif index % _LOOK_EVERY == 1 and before is not None:
                both = torch.cat([before, reduced_frames(self.plan.source, [frame])])
                levels.append(float(control.level(both)))
            self.progress("look", index + 1)
        if not levels and before is not None:  # a single frame
            levels.append(float(control.level(before)))
        return sum(levels) / len(levels)

    def _scratch(self, name: str, rate: SimpleRate, maps: Maps, number: Pass | None, path: Path | None = None) -> Tally:
        """A pass whose video nobody needs, or in `path`."""
        damage = Damage()
        with av.open(str(path or os.devnull), "w", format="matroska" if path else "null") as container:
            return self._encode(name, container, rate, maps(self.plan.source.frames(damage)), number, container.mux_one)

    def _deliver(
        self, name: str, rate: SimpleRate, maps: Maps, number: Pass | None = None, keep: Callable[[Tally], bool] | None = None
    ) -> Tally:
        """The pass that writes the output, which is kept if `keep` says so."""
        self.damage = Damage()
        with opened(self.plan.source.path) as original, WholeFile(self.plan.out, self.plan.source) as output:
            others: deque[OtherPacket] = deque()  # read by one thread, written by the other
            frames = maps(self.plan.source.frames(self.damage, others=others.append))
            begin = partial(output.begin, original)

            def mux(packet: av.Packet) -> None:
                while others:
                    output.copy(others.popleft())
                output.mux(packet)

            tally = self._encode(name, output.container, rate, frames, number, mux, begin=begin, look=self.look)
            while others:
                output.copy(others.popleft())
            output.keep = keep is None or keep(tally)
        return tally

    def _encode(
        self,
        name: str,
        container: av.container.OutputContainer,
        rate: SimpleRate,
        frames: Mapped,
        number: Pass | None,
        mux: Callable[[av.Packet], None],
        *,
        begin: Callable[[], list[str]] = list,
        look: Look | None = None,
    ) -> Tally:
        plan, tally, self.spent = self.plan, Tally(self.plan.source.num_frames, self.plan.codec), self.spent + 1
        mapped = isinstance(rate, GivenQPs) or (isinstance(rate, ABR) and plan.control is not None)
        encoder = StreamEncoder(plan.codec, container, rate, plan.picture, number=number, mapped=mapped)
        self.notes = begin() or self.notes
        first = last = None
        with closing(ahead(iter(frames))) as prepared:
            for index, (frame, values) in enumerate(prepared):
                first, last = frame.pts if first is None else first, frame.pts
                if look is not None:
                    look(index, frame, values)
                for packet in encoder.encode(frame.planes, frame.pts, values):
                    tally.add(packet)
                    mux(packet)
                self.progress(name, index + 1)
        for packet in encoder.flush():
            tally.add(packet)
            mux(packet)
        assert first is not None and last is not None  # a source without frames raises
        tally.close(header_bits=encoder.header_bits, duration=(last - first) * plan.picture.time_base + 1 / plan.picture.fps)
        return tally

    def _chunks(self, frames: Iterable[SourceFrame]) -> Iterator[tuple[list[SourceFrame], torch.Tensor]]:
        """A few frames at a time, none across the start of a GOP, and what the network is shown of them."""
        gop, chunk = self.plan.codec.gop, list[SourceFrame]()
        for index, frame in enumerate(frames):
            if chunk and (index % gop == 0 or len(chunk) == _CHUNK):
                yield chunk, reduced_frames(self.plan.source, chunk)
                chunk = []
            chunk.append(frame)
        if chunk:
            yield chunk, reduced_frames(self.plan.source, chunk)

    def _paired(self, frames: Iterable[SourceFrame], maps: Iterator[np.ndarray]) -> Iterator[tuple[SourceFrame, np.ndarray]]:
        for frame in frames:
            values = next(maps, None)
            if values is None:
                raise VideoError(
                    f"{self.plan.source.path} has other frames than a moment ago: it must not change while it is read"
                )
            yield frame, values

    def _offsets(self, frames: Iterable[SourceFrame]) -> Iterator[tuple[SourceFrame, np.ndarray]]:
        control = self.plan.control_stream()
        for chunk, small in self._chunks(frames):
            yield from zip(chunk, np.rint(control.decide(small)).astype(np.int8), strict=True)

    def _absolute(self, frames: Iterable[SourceFrame], analysis: Path | None, shift: float) -> Mapped:
        control = self.plan.control_stream()
        analysed = None if analysis is None else (frame.qp for frame in CodedStream(analysis))
        for chunk, small in self._chunks(frames):
            if analysed is None:
                mean_qp = control.decide(small) + shift
            else:
                base = np.stack([values for _, values in self._paired(chunk, analysed)])
                # Whole but for what all have in common: only that has to be dithered.
                mean_qp = np.rint(base + control.decide(small, base)) + shift
            yield from zip(chunk, dithered(torch.from_numpy(mean_qp)).values, strict=True)


def _unmapped(frames: Iterable[SourceFrame]) -> Mapped:
    return ((frame, None) for frame in frames)


def _kept(mapped: Iterable[tuple[SourceFrame, np.ndarray]], store: MapFile) -> Mapped:
    for frame, values in mapped:
        store.append(values)
        yield frame, values
