"""The frame rate of a stream: what the file declares, unless its own time stamps say another."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from statistics import median

import av

_MOST_FPS, _MOST_RAW_FPS = 1000, 240  # beyond, it is the unit of a clock and no rate
_REGULAR = 0.8  # of the steps: then their mean is the rate
_COUNTED_RATE, _DECLARED_RATE = 0.25, 0.05  # by which a declared rate may differ from the measured one
_IRREGULAR = 2.5  # typical steps
_FEW, _ALIKE = 10, 0.25  # stamps that tell a rate only where all their steps are within a quarter of the typical one

LEAST_GAP, GAP_STEPS = 2.0, 10
"""A gap is longer than so many seconds and so many frames; shorter ones are pictures shown for long."""


def is_gap(delta: float, step: float) -> bool:
    """Whether `delta` seconds between pictures are a pause of a recording whose pictures are typically `step` apart."""
    return delta > max(LEAST_GAP, GAP_STEPS * step)


def _step_of(stamps: list[float]) -> tuple[float, float, bool] | None:
    """Return the mean and the median distance of sorted stamps in seconds, without gaps, and whether they are regular.

    None of fewer than five stamps.
    """
    steps = [after - before for before, after in pairwise(stamps) if after > before]
    if len(steps) < 4:
        return None
    middle = median(steps)
    if len(stamps) < _FEW:
        regular = all(abs(step / middle - 1) <= _ALIKE for step in steps)
    else:
        regular = sum(step <= _IRREGULAR * middle for step in steps) >= _REGULAR * len(steps)
    frame_steps = [step for step in steps if not is_gap(step, middle)]
    return sum(frame_steps) / len(frame_steps), middle, regular


def rate_of(
    stream: av.VideoStream, times: list[float], *, untimed: bool, container: av.container.InputContainer
) -> tuple[Fraction | None, bool]:
    """Return the frame rate of `stream`, None if nothing tells it, and whether it was measured against what the file declares.

    times: sorted times in seconds of pictures at the beginning. untimed: a format without time stamps, of which only the rate in
    the stream itself is believed.
    """
    rates = (stream.codec_context.framerate,) if untimed else (stream.average_rate, stream.guessed_rate)
    most = _MOST_RAW_FPS if untimed else _MOST_FPS
    declared = [Fraction(rate) for rate in rates if rate and 0 < rate <= most]
    if untimed:
        return (declared[0] if declared else None), False
    counted = bool(stream.frames) and "matroska" not in container.format.name
    if counted and stream.time_base and container.format.name != "avi":
        indexed = [float(entry.timestamp * stream.time_base) for entry in stream.index_entries]
        times = sorted(indexed) if len(indexed) >= stream.frames else times
    measured = _step_of(times)
    if measured is None or (declared and not measured[2]):  # of pictures at uneven times the file knows more than its beginning
        return (declared[0] if declared else None), False
    step, middle, _ = measured
    tolerance = _COUNTED_RATE if counted else _DECLARED_RATE
    for rate in declared:
        if min(abs(float(rate) * interval - 1) for interval in (step, middle)) <= tolerance:
            return rate, False
    return _standard(1 / step), bool(declared)


def _standard(fps: float) -> Fraction:
    """Return the whole or NTSC rate that is meant, or the rate itself."""
    for rate in (Fraction(round(fps)), Fraction(round(fps * 1.001) * 1000, 1001)):
        if rate and abs(float(rate) / fps - 1) < 0.005:
            return rate
    return Fraction(fps).limit_denominator(1000)
