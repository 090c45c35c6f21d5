"""A folder of videos with a table beside them: which side of a fixed split each is on, and which belong together."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dvcc.errors import ConfigError

SPLITS = ("train", "val", "test")
_COLUMNS = ("file", "split", "group")


@dataclass(frozen=True)
class Listed:
    """A row of the table.

    group: footage that belongs together: a group is wholly on one side, and intervals resample groups. kind: of scene, "" where
    the table has no column `type`.
    """

    path: Path
    split: str
    group: str
    kind: str


def read_table(root: Path) -> list[Listed]:
    """Return the videos of the one table `*.tsv` in the folder `root`; the files are beside it.

    The table has the columns file, split (train, val or test) and group, with or without type.

    Raises `ConfigError` when there is no such table, a file is missing, or a group is on two sides.
    """
    tables = sorted(root.glob("*.tsv"))
    if len(tables) != 1:
        raise ConfigError(f"{root} must hold one table *.tsv of its videos, and holds {len(tables)}: data=folder needs none")
    with tables[0].open(newline="", encoding="utf-8") as text:
        reader = csv.DictReader(text, delimiter="\t")
        rows = list(reader)
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"{tables[0]} lacks the columns {', '.join(missing)}: it needs {', '.join(_COLUMNS)}")
    listed = [Listed(root / Path(row["file"]).name, row["split"], row["group"], row.get("type") or "") for row in rows]
    _check(tables[0], listed)
    return listed


def on_side(listed: Sequence[Listed], split: str) -> list[Listed]:
    """Those of one side."""
    return [row for row in listed if row.split == split]


def of_kinds(listed: Sequence[Listed], kinds: Sequence[str]) -> list[Listed]:
    """Those of some kinds of scenes, all if none is named. Raises `ConfigError` for a kind that none of them is of."""
    all_kinds = sorted({row.kind for row in listed})
    if unknown := set(kinds) - set(all_kinds):
        raise ConfigError(f"data.kinds names {sorted(unknown)}, and the types of these videos are {all_kinds}")
    return [row for row in listed if not kinds or row.kind in kinds]


def fold_of(listed: Sequence[Listed], folds: int) -> dict[str, int]:
    """Group to fold, 0 to `folds` - 1, of about as many groups each, by the hash of their names."""
    groups = sorted({row.group for row in listed}, key=lambda group: hashlib.sha256(group.encode()).digest())
    return {group: place % folds for place, group in enumerate(groups)}


def choose(root: Path, split: str, *, kinds: Sequence[str] = (), folds: int = 1, fold: int = 0) -> list[Listed]:
    """Return the rows of one side of the table at `root`.

    kinds: of scenes; empty: all. folds, fold: of the training side, the groups of this fold alone. Raises `ConfigError` for a
    side, a fold or a kind that it has not.
    """
    if split not in SPLITS:
        raise ConfigError(f"data.split is {', '.join(SPLITS)}, got {split!r}")
    rows = on_side(read_table(root), split)
    if folds > 1:
        if split != "train":
            raise ConfigError(f"data.folds are of the training side: set data.split=train, got {split!r}")
        fold_by_group = fold_of(rows, folds)
        rows = [row for row in rows if fold_by_group[row.group] == fold]
    chosen = of_kinds(rows, kinds)
    if not chosen:
        raise ConfigError(f"{root} has no video of the split {split!r}: choose another data.split")
    return chosen


def _check(table: Path, listed: Sequence[Listed]) -> None:
    side_of: dict[str, str] = {}
    for row in listed:
        if row.split not in SPLITS:
            raise ConfigError(f"{table} has the split {row.split!r} for {row.path.name}: it is {', '.join(SPLITS)}")
        if side_of.setdefault(row.group, row.split) != row.split:
            raise ConfigError(f"{table} has the group {row.group!r} on two sides, {side_of[row.group]} and {row.split}")
        if not row.path.is_file():
            raise ConfigError(f"{table} names {row.path.name}, which is not beside it")
