"""CamVid, as it is published (labels are colours) and as SegNet's authors prepared it (labels are numbers)."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from dvcc.datasets.base import DataSet, Example, existing, list_pictures, printable, read_pictures
from dvcc.media.pictures import read_label_image
from dvcc.media.protocols import IGNORED

_LAYOUT = (
    "ROOT/701_StillsRaw_full/*.png and ROOT/LabeledApproved_full/*_L.png (or SegNet's ROOT/val/*.png and ROOT/valannot/*.png)"
)

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


def camvid(root: Path) -> DataSet:
    """All 701 labelled pictures with 11 classes or, in SegNet's layout, its validation split; a group is one of the drives.

    Raises `ConfigError` when a folder or a label image is missing.
    """
    if (root / "val").exists() and not (root / "701_StillsRaw_full").exists():
        folder, label_folder, ending, read_labels = root / "val", root / "valannot", "", _read_numbers
    else:
        folder, label_folder, ending = root / "701_StillsRaw_full", root / "LabeledApproved_full", "_L"
        read_labels = _read_colours
    pictures = list_pictures(folder, "*.png", layout=_LAYOUT)
    existing(label_folder, layout=_LAYOUT)
    examples = []
    for picture in pictures:
        label = existing(label_folder / f"{picture.stem}{ending}.png", layout=_LAYOUT)
        read = partial(read_pictures, pictures=[picture], read_labels=partial(read_labels, path=label), task="segmentation")
        name = printable(Path(picture.stem))
        examples.append(Example(name, name.partition("_")[0], read))
    return DataSet("camvid", tuple(examples), "segmentation", len(CLASSES))


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
