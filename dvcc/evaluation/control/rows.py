"""What is measured of one clip: a row per encode, and what the network says of the clip before it is coded."""

from __future__ import annotations

from dataclasses import dataclass

from dvcc.tasks.metric import State


@dataclass(frozen=True)
class Row:
    """One encode: a clip, a target, a controller, and what came out.

    target_kbps: with the rate factor. within_reach: whether a clip can be held to the target at all; where the bandwidth is
    strict, only those count. weight: of the clip in means over clips, None where states are pooled. status: "ok" or
    "unreachable". metric_of_labels: against those of the data set, NaN without any.
    """

    video: str
    start: int
    controller: str
    target_index: int
    target_kbps: float
    achieved_kbps: float = float("nan")
    bits_per_pixel: float = float("nan")
    metric: float = float("nan")
    loss: float = float("nan")
    num_encodes: int = 0
    status: str = "ok"
    metric_of_labels: float = float("nan")
    rate_factor: float = 1.0
    weight: float | None = None
    within_reach: bool = True


@dataclass(frozen=True, eq=False)
class Looked:
    """What the network says of an uncoded clip.

    agreement: with itself under +-1 noise. state, noisy: of the metric, for its own answer and for the one under noise. uncoded:
    of the metric against labels, None without labels.
    """

    agreement: float
    state: State
    noisy: State
    uncoded: State | None


Measured = tuple[Row, State | None, State | None]
"""A row, the state of the metric, and that of the metric against labels; None where the target is out of reach, or there are no
labels."""
