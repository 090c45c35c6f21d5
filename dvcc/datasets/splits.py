"""Which videos are trained on, and which are held out: always whole videos."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dvcc.datasets.clips import list_videos
from dvcc.datasets.table import fold_of, of_kinds, on_side, read_table
from dvcc.errors import ConfigError


def split_videos(root: str | Path, *, test: Sequence[str], exclude: Sequence[str] = ()) -> tuple[list[Path], list[Path]]:
    """(training videos, test videos) below `root`: those whose file name is in `test` are never trained on.

    Without `test`, every fifth video (at least one) is held out, by the hash of its name. Raises `ConfigError` when a
    name matches nothing or no video is left to test on; for the other side see `training_videos`.
    """
    all_videos = list_videos(root)
    videos = [video for video in all_videos if video.name not in exclude]
    _check_names("data.exclude", exclude, all_videos, root)
    if not videos:
        raise ConfigError(f"data.exclude={list(exclude)} leaves no video of {root}: exclude fewer, or add videos to data.root")
    if not test:
        ranked = sorted(videos, key=lambda video: hashlib.sha256(video.name.encode()).digest())
        test = [video.name for video in ranked[: max(1, len(videos) // 5)]]
    _check_names("data.test", test, videos, root)
    return [video for video in videos if video.name not in test], [video for video in videos if video.name in test]


def split_data(
    name: str, root: str | Path, *, test: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[Path], list[Path]]:
    """Return the training videos and the test videos of a data set.

    For "folder" they are those of `split_videos`. Cityscapes has its official split, a corpus that of its table (its videos of
    `val` and `test` are for testing), and `camvid_sequence` is all for testing. Raises `ConfigError` for `test` where the split
    is official.
    """
    if name == "folder":
        return split_videos(root, test=test, exclude=exclude)
    if test or exclude:
        raise ConfigError(f"data={name} has its own split: leave out data.test and data.exclude, got {[*test, *exclude]}")
    if name == "corpus":
        listed = read_table(Path(root))
        return [row.path for row in listed if row.split == "train"], [row.path for row in listed if row.split != "train"]
    if name == "cityscapes_sequence":
        sides = [Path(root) / "leftImg8bit_sequence" / side for side in ("train", "val")]
        train, val = (list_videos(side) if side.exists() else [] for side in sides)
        return train, val
    return [], []


def _check_names(key: str, names: Sequence[str], videos: Sequence[Path], root: str | Path) -> None:
    missing = set(names) - {video.name for video in videos}
    if missing:
        raise ConfigError(f"{key} names {sorted(missing)}, which is not below {root}: there are {[v.name for v in videos]}")


def training_videos(
    root: str | Path,
    *,
    test: Sequence[str] = (),
    exclude: Sequence[str] = (),
    name: str = "folder",
    fold: int = 0,
    folds: int = 1,
    kinds: Sequence[str] = (),
) -> list[Path]:
    """Return the training side of `split_data`.

    Of a corpus it is the scenes of `kinds` (all if none is named), less its groups of `fold` if there are several. Raises
    `ConfigError` when nothing is left to train on.
    """
    videos, held_out = split_data(name, root, test=test, exclude=exclude)
    if (folds > 1 or kinds) and name != "corpus":
        raise ConfigError(f"data.folds and data.kinds are of data=corpus, whose table has groups and types, got data={name}")
    if name == "corpus":
        listed = on_side(read_table(Path(root)), "train")
        place = fold_of(listed, folds)
        videos = [row.path for row in of_kinds(listed, kinds) if folds == 1 or place[row.group] != fold]
    if not videos and name == "cityscapes_sequence":
        raise ConfigError(f"{root}/leftImg8bit_sequence/train is not there, and the other splits are for testing: add it")
    if not videos and name != "folder":
        raise ConfigError(f"data={name} has no videos to train on: train with data=folder, corpus or cityscapes_sequence")
    if not videos:
        raise ConfigError(f"{root} holds only {[v.name for v in held_out]}, all held out for testing: add videos to data.root")
    return videos
