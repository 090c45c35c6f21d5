"""Data sets behind one contract: a name, a root folder, and `Example`s. A data set is one function and one line here."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from dvcc.datasets.base import DataSet, Example
from dvcc.datasets.camvid import camvid, camvid_sequence
from dvcc.datasets.cityscapes import cityscapes, cityscapes_sequence
from dvcc.datasets.coco import coco
from dvcc.datasets.corpus import corpus
from dvcc.datasets.folder import folder
from dvcc.datasets.imagenet import imagenet
from dvcc.datasets.middlebury import middlebury
from dvcc.errors import ConfigError

DATASETS = {
    "camvid": camvid,
    "camvid_sequence": camvid_sequence,
    "cityscapes": cityscapes,
    "cityscapes_sequence": cityscapes_sequence,
    "coco": coco,
    "corpus": corpus,
    "folder": folder,
    "imagenet": imagenet,
    "middlebury": middlebury,
}


def build_dataset(name: str, root: str | Path, **options: Any) -> DataSet:
    """Return the data set `name` whose files are at `root`; options: those of the function of that name.

    Raises `ConfigError` for an unknown name or option, and when files are not where the data set's official layout has them.
    """
    if name not in DATASETS:
        raise ConfigError(f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}")
    build = DATASETS[name]
    accepted = [option for option in inspect.signature(build).parameters if option != "root"]
    for option in options:
        if option not in accepted:
            raise ConfigError(f"the data set {name} has no option {option}: it has {', '.join(accepted) or 'none'}")
    return build(Path(root), **options)


__all__ = ["DATASETS", "DataSet", "Example", "build_dataset"]
