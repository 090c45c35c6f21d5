"""The region canvas: one reusable frame whose side data is a table of one rectangle per macroblock.

FFmpeg's libx264 reads `REGIONS_OF_INTEREST` side data: rectangles with a quality offset num/den in [-1, 1], scaled
by 51 to QPs. PyAV cannot create side data, but the filter `addroi` can, and PyAV lets us write into what is there.
The time of a graph grows with the square of its length, so the frame goes through several of a few hundred `addroi` each
(3840x2160: 3 s instead of 32). A canvas is built once per frame size and process, and kept.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np

from dvcc.clip import write_plane
from dvcc.errors import CodecError
from dvcc.qp import MAX_QP
from dvcc.units import MACROBLOCK, macroblock_grid

# AVRegionOfInterest of libavutil/frame.h
_RECTANGLE = np.dtype(
    [("self_size", "u4"), ("top", "i4"), ("bottom", "i4"), ("left", "i4"), ("right", "i4"), ("num", "i4"), ("den", "i4")]
)
_AT_ONCE = 300  # filters in a graph
_free: dict[tuple[int, int], list[Canvas]] = defaultdict(list)  # list.append and list.pop are atomic: no lock


class Canvas:
    """A yuv420p frame of (height, width) with one writable quality offset per macroblock."""

    def __init__(self, height: int, width: int) -> None:
        rows, columns = macroblock_grid(height, width)
        self.frame = av.VideoFrame(width, height, "yuv420p")
        for start in range(0, rows * columns, _AT_ONCE):
            self._add_regions(range(start, min(start + _AT_ONCE, rows * columns)), columns)
        side_data = self.frame.side_data["REGIONS_OF_INTEREST"]  # type: ignore[typeddict-item]  # the stub knows one kind only
        if side_data.buffer_size != rows * columns * _RECTANGLE.itemsize:
            raise CodecError(f"this FFmpeg lays regions of interest out differently ({side_data.buffer_size} bytes): use av>=18")
        memory = (ctypes.c_ubyte * side_data.buffer_size).from_address(side_data.buffer_ptr)  # owned by self.frame
        self._table = np.frombuffer(memory, _RECTANGLE).reshape(rows, columns)
        self._table["den"] = MAX_QP

    def _add_regions(self, indices: range, columns: int) -> None:
        """One more rectangle for every macroblock of these."""
        graph, frame = av.filter.Graph(), self.frame
        pixels = av.VideoFormat("yuv420p", frame.width, frame.height)
        last = graph.add_buffer(width=frame.width, height=frame.height, format=pixels, time_base=Fraction(1, 25))
        for index in indices:
            top, left = divmod(index, columns)
            area = f"x={left * MACROBLOCK}:y={top * MACROBLOCK}:w={MACROBLOCK}:h={MACROBLOCK}"
            region = graph.add("addroi", f"{area}:qoffset=0")
            last.link_to(region)
            last = region
        last.link_to(graph.add("buffersink"))
        graph.configure()
        graph.push(frame)
        self.frame = graph.vpull()

    def paint(self, planes: tuple[np.ndarray, np.ndarray, np.ndarray], offsets: np.ndarray) -> av.VideoFrame:
        """Return the canvas with these pixels and QP offsets (int (h, w)); valid until the next `paint`."""
        for plane, pixels in zip(self.frame.planes, planes, strict=True):
            write_plane(plane, pixels)
        self._table["num"] = offsets
        return self.frame


@contextmanager
def borrow_canvas(height: int, width: int) -> Iterator[Canvas]:
    """Yield a canvas that nobody else holds: from the pool of this process, or a new one."""
    pool = _free[height, width]
    try:
        canvas = pool.pop()
    except IndexError:
        canvas = Canvas(height, width)
    try:
        yield canvas
    finally:
        pool.append(canvas)
