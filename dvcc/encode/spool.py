"""Maps of a whole video on disk: the second pass needs those of the first, and an hour of them does not fit into memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np


class MapFile:
    """Maps int8 (h, w), compressed, one after the other: written once, in a `with` block, and then read from the start."""

    def __init__(self, path: Path, grid: tuple[int, int]) -> None:
        self.path, self.grid = path, grid

    def __enter__(self) -> MapFile:
        self._file = self.path.open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def append(self, values: np.ndarray) -> None:
        """Add the map of the next frame."""
        packed = zlib.compress(values.astype(np.int8).tobytes(), 1)
        self._file.write(struct.pack("<I", len(packed)) + packed)

    def __iter__(self) -> Iterator[np.ndarray]:
        with self.path.open("rb") as file:
            while head := file.read(4):
                yield np.frombuffer(zlib.decompress(file.read(*struct.unpack("<I", head))), np.int8).reshape(self.grid)
