"""COCO's validation pictures and their boxes."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from pathlib import Path

import torch

from dvcc.datasets.base import DataSet, Example, existing, printable, read_pictures
from dvcc.errors import ConfigError, VideoError
from dvcc.media.pictures import picture_size

_LAYOUT = "ROOT/val2017/*.jpg and ROOT/annotations/instances_val2017.json (or ROOT/images/*.jpg and ROOT/instances.json)"
_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # numbers whose categories were never annotated
CATEGORY_IDS = tuple(number for number in range(1, 91) if number not in _GAPS)
"""What torchvision's detectors and DETR call classes 0..79 in their answers of 91 numbers."""


def coco(root: Path) -> DataSet:
    """All pictures that the annotations list, with their boxes; class numbers 0..79 are the categories in the order of their ids.

    A network with 91 scores is brought to the same numbers by `scores[..., CATEGORY_IDS]`. Crowds (one box around many
    objects) and boxes without area are left out. Other data sets in COCO's format are
    read too (pictures in ROOT/images, boxes in ROOT/instances.json): their classes count from 0 in the same order.

    Raises `ConfigError` when a piece is missing, or the annotations are none.
    """
    ours = (root / "instances.json").exists()
    folder = existing(root / ("images" if ours else "val2017"), layout=_LAYOUT)
    path = existing(root / ("instances.json" if ours else "annotations/instances_val2017.json"), layout=_LAYOUT)
    try:
        content = json.loads(path.read_bytes())
        numbers = {number: i for i, number in enumerate(sorted(category["id"] for category in content["categories"]))}
        boxes: dict[int, list[tuple[float, ...]]] = defaultdict(list)
        for annotation in content["annotations"]:
            left, top, width, height = annotation["bbox"]
            if not annotation.get("iscrowd"):
                boxes[annotation["image_id"]].append((left, top, left + width, top + height, numbers[annotation["category_id"]]))
        listed = [(image["id"], folder / image["file_name"], (image["height"], image["width"])) for image in content["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a file of COCO instances ({error!r}); expected: {_LAYOUT}") from error
    missing = [picture for _, picture, _ in listed if not picture.exists()]
    if missing:
        raise ConfigError(f"{len(missing)} of {len(listed)} pictures are missing, the first is {missing[0]}; expected: {_LAYOUT}")
    examples = []
    for number, picture, size in sorted(listed, key=lambda entry: entry[1]):
        labels = partial(_read_boxes, picture=picture, boxes=boxes[number], listed=size)
        read = partial(read_pictures, pictures=[picture], read_labels=labels, task="detection")
        name = printable(picture.relative_to(folder).with_suffix(""))
        check = partial(_check_size, picture, size)
        examples.append(Example(name, name, read, picture.parent, (picture,), check))
    return DataSet("coco", tuple(examples), "detection", len(numbers))


def _check_size(picture: Path, listed: tuple[int, int], size: tuple[int, int] | None = None) -> None:
    """Raise `VideoError` for a picture that is not of the size that its annotations are for. size: of it; None: look."""
    height, width = size or picture_size(picture)
    if (height, width) != listed:
        raise VideoError(
            f"{picture} is {height}x{width}, but its annotations are for {listed[0]}x{listed[1]}: get the picture again"
        )


def _read_boxes(size: tuple[int, int], *, picture: Path, boxes: list[tuple[float, ...]], listed: tuple[int, int]) -> torch.Tensor:
    """float32 (1, O, 5) from corners in pixels; the protocol cuts them at the picture's sides, and drops those without area."""
    _check_size(picture, listed, size)
    labels = torch.tensor(boxes, dtype=torch.float64).view(1, len(boxes), 5)
    labels[..., :4] /= torch.tensor([size[1], size[0], size[1], size[0]])
    return labels.float()
