"""One side of a folder of videos whose table says what belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dvcc.datasets.base import DataSet, Example, existing, printable
from dvcc.datasets.folder import read_video, starts_of
from dvcc.datasets.table import choose
from dvcc.errors import ConfigError

_LAYOUT = "videos and one table ROOT/*.tsv of them with the columns file, split and group"


def corpus(
    root: Path,
    *,
    frames: int = 8,
    stride: int = 3,
    per_video: int | None = None,
    split: str = "val",
    kinds: Sequence[str] = (),
) -> DataSet:
    """Clips of the videos of one side, as `folder` cuts them; a group is the table's. kinds: of scenes; () takes all.

    Raises `ConfigError` for a side or a kind that is none, when the table is missing or wrong, or when nothing is on that side.
    """
    if not list(existing(root, layout=_LAYOUT).glob("*.tsv")):
        raise ConfigError(f"{root} has no table; expected: {_LAYOUT}")
    examples = []
    for row in choose(root, split, kinds=kinds):
        for start in starts_of(row.path, frames=frames, stride=stride, per_video=per_video):
            read = partial(read_video, path=row.path, frames=frames, start=start, stride=stride)
            name = printable(row.path.relative_to(root))
            examples.append(Example(f"{name} from frame {start}", row.group, read, row.path, (row.path,)))
    return DataSet("corpus", tuple(examples))
