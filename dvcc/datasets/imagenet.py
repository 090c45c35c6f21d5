"""ImageNet's validation pictures, one folder per class as torchvision reads them, or one folder with a table of classes."""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path

import torch

from dvcc.datasets.base import DataSet, Example, existing, list_pictures, printable, read_pictures
from dvcc.errors import ConfigError
from dvcc.media.pictures import picture_size

NUM_CLASSES = 1000
_LAYOUT = (
    "ROOT/val/n01440764/*.JPEG, one folder per class (or ROOT/images/* and ROOT/labels.tsv with the columns file, class_index)"
)
_WNID = re.compile(r"n\d{8}")


def imagenet(root: Path) -> DataSet:
    """Every picture below `val`, its class the place of its folder among the 1000 of ImageNet-1k, sorted.

    Where only some of the 1000 are there, their numbers stay what networks mean by them. Folders with other names are a data
    set of one's own: its classes are numbered in the order of their names. Where `labels.tsv` lists the pictures of `images`,
    its numbers count, 0 to 999.

    Raises `ConfigError` when a piece is missing, or the table names no picture or no class.
    """
    if (root / "labels.tsv").exists():
        return _listed(root)
    folder = root / "val"
    pictures = list_pictures(folder, "*/*", layout=_LAYOUT)
    numbers, num_classes = class_numbers(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    examples = []
    for picture in pictures:
        name = printable(picture.relative_to(folder))
        labels = partial(_read_class, number=numbers[picture.parent.name])
        read = partial(read_pictures, pictures=[picture], read_labels=labels, task="classification")
        examples.append(Example(name, name, read, picture.parent, (picture,), partial(picture_size, picture)))
    return DataSet("imagenet", tuple(examples), "classification", num_classes)


def _listed(root: Path) -> DataSet:
    """Of a table of pictures."""
    table, folder = root / "labels.tsv", existing(root / "images", layout=_LAYOUT)
    examples = []
    with table.open(newline="", encoding="utf-8") as text:
        reader = csv.DictReader(text, delimiter="\t")
        if not {"file", "class_index"} <= set(reader.fieldnames or ()):
            raise ConfigError(f"{table} lacks the columns file, class_index: it has {', '.join(reader.fieldnames or ['none'])}")
        for row in sorted(reader, key=lambda entry: entry["file"]):
            picture, number = folder / row["file"], row["class_index"]
            if not picture.is_file():
                raise ConfigError(f"{table} names {row['file']}, which is not in {folder}: get the picture again")
            if not (number.isdigit() and int(number) < NUM_CLASSES):
                raise ConfigError(f"{table} gives {row['file']} the class {number!r}: classes are 0 to {NUM_CLASSES - 1}")
            labels = partial(_read_class, number=int(number))
            read = partial(read_pictures, pictures=[picture], read_labels=labels, task="classification")
            name = printable(Path(row["file"]))
            examples.append(Example(name, name, read, folder, (picture,), partial(picture_size, picture)))
    return DataSet("imagenet", tuple(examples), "classification", NUM_CLASSES)


def _read_class(size: tuple[int, int], *, number: int) -> torch.Tensor:
    """(1,): of a picture of any size."""
    return torch.tensor([number])


def class_numbers(folders: list[str]) -> tuple[dict[str, int], int]:
    """Return the number of every folder's class, and the number of classes."""
    in_order = {name: i for i, name in enumerate(folders)}
    if len(folders) == NUM_CLASSES or not all(_WNID.fullmatch(name) for name in folders):
        return in_order, len(folders)
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise ConfigError(
            f"ROOT/val has {len(folders)} of ImageNet's {NUM_CLASSES} classes, and their numbers come from timm: pip install timm"
        ) from error
    number_by_name = {name: i for i, name in enumerate(ImageNetInfo().label_names())}
    if not number_by_name.keys() >= in_order.keys():
        return in_order, len(folders)
    return {name: number_by_name[name] for name in folders}, NUM_CLASSES
