"""What `dvcc encode` says of an encode that has ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from dvcc._words import counted

if TYPE_CHECKING:
    from dvcc.codecs.stats import EncodeStats

_MISSED = 0.03  # of the target
_HIGHEST_QP = 51  # of H.264 and HEVC in 8 bits


def say_decided(decided: str) -> None:
    """Print what the rule or the control did, if it did anything."""
    if decided:
        print(f"decided  {decided}", file=sys.stderr)


def say(notes: Sequence[str], damage: object) -> None:
    """Print notes, and the damage if there is some."""
    for note in notes:
        print(f"note     {note}", file=sys.stderr)
    if damage_text := str(damage):
        print(f"damage   {damage_text}", file=sys.stderr)


def missed_rate(target_kbps: float, stats: EncodeStats, *, buffered: bool = False) -> list[str]:
    """Return a note where the bitrate is not within 3 % of the target.

    buffered: a stream may have spent its buffer of a second.
    """
    off = stats.bitrate_kbps / target_kbps - 1 if stats.num_frames else 0.0
    if abs(off) <= _MISSED:
        return []
    if buffered and 0 < off * stats.seconds <= 1:
        return [f"the bitrate is {off:.0%} above the target: in {stats.seconds:.1f} s the buffer of a second counts"]
    why = "the encoder has no use for more, or too few frames to spend it on"
    if off > 0:
        why = "the encoder misses it by this much where a video is short or uneven"
        if min(stats.mean_qps.values(), default=0.0) > _HIGHEST_QP - 1:
            why = f"{stats.codec.name} has nothing left to take away, and {ceil(stats.bitrate_kbps)} is about the least here"
    return [f"the bitrate is {abs(off):.0%} {'above' if off > 0 else 'below'} the target: {why}"]


def missed_size(size: int, out: Path) -> list[str]:
    """Return a note where the file is larger than asked, or more than 3 % smaller."""
    actual = out.stat().st_size
    if actual > size:
        return [
            f"the file has {actual} bytes, {actual / size - 1:.1%} more than {size}: the encoder has nothing left to take away"
        ]
    return (
        [f"the file has {actual} bytes of {size}: the encoder has no use for more, or too few frames to spend it on"]
        if actual < (1 - _MISSED) * size
        else []
    )


def closing(out: str, stats: EncodeStats, asked: str) -> str:
    """Return what was written: file, bitrate, frames, QPs. asked: what for, as "of 500 asked"."""
    if not stats.num_frames:
        return f"{out}: no frame,"
    qps = ", ".join(f"{kind} {qp:.1f}" for kind, qp in stats.mean_qps.items())
    rate = f"{stats.bitrate_kbps:.1f} kbit/s {asked}"
    return f"{out}: {rate}, {counted(stats.num_frames, 'frame')}, mean QP {qps},"
