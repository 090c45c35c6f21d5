"""Whole videos of any length under a trained control, in memory that does not grow with them."""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from dvcc.codecs import ABR
from dvcc.codecs.encoder import GivenQPs, Pass, SimpleRate
from dvcc.encode.coding import Look, Mapped, Progress, code, unmapped
from dvcc.encode.generator import paired
from dvcc.encode.plan import EncodePlan
from dvcc.encode.spool import MapFile
from dvcc.encode.stats import Tally
from dvcc.media.container import open_container
from dvcc.media.damage import Damage
from dvcc.media.decode import OtherPacket
from dvcc.media.output import WholeFile
from dvcc.media.source import SourceFrame
from dvcc.rate_control.base import largest_within, needs_correction
from dvcc.rate_control.learned import correcting_shift
from dvcc.units import macroblock_grid

Maps = Callable[[Iterable[SourceFrame]], Mapped]


@dataclass(frozen=True)
class EncodeResult:
    """tally: of what was delivered. delivered: which of the encodes that `look` was shown, 0 unless a correction is better.
    num_encodes: encoder passes spent, in so many seconds. damage: what was wrong with the source. notes: what is not kept of it,
    one sentence each. decided: what a rule did, in a line, "" for another control."""

    tally: Tally
    delivered: int
    num_encodes: int
    elapsed_seconds: float
    damage: Damage
    notes: tuple[str, ...]
    decided: str = ""


def encode_video(plan: EncodePlan, *, progress: Progress | None = None, look: Look | None = None) -> EncodeResult:
    """Code the plan's source to its output, which appears when all is done; an error or an interruption leaves none.

    look: shown the frames of the encode that is to be delivered, and of its correction. Raises `VideoError` when the source
    cannot be read, `CodecError` when the encoder fails, `DvccError` when the output cannot be written, `OSError` when the folder
    for temporary files is full.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dvcc-") as folder, ExitStack() as files:
        passes = _Passes(plan, Path(folder), files, progress or (lambda name, done: None), look)
        given = plan.control is not None and plan.delivery == "map"
        encodes = passes.given_qps() if given else passes.two()
        best = largest_within([tally for tally, _ in encodes], plan.target_kbps)
        delivered, output = next((index, output) for index, (tally, output) in enumerate(encodes) if tally is best)
        output.publish()
    notes = (*plan.source.notes, *passes.notes)
    return EncodeResult(best, delivered, passes.spent, time.monotonic() - began, passes.damage, notes, passes.decided)


Encode = tuple[Tally, WholeFile]
"""What it came to, and the file that waits to be published."""


class _Passes:
    """Over the video, from its start to its end; each opens the source anew. files: closes what is not published."""

    def __init__(self, plan: EncodePlan, folder: Path, files: ExitStack, progress: Progress, look: Look | None) -> None:
        self.plan, self.folder, self.files, self.progress, self.look = plan, folder, files, progress, look
        self.damage, self.notes, self.spent, self.decided = Damage(), list[str](), 0, ""

    def two(self) -> list[Encode]:
        """The encoder keeps the rate; the control's offsets are decided in the first pass and are the same in the second."""
        rate = ABR(self.plan.target_kbps)
        first, second = (Pass(number, f"{self.folder}/stats") for number in (1, 2))
        if self.plan.control is None:
            self._first_pass(unmapped, first)
            return [self._encode("second pass", rate, unmapped, second)]
        maker, picture = self.plan.offset_maker(), self.plan.picture
        with MapFile(self.folder / "offsets", macroblock_grid(picture.height, picture.width)) as offsets:
            self._first_pass(lambda frames: _kept(maker.offsets(frames), offsets), first)
        self.decided = maker.words()
        return [self._encode("second pass", rate, lambda frames: paired(self.plan.source, frames, iter(offsets)), second)]

    def given_qps(self) -> list[Encode]:
        """Every QP is given, after an analysis encode; one correction where the target is missed."""
        maker = self.plan.map_maker()
        analysis = maker.analyse(self.folder, self.progress)
        self.spent += 1
        encodes = [self._encode("encode", GivenQPs(), partial(maker.qps, analysis=analysis))]
        tally, target = encodes[0][0], self.plan.target_kbps
        if needs_correction(tally, target):
            corrected = partial(maker.qps, analysis=analysis, correction=correcting_shift(tally.bitrate_kbps, target))
            encodes.append(self._encode("correction", GivenQPs(), corrected))
        return encodes

    def _first_pass(self, maps: Maps, number: Pass) -> None:
        with av.open(os.devnull, "w", format="null") as container:
            self._code("first pass", ABR(self.plan.target_kbps), maps(self.plan.source.frames()), container, number=number)

    def _encode(self, name: str, rate: SimpleRate, maps: Maps, number: Pass | None = None) -> Encode:
        """A pass that writes a file for the output."""
        self.damage = Damage()
        output = WholeFile(self.plan.out, self.plan.source, self.damage.corrections)
        self.files.callback(output.discard)
        with open_container(self.plan.source.path) as original, output:
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
        return tally, output

    def _code(self, name: str, rate: SimpleRate, frames: Mapped, container: av.container.OutputContainer, **how: Any) -> Tally:
        plan, self.spent = self.plan, self.spent + 1
        mapped = plan.control is not None
        return code(name, plan.codec, rate, plan.source, frames, container, mapped=mapped, progress=self.progress, **how)


def _kept(mapped: Iterable[tuple[SourceFrame, np.ndarray]], store: MapFile) -> Mapped:
    for frame, values in mapped:
        store.append(values)
        yield frame, values
