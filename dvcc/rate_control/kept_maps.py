"""Maps of a whole video on disk: a pass needs those of the pass before, and an hour of them does not fit into memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dvcc._files import open_temporary, temporary_folder
from dvcc.codecs.passes import MappedFrame, Maps
from dvcc.errors import VideoError
from dvcc.media.format import Source, SourceFrame
from dvcc.rate_control.offsets import OffsetGenerator
from dvcc.units import macroblock_grid


class KeptMaps:
    """Maps int8 (h, w) that are decided in the first pass over `source`, and are the same in all that follow."""

    def __init__(self, decide: Maps, source: Source, path: Path) -> None:
        self._decide, self._path, self._whole = decide, path, False
        self._grid = macroblock_grid(source.picture.height, source.picture.width)

    def __call__(self, frames: Iterable[SourceFrame]) -> Iterator[MappedFrame]:
        """Frames with their maps. Raises `VideoError` when there are more of them than in the first pass."""
        if self._whole:
            kept = self._read()
            yield from ((frame, next_map(kept)) for frame in frames)
            return
        with open_temporary(self._path) as file:
            for frame, values in self._decide(frames):
                packed = zlib.compress(values.astype(np.int8).tobytes(), 1)
                file.write(struct.pack("<I", len(packed)) + packed)
                yield frame, values
        self._whole = True

    def _read(self) -> Iterator[np.ndarray]:
        with self._path.open("rb") as file:
            while head := file.read(4):
                yield np.frombuffer(zlib.decompress(file.read(*struct.unpack("<I", head))), np.int8).reshape(self._grid)


@contextmanager
def kept_offsets(generator: OffsetGenerator | None, source: Source, *, causal: bool = False) -> Iterator[KeptMaps | None]:
    """Yield the offsets of a generator for all passes over `source`, in a temporary file; None without one.

    causal: as of a stream.
    """
    if generator is None:
        yield None
        return
    with temporary_folder() as folder:
        yield KeptMaps(generator.follow if causal else generator.generate, source, folder / "offsets")


def next_map(maps: Iterator[np.ndarray]) -> np.ndarray:
    """Return the map of an earlier pass for the next frame. Raises `VideoError` when there is none."""
    values = next(maps, None)
    if values is None:
        raise VideoError("the video has other frames than a moment ago: it must not change while it is read")
    return values
