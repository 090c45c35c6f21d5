"""Cityscapes: the annotated pictures, and the 30-frame snippets around them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from dvcc.datasets.base import DataSet, Example, existing, list_pictures, read_pictures
from dvcc.errors import ConfigError
from dvcc.media.folders import cityscapes_sequences
from dvcc.media.pictures import check_label_image, picture_size, read_label_image
from dvcc.media.protocols import IGNORED

NUM_CLASSES = 19
FPS = Fraction(17)
SNIPPET, ANNOTATED = 30, 19  # frames of a snippet, and which of them (from 0) has labels

_PICTURE = "_leftImg8bit"
_LABELS = ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png")
_LABEL_LAYOUT = "ROOT/gtFine/val/CITY/CITY_SSSSSS_FFFFFF_gtFine_labelIds.png (or _labelTrainIds.png)"
_LAYOUT = f"ROOT/leftImg8bit/val/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png and {_LABEL_LAYOUT}"
_SEQUENCE_LAYOUT = f"ROOT/leftImg8bit_sequence/val/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png and, for labels, {_LABEL_LAYOUT}"


def cityscapes(root: Path) -> DataSet:
    """Return the annotated pictures of the validation split, with the 19 classes that are evaluated; all others are ignored.

    Raises `ConfigError` when a folder or a label image is missing.
    """
    pictures = list_pictures(root / "leftImg8bit" / "val", f"*/*{_PICTURE}.png", layout=_LAYOUT)
    existing(root / "gtFine" / "val", layout=_LAYOUT)
    examples = []
    for picture in pictures:
        path = _label_path(root, picture, layout=_LAYOUT)
        labels = partial(_read_label_maps, paths=[path])
        read = partial(read_pictures, pictures=[picture], read_labels=labels, task="segmentation")
        check = partial(_check_labels, picture, path)
        examples.append(Example(_stem(picture), _sequence(picture), read, picture, check=check))
    return DataSet("cityscapes", tuple(examples), "segmentation", NUM_CLASSES)


def cityscapes_sequence(root: Path, *, frames: int = 8, stride: int = 3) -> DataSet:
    """One clip of `frames` frames, every `stride`-th, from each snippet of the validation split, at 17 fps / stride.

    It is the earliest clip that has the annotated frame (the 20th of 30) among its frames: with 8 frames at stride 3 the
    snippet's frames 2, 5, .., 20, 23. Labels are 255 everywhere in the other frames. Without a folder gtFine, or where no clip
    of that length meets the annotated frame, there are no labels, and in the latter case the clip starts with the snippet.

    Raises `ConfigError` when a piece is missing, a snippet is incomplete, or the clip is longer than a snippet.
    """
    if frames < 1 or stride < 1:
        raise ConfigError(f"frames and stride must be at least 1, got frames={frames} and stride={stride}")
    span = (frames - 1) * stride + 1
    if span > SNIPPET:
        raise ConfigError(
            f"{frames} frames with stride {stride} span {span}, but a Cityscapes snippet has {SNIPPET}: ask for fewer"
        )
    starts = [s for s in range(SNIPPET - span + 1) if ANNOTATED in range(s, s + span, stride)]
    start = starts[0] if starts else 0
    labelled = bool(starts) and (root / "gtFine" / "val").exists()
    pictures = list_pictures(root / "leftImg8bit_sequence" / "val", f"*/*{_PICTURE}.png", layout=_SEQUENCE_LAYOUT)
    examples = []
    for run in cityscapes_sequences(pictures):
        if len(run) % SNIPPET:
            raise ConfigError(
                f"the snippet that begins with {run[0]} has {len(run)} frames in a row, not {SNIPPET}: complete the download"
            )
        for first in range(0, len(run), SNIPPET):
            snippet = run[first : first + SNIPPET]
            clip, read = snippet[start : start + span : stride], partial(read_pictures, fps=FPS / stride)
            check = None
            if labelled:
                path = _label_path(root, snippet[ANNOTATED], layout=_SEQUENCE_LAYOUT)
                paths = [path if picture == snippet[ANNOTATED] else None for picture in clip]
                read = partial(read, read_labels=partial(_read_label_maps, paths=paths), task="segmentation")
                check = partial(_check_labels, snippet[ANNOTATED], path)
            examples.append(Example(_stem(clip[0]), _sequence(clip[0]), partial(read, pictures=clip), run[0], check=check))
    return DataSet(
        "cityscapes_sequence", tuple(examples), "segmentation" if labelled else None, NUM_CLASSES if labelled else None
    )


def _stem(picture: Path) -> str:
    return picture.stem.removesuffix(_PICTURE)


def _sequence(picture: Path) -> str:
    """City and number of the drive."""
    return _stem(picture).rpartition("_")[0]


def _label_path(root: Path, picture: Path, *, layout: str) -> Path:
    """Return the train ids where someone has made them, otherwise the ids that Cityscapes is distributed with."""
    paths = [root / "gtFine" / "val" / picture.parent.name / (_stem(picture) + ending) for ending in _LABELS]
    return paths[0] if paths[0].exists() else existing(paths[1], layout=layout)


def _check_labels(picture: Path, path: Path) -> None:
    check_label_image(path, size=picture_size(picture))


def _read_label_maps(size: tuple[int, int], *, paths: Sequence[Path | None]) -> torch.Tensor:
    """uint8 (T, H, W) of train ids; a frame without a path is ignored everywhere."""
    maps = np.full((len(paths), *size), IGNORED, np.uint8)
    for t, path in enumerate(paths):
        if path is not None:
            table = _train_ids(of_ids=path.name.endswith(_LABELS[1]))
            maps[t] = table[read_label_image(path, size=size)]
    return torch.from_numpy(maps)


@cache
def _train_ids(*, of_ids: bool) -> np.ndarray:
    """Table (256,) from a stored number to the train id."""
    from torchvision.datasets import Cityscapes

    table = np.full(256, IGNORED, np.uint8)
    for label in Cityscapes.classes:
        if 0 <= label.train_id < NUM_CLASSES:
            table[label.id if of_ids else label.train_id] = label.train_id
    return table
