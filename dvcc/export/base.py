"""What a map is made into for another program: the contract of the formats, and what they share. Their sources are upright."""

from __future__ import annotations

import shlex
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dvcc._files import open_temporary
from dvcc.codecs.encoder import BASE_QP
from dvcc.media.source import VideoSource
from dvcc.qp import Delivery, QPMap, QPOffsets

Maps = Iterable[QPMap | QPOffsets]
"""The maps of a video, one per GOP in display order, all of one kind."""

LARGE_UNIT = 4
"""Macroblocks across the 64x64 pixels in which Kvazaar and SVT-AV1 count."""


class MapFormat(AbstractBase):
    """A file that another program reads."""

    suffix: str
    """What is put after a video's name for the default name of the file."""
    takes: tuple[Delivery, ...]
    """map: QPs of H.264's scale; offsets: differences from what the encoder itself decides. The first is the default."""
    misread: str = ""
    """An end of the file's name by which the program would take it for another layout."""
    loses: str
    """What of a map of one value per macroblock and frame does not survive, in one sentence."""

    @abstractmethod
    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """Write the maps of `source`; returns the command that uses the file, which is going to be `out`.

        gop: frames per map, but for the last.
        """


def deltas(qp: QPMap | QPOffsets) -> np.ndarray:
    """int16 (T, h, w): offsets as they are, and absolute QPs less `BASE_QP`, for an encoder that is told that QP."""
    values = qp.values.astype(np.int16)
    return values - BASE_QP if isinstance(qp, QPMap) else values


def large_units(values: np.ndarray) -> np.ndarray:
    """int16 (T, ceil(H/64), ceil(W/64)): the rounded mean of the macroblocks in every 64x64 pixels, of values (T, h, w)."""
    rows, columns = (np.arange(0, length, LARGE_UNIT) for length in values.shape[1:])
    counts = np.add.reduceat(np.add.reduceat(np.ones_like(values[0], float), rows, 0), columns, 1)
    sums = np.add.reduceat(np.add.reduceat(values.astype(float), rows, 1), columns, 2)
    return np.rint(sums / counts).astype(np.int16)


@contextmanager
def spooled(arrays: Iterable[np.ndarray]) -> Iterator[tuple[BinaryIO, tuple[int, ...]]]:
    """Yield the int8 arrays (T, ..) one after the other in a temporary file, and their shape together.

    For what has to be known before the first of them can be written.
    """
    with open_temporary() as file:
        frames, shape = 0, tuple[int, ...]()
        for array in arrays:
            file.write(array.astype(np.int8).tobytes())
            frames, shape = frames + len(array), array.shape[1:]
        file.seek(0)
        yield file, (frames, *shape)


def decoded(source: VideoSource, *, program: str = "ffmpeg") -> str:
    """Return a shell command that writes the frames of `source` to its standard output, as the maps were made for them.

    They are raw 8-bit 4:2:0, upright, cut to an even size, one after the other whatever their times.

    The rate stands before the input: there it makes a frame's time of its number, and lets each last as long. New times from a
    filter leave a frame the length that it had in the file, and later releases of FFmpeg fill that with repeats of the last one.
    """
    picture = source.picture
    scale = "scale=out_range=full," if picture.full_range else ""  # FFmpeg 5 would squeeze yuvj420p to limited range
    filters = f"{scale}format=yuv420p,crop={picture.width}:{picture.height}:0:0"
    picked = f"-r {picture.fps} -i {shlex.quote(str(source.path.resolve()))} -map 0:{source.index}"
    return f"{program} -v error -nostdin {picked} -vf '{filters}' -f rawvideo -pix_fmt yuv420p -"


def raw_input(source: VideoSource) -> str:
    """FFmpeg's options for what `decoded` writes."""
    return (
        f"-f rawvideo -pix_fmt yuv420p -video_size {source.picture.width}x{source.picture.height} -framerate {source.picture.fps}"
    )
