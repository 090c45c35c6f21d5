"""A map as rectangles of pixels, for FFmpeg's filter `addroi`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from dvcc.codecs.encoder import BASE_QP
from dvcc.qp import MAX_QP
from dvcc.units import MACROBLOCK


def filters(qp: np.ndarray) -> list[str]:
    """`addroi` filters whose offsets on `BASE_QP` are the map `qp` (h, w).

    Of rectangles that overlap, the first one counts: the commonest QP comes last, as one that covers the picture.
    """
    values, counts = np.unique(qp, return_counts=True)
    commonest = values[counts.argmax()]
    boxes = [box for box in rectangles(qp) if box[4] != commonest]
    return [_filter(*box) for box in [*boxes, (0, 0, *qp.shape, int(commonest))]]


def _filter(top: int, left: int, height: int, width: int, qp: int) -> str:
    x, y, w, h = (MACROBLOCK * side for side in (left, top, width, height))
    return f"addroi=x={x}:y={y}:w={w}:h={h}:qoffset={qp - BASE_QP}/{MAX_QP}"


def rectangles(values: np.ndarray) -> Iterator[tuple[int, int, int, int, int]]:
    """Return (top, left, height, width, value) of rectangles of equal values that tile (h, w).

    They are runs within a row, joined with the same run in the row below.
    """
    open_runs: dict[tuple[int, int, int], int] = {}  # (left, width, value): the row that it began in
    for y, row in enumerate([*values, None]):
        runs = set() if row is None else set(_runs(row))
        for left, width, value in [run for run in open_runs if run not in runs]:
            top = open_runs.pop((left, width, value))
            yield top, left, y - top, width, value
        open_runs |= {run: y for run in runs if run not in open_runs}


def _runs(row: np.ndarray) -> Iterator[tuple[int, int, int]]:
    starts = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
    for left, right in itertools.pairwise(starts):
        yield int(left), int(right - left), int(row[left])
