"""Whole videos of any length under a rate controller, to a file that appears when all is done.

Memory does not grow with the length.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import av

from dvcc.codecs.passes import Destination, EncoderPass, Look, Progress, no_progress
from dvcc.codecs.stats import EncodeStats
from dvcc.encoding.plan import EncodePlan
from dvcc.media.container import open_container
from dvcc.media.damage import Damage
from dvcc.media.decode import OtherPacket
from dvcc.media.output import CONTAINERS, WholeFile


@dataclass(frozen=True)
class EncodeResult:
    """An encode in a file.

    stats: of its video. output: the file. number: which of the encodes that `look` was shown, 0 unless a correction is better.
    damage: what was wrong with the source. notes: what is not kept of it, one sentence each. num_encodes: encoder passes spent,
    in so many seconds. decided: what a rule did, in a line, "" for another control.
    """

    stats: EncodeStats
    output: WholeFile
    number: int
    damage: Damage
    notes: tuple[str, ...]
    num_encodes: int = 1
    elapsed_seconds: float = 0.0
    decided: str = ""

    @property
    def num_frames(self) -> int:
        """Return the number of frames that were coded."""
        return self.stats.num_frames

    @property
    def bits(self) -> int:
        """Return the bits of the video."""
        return self.stats.bits

    @property
    def bitrate_kbps(self) -> float:
        """Return the achieved bitrate in kbit/s."""
        return self.stats.bitrate_kbps


def encode_video(plan: EncodePlan, *, progress: Progress | None = None, look: Look | None = None) -> EncodeResult:
    """Code the plan's source to its output, which appears when all is done; an error or an interruption leaves none.

    look: shown the frames of the encode that is to be delivered, and of its correction. Raises `VideoError` when the source
    cannot be read, `CodecError` when the encoder fails, `DvccError` when the output cannot be written, `OSError` when the folder
    for temporary files is full.
    """
    began = time.monotonic()
    with ExitStack() as files:
        into = _Files(plan, files, progress or no_progress, look or (lambda index, frame, values: None))
        coded = plan.controller.encode(plan.source, plan.target_kbps, into)
        coded.output.publish()
    return replace(coded, elapsed_seconds=time.monotonic() - began, decided=into.decided)


class _Files(Destination[EncodeResult]):
    """Files that wait for `publish`, with the other streams of the source; `files` discards those that are not published."""

    def __init__(self, plan: EncodePlan, files: ExitStack, progress: Progress, look: Look) -> None:
        super().__init__(progress)
        self._plan, self._files, self._look, self._written = plan, files, look, 0
        self.repeats_headers = CONTAINERS[plan.out.suffix.lower()] == "mpegts"

    def write(self, last: EncoderPass) -> EncodeResult:
        """See `Destination.write`."""
        source, damage, notes = self._plan.source, Damage(), list[str]()
        output = WholeFile(self._plan.out, source, damage.corrections)
        self._files.callback(output.discard)
        with open_container(source.path) as original, output:
            others: deque[OtherPacket] = deque()  # read by one thread, written by the other

            def begin() -> None:
                notes.extend(output.begin(original))

            def mux(packet: av.Packet[Any]) -> None:
                while others:
                    output.copy(others.popleft())
                output.mux(packet)

            frames = source.frames(damage, others=others.append)
            stats = last.run(frames, output.container, qps=True, begin=begin, mux=mux, look=self._look)
            while others:
                output.copy(others.popleft())
        self._written += 1
        return EncodeResult(stats, output, self._written - 1, damage, (*source.notes, *notes))
