"""Which frames a frame is predicted from: the order in which x264 codes a clip, from its frame types."""

from __future__ import annotations

from typing import NamedTuple

import torch

from dvcc.surrogate.ladder import FRAME_TYPES


class CodingOrder(NamedTuple):
    """int64 (B, T), all three by place in coding order.

    frame: the frame (display order) that is coded at this place. past, future: *places* of the frames before and after it
    in display order that it is predicted from, or -1: an I frame has none, a P frame has no future one.
    """

    frame: torch.Tensor
    past: torch.Tensor
    future: torch.Tensor


def coding_order(frame_types: torch.Tensor) -> CodingOrder:
    """Return the order of clips with frame types (B, T).

    The nearest reference on each side: x264 may search three, but the nearest is what it mostly takes. In a run of two or
    more B frames the middle one is a reference of the others (x264's b-pyramid, on by default).
    """
    rows = [_order([FRAME_TYPES[int(t)] for t in clip]) for clip in frame_types]
    return CodingOrder(*(torch.tensor(column, device=frame_types.device) for column in zip(*rows, strict=True)))


def _order(types: list[str]) -> tuple[list[int], list[int], list[int]]:
    frames: list[tuple[int, int, int]] = []  # (frame, past, future), as frames
    anchor, waiting = -1, list[int]()
    for t, kind in enumerate(types):
        if kind == "B":
            waiting.append(t)
            continue
        frames.append((t, -1 if kind == "I" else anchor, -1))
        frames += _b_frames(waiting, anchor, t)
        anchor, waiting = t, []
    frames += [(t, anchor, -1) for t in waiting]  # a clip that was cut off in a run of B frames
    place = {frame: k for k, (frame, _, _) in enumerate(frames)} | {-1: -1}
    return [f for f, _, _ in frames], [place[p] for _, p, _ in frames], [place[n] for _, _, n in frames]


def _b_frames(run: list[int], past: int, future: int) -> list[tuple[int, int, int]]:
    if len(run) < 2:
        return [(t, past, future) for t in run]
    middle = run[(len(run) - 1) // 2]
    others = [(t, past, middle) if t < middle else (t, middle, future) for t in run if t != middle]
    return [(middle, past, future), *others]
