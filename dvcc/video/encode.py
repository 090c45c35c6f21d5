"""Whole videos of any length under a trained control, in memory that does not grow with them."""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from dvcc.codecs import ABR
from dvcc.codecs.encoder import GivenQPs, Pass, SimpleRate
from dvcc.rate_control.base import most_within, needs_correction
from dvcc.rate_control.learned import correcting_shift
from dvcc.units import macroblock_grid
from dvcc.video.coding import Look, Mapped, Progress, code, unmapped
from dvcc.video.maps import MapFile
from dvcc.video.output import WholeFile
from dvcc.video.plan import EncodePlan
from dvcc.video.source import Damage, OtherPacket, SourceFrame, opened
from dvcc.video.tally import Tally

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

    look: shown the frames of what is delivered, or of its correction. Raises `VideoError` when the source cannot be read,
    `CodecError` when the encoder fails, `DvccError` when the output cannot be written, `OSError` when the folder for temporary
    files is full.
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
        first, second = (Pass(number, f"{self.folder}/stats") for number in (1, 2))
        if self.plan.control is None:
            self._first_pass(unmapped, first)
            return self._deliver("second pass", ABR(self.plan.target_kbps), unmapped, second)
        maker, picture = self.plan.map_maker(), self.plan.picture
        with MapFile(self.folder / "offsets", macroblock_grid(picture.height, picture.width)) as offsets:
            self._first_pass(lambda frames: _kept(maker.offsets(frames), offsets), first)
        return self._deliver(
            "second pass", ABR(self.plan.target_kbps), lambda frames: maker.paired(frames, iter(offsets)), second
        )

    def given_qps(self) -> Tally:
        """Every QP is the control's, on top of an analysis encode if it needs one; one correction where the target is missed."""
        target, maker = self.plan.target_kbps, self.plan.map_maker()
        analysis = maker.analyse(self.folder, self.progress)
        self.spent += analysis is not None

        def deliver(name: str, correction: float, keep: Callable[[Tally], bool]) -> Tally:
            return self._deliver(name, GivenQPs(), partial(maker.qps, analysis=analysis, correction=correction), keep=keep)

        first = deliver("encode", 0.0, lambda tally: tally.bitrate_kbps <= target)
        if not needs_correction(first, target):
            return first
        within = first.bitrate_kbps <= target  # then its file is there, and only a better one replaces it
        shift = correcting_shift(first.bitrate_kbps, target)
        second = deliver("correction", shift, lambda second: not within or most_within([first, second], target) is second)
        return most_within([first, second], target) if within else second

    def _first_pass(self, maps: Maps, number: Pass) -> None:
        with av.open(os.devnull, "w", format="null") as container:
            self._code("first pass", ABR(self.plan.target_kbps), maps(self.plan.source.frames()), container, number=number)

    def _deliver(
        self,
        name: str,
        rate: SimpleRate,
        maps: Maps,
        number: Pass | None = None,
        keep: Callable[[Tally], bool] = lambda tally: True,
    ) -> Tally:
        """The pass that writes the output, which is kept if `keep` says so."""
        self.damage = Damage()
        with opened(self.plan.source.path) as original, WholeFile(self.plan.out, self.plan.source) as output:
            others: deque[OtherPacket] = deque()  # read by one thread, written by the other
            frames = maps(self.plan.source.frames(self.damage, others=others.append))

            def begin() -> None:
                self.notes = output.begin(original)

            def mux(packet: av.Packet) -> None:
                while others:
                    output.copy(others.popleft())
                output.mux(packet)

            tally = self._code(
                name, rate, frames, output.container, number=number, qps=True, begin=begin, mux=mux, look=self.look
            )
            while others:
                output.copy(others.popleft())
            output.keep = keep(tally)
        return tally

    def _code(self, name: str, rate: SimpleRate, frames: Mapped, container: av.container.OutputContainer, **how: Any) -> Tally:
        plan, self.spent = self.plan, self.spent + 1
        mapped = plan.control is not None
        return code(name, plan.codec, rate, plan.source, frames, container, mapped=mapped, progress=self.progress, **how)


def _kept(mapped: Iterable[tuple[SourceFrame, np.ndarray]], store: MapFile) -> Mapped:
    for frame, values in mapped:
        store.append(values)
        yield frame, values
