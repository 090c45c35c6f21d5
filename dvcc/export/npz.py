"""NumPy's format: the map as dvcc itself reads it (`QPMap.load`), lossless."""

from __future__ import annotations

from pathlib import Path

from dvcc.qp import QPMap


def write_npz(qp: QPMap, path: str | Path) -> None:
    """Array `qp`, int8 (T, ceil(H/16), ceil(W/16)), absolute QPs 0..51, display order."""
    qp.save(path)
