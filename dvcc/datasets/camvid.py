"""CamVid, as it is published (labels are colours), as SegNet's authors prepared it, and as a clip (labels are numbers)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dvcc.datasets.base import DataSet, Example, existing, list_pictures, printable, read_pictures
from dvcc.datasets.cityscapes import NUM_CLASSES as CITYSCAPES_CLASSES
from dvcc.errors import ConfigError
from dvcc.media.pictures import check_label_image, picture_size, read_label_image
from dvcc.media.protocols import IGNORED

_LAYOUT = (
    "ROOT/701_StillsRaw_full/*.png and ROOT/LabeledApproved_full/*_L.png (or SegNet's ROOT/val/*.png and ROOT/valannot/*.png, or "
    "ROOT/images/*.png and ROOT/labels/*.png with SegNet's numbers)"
)
FPS = 30
"""Of CamVid's videos; the number in a picture's name is that of the frame."""

_VIDEO_STEP = 2
"""Frames from one labelled frame to the next in 0016E5, which is labelled as video; other drives are labelled once a second."""

_FRAME = re.compile(r"(?P<drive>.+)_[a-z]?(?P<frame>\d+)")

# Colours of the 32 published categories, merged into the 11 classes that papers report since SegNet (Badrinarayanan et al.,
# 2017), in its order. Void, and any colour that is not listed, is ignored.
CLASSES: dict[str, dict[str, tuple[int, int, int]]] = {
    "sky": {"Sky": (128, 128, 128)},
    "building": {
        "Building": (128, 0, 0),
        "Wall": (64, 192, 0),
        "Bridge": (0, 128, 64),
        "Tunnel": (64, 0, 64),
        "Archway": (192, 0, 128),
    },
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"Road": (128, 64, 128), "LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64)},
    "pavement": {"Sidewalk": (0, 0, 192), "ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign": {"SignSymbol": (192, 128, 128), "Misc_Text": (128, 128, 64), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {
        "Car": (64, 0, 128),
        "SUVPickupTruck": (64, 128, 192),
        "Truck_Bus": (192, 128, 192),
        "Train": (192, 64, 128),
        "OtherMoving": (128, 64, 64),
    },
    "pedestrian": {
        "Pedestrian": (64, 64, 0),
        "Child": (192, 128, 64),
        "CartLuggagePram": (64, 0, 192),
        "Animal": (64, 128, 64),
    },
    "cyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}


_OF_CITYSCAPES = (
    "road,pavement,building,building,fence,pole,sign,sign,tree,tree,sky,pedestrian,cyclist,car,car,car,car,cyclist,cyclist"
)
FROM_CITYSCAPES = tuple(list(CLASSES).index(name) for name in _OF_CITYSCAPES.split(","))
"""The class of each of Cityscapes' 19: walls are buildings, terrain is trees, lorries, buses and trains are cars (as CamVid's own
32 categories are merged above), riders and two-wheelers are cyclists."""

_CLASS_MAPS = {CITYSCAPES_CLASSES: FROM_CITYSCAPES, CITYSCAPES_CLASSES + 1: (*FROM_CITYSCAPES, -1)}
"""A twentieth class is a background, which is nothing here."""


def camvid(root: Path) -> DataSet:
    """All 701 labelled pictures with 11 classes or, in SegNet's layout, its validation split; a group is one of the drives.

    Raises `ConfigError` when a folder or a label image is missing.
    """
    examples = []
    for picture, labels in _pictures(root):
        read = partial(read_pictures, pictures=[picture], read_labels=labels.read, task="segmentation")
        name = printable(Path(picture.stem))
        check = partial(_check_all, [(picture, labels)])
        examples.append(Example(name, name.partition("_")[0], read, picture.parent, check=check))
    return DataSet("camvid", tuple(examples), "segmentation", len(CLASSES), _CLASS_MAPS)


def camvid_sequence(root: Path, *, frames: int = 8, stride: int = 1) -> DataSet:
    """Return clips of `frames` labelled frames, every `stride`-th, that do not overlap.

    Every or every second frame of a drive has labels there. Layouts, classes and errors are those of `camvid`; every frame of a
    clip has labels.

    Raises `ConfigError` when no drive has so many labelled frames in a row, or for a number below 1.
    """
    if frames < 1 or stride < 1:
        raise ConfigError(f"frames and stride must be at least 1, got frames={frames} and stride={stride}")
    span = (frames - 1) * stride + 1
    examples = []
    runs = _runs(_pictures(root))
    for step, run in runs:
        for first in range(0, len(run) - span + 1, span):
            labelled = run[first : first + span : stride]
            pictures = [picture for picture, _ in labelled]
            labels = partial(_read_all, readers=[labels.read for _, labels in labelled])
            fps = Fraction(FPS, step * stride)
            read = partial(read_pictures, pictures=pictures, read_labels=labels, task="segmentation", fps=fps)
            name = printable(Path(pictures[0].stem))
            check = partial(_check_all, labelled)
            examples.append(Example(name, name.partition("_")[0], read, pictures[0].parent, check=check))
    if not examples:
        longest = max(len(run) for _, run in runs)
        raise ConfigError(
            f"{root} has at most {longest} labelled frames in a row, too few for {frames} with stride {stride} ({span})"
        )
    return DataSet("camvid_sequence", tuple(examples), "segmentation", len(CLASSES), _CLASS_MAPS)


class _Labels(NamedTuple):
    """A label image. colours: instead of numbers."""

    path: Path
    colours: bool

    def read(self, size: tuple[int, int]) -> torch.Tensor:
        """uint8 (1, H, W)."""
        return (_read_colours if self.colours else _read_numbers)(size, path=self.path)

    def check(self, size: tuple[int, int]) -> None:
        """Raise `VideoError` where it does not fit a picture of `size`, by its header."""
        check_label_image(self.path, size=size, colours=self.colours)


_Labelled = tuple[Path, _Labels]
"""A picture and its labels."""


def _pictures(root: Path) -> list[_Labelled]:
    """All pictures of the layout that is there."""
    colours = (root / "701_StillsRaw_full").exists()
    if colours:
        folder, label_folder, ending = root / "701_StillsRaw_full", root / "LabeledApproved_full", "_L"
    elif (root / "images").exists():
        folder, label_folder, ending = root / "images", root / "labels", ""
    elif (root / "val").exists():
        folder, label_folder, ending = root / "val", root / "valannot", ""
    else:
        folder, label_folder, ending = root / "701_StillsRaw_full", root / "LabeledApproved_full", "_L"
    pictures = list_pictures(folder, "*.png", layout=_LAYOUT)
    existing(label_folder, layout=_LAYOUT)
    paths = [existing(label_folder / f"{picture.stem}{ending}.png", layout=_LAYOUT) for picture in pictures]
    return [(picture, _Labels(path, colours)) for picture, path in zip(pictures, paths, strict=True)]


def _runs(pictures: list[_Labelled]) -> list[tuple[int, list[_Labelled]]]:
    """Labelled frames of one drive that follow each other at one step of 1 or 2 frames, with that step."""
    runs: list[tuple[int, list[_Labelled]]] = []
    before: tuple[str, int] | None = None
    for picture in pictures:
        match = _FRAME.fullmatch(picture[0].stem)
        place = (match["drive"], int(match["frame"])) if match else (picture[0].stem, 0)
        step = place[1] - before[1] if before is not None and place[0] == before[0] else 0
        if runs and 1 <= step <= _VIDEO_STEP and (len(runs[-1][1]) == 1 or runs[-1][0] == step):
            runs[-1] = (step, [*runs[-1][1], picture])
        else:
            runs.append((1, [picture]))
        before = place
    return runs


def _check_all(labelled: Sequence[_Labelled]) -> None:
    """Raise `VideoError` for labels that are of another size than their picture."""
    for picture, labels in labelled:
        labels.check(picture_size(picture))


def _read_all(size: tuple[int, int], *, readers: Sequence[Callable[[tuple[int, int]], torch.Tensor]]) -> torch.Tensor:
    """uint8 (T, H, W) of a clip's frames."""
    return torch.cat([read(size) for read in readers])


def _read_numbers(size: tuple[int, int], *, path: Path) -> torch.Tensor:
    """uint8 (1, H, W) from SegNet's class numbers, where 11 is void."""
    labels = read_label_image(path, size=size)
    labels[labels >= len(CLASSES)] = IGNORED
    return torch.from_numpy(labels)[None]


def _read_colours(size: tuple[int, int], *, path: Path) -> torch.Tensor:
    """uint8 (1, H, W) from the published colours."""
    codes, classes = _colour_table()
    pixels = _code(read_label_image(path, size=size, colours=True))
    places = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    return torch.from_numpy(np.where(codes[places] == pixels, classes[places], np.uint8(IGNORED)))[None]


@cache
def _colour_table() -> tuple[np.ndarray, np.ndarray]:
    """Colours as one number each, ascending, and their classes."""
    listed = [(colour, number) for number, merged in enumerate(CLASSES.values()) for colour in merged.values()]
    codes = _code(np.array([colour for colour, _ in listed]))
    order = np.argsort(codes)
    return codes[order], np.array([number for _, number in listed], np.uint8)[order]


def _code(colours: np.ndarray) -> np.ndarray:
    """(..., 3) to one number per colour."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue
