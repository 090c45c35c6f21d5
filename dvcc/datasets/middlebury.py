"""Pairs of pictures with their true optical flow, as Middlebury publishes them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from dvcc.datasets.base import DataSet, Example, existing, list_pictures, printable, read_pictures
from dvcc.errors import ConfigError, VideoError
from dvcc.media.pictures import picture_size

_LAYOUT = (
    "ROOT/other-data/NAME/frame10.png, frame11.png and ROOT/other-gt-flow/NAME/flow10.flo "
    "(or ROOT/NAME_0.png, ROOT/NAME_1.png and ROOT/NAME.flo)"
)
_TAG = b"PIEH"
_UNKNOWN = 1e9
"""Pixels; a component of so much is not known."""


def middlebury(root: Path) -> DataSet:
    """Every pair that has a true flow, as a clip of two frames.

    Raises `ConfigError` when a piece is missing.
    """
    pairs: dict[str, tuple[list[Path], Path]] = {}
    if (root / "other-gt-flow").exists():
        for path in sorted((root / "other-gt-flow").glob("*/flow10.flo")):
            folder = root / "other-data" / path.parent.name
            pairs[path.parent.name] = [folder / "frame10.png", folder / "frame11.png"], path
    else:
        for path in list_pictures(root, "*_0.png", layout=_LAYOUT):
            stem = path.name.removesuffix("_0.png")
            pairs[stem] = [path, root / f"{stem}_1.png"], root / f"{stem}.flo"
    if not pairs:
        raise ConfigError(f"{root} has no flow10.flo; expected: {_LAYOUT}")
    examples = []
    for stem, (pictures, flow) in pairs.items():
        for path in (*pictures, flow):
            existing(path, layout=_LAYOUT)
        labels = partial(read_flow, path=flow)
        read = partial(read_pictures, pictures=pictures, read_labels=labels, task="optical_flow")
        name = printable(Path(stem))
        check = partial(_check_flow, pictures[0], flow)
        examples.append(Example(name, name, read, pictures[0].parent, check=check))
    return DataSet("middlebury", tuple(examples), "optical_flow")


def _check_flow(picture: Path, flow: Path) -> None:
    """Raise `VideoError` for a flow of another size than its pictures, or none; the file is read, there are few."""
    read_flow(picture_size(picture), path=flow)


def read_flow(size: tuple[int, int], *, path: Path) -> torch.Tensor:
    """float32 (1, 2, H, W) in pixels, x then y, NaN where it is not known.

    Raises `VideoError` for another kind of file, one that is cut off, and one of another size than the pictures (H, W).
    """
    content = path.read_bytes()
    if content[:4] != _TAG or len(content) < 12:
        raise VideoError(f"{path} is no file of optical flow (it begins with {content[:4]!r}, not PIEH): get it again")
    width, height = (int(side) for side in np.frombuffer(content, "<i4", 2, 4))
    if (height, width) != size:
        raise VideoError(f"{path} is of {height}x{width}, but its pictures are {size[0]}x{size[1]}: get them again")
    if len(content) != 12 + 8 * height * width:
        raise VideoError(f"{path} has {len(content)} bytes, but {height}x{width} need {12 + 8 * height * width}: get it again")
    flow = torch.from_numpy(np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2).copy()).permute(2, 0, 1)
    return flow.masked_fill((flow.abs() >= _UNKNOWN).any(0), float("nan"))[None]
