"""What every data set is: examples that are read when they are asked for, and their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import torch

from dvcc.clip import Clip
from dvcc.datasets.clips import spread
from dvcc.errors import ConfigError, VideoError
from dvcc.media.pictures import PICTURE_SUFFIXES, read_rgb
from dvcc.media.protocols import AS_IT_IS, LabelledTask, Protocol, fit_frames, fit_labels
from dvcc.rgb_clip import RGBClip

STILL_FPS = Fraction(25)
"""The frame rate of clips of one frame. x264's CRF asks how long a frame is shown, and takes 25 fps as the ordinary case."""

ReadLabels = Callable[[tuple[int, int]], torch.Tensor]
"""From the size (H, W) of the pictures to their labels; raises `VideoError` when the two do not fit."""


@dataclass(frozen=True, eq=False)
class Example:
    """One clip of a data set. A still picture is a clip of one frame.

    name: unique in its data set, printable. group: what the clip shares with others that are not independent of it (the sequence,
    the video; a picture of its own is its own group): confidence intervals resample groups. read: from a protocol to what `load`
    returns. source: the file or folder, as `list_videos` would name it: what a network must not have been trained on. files: that
    are read, which may say how they were coded before. check: raises `VideoError` for a picture that is none and for labels that
    do not fit it, by the headers of the files.
    """

    name: str
    group: str
    read: Callable[[Protocol], tuple[Clip | RGBClip, torch.Tensor | None]]
    source: Path | None = None
    files: tuple[Path, ...] = ()
    check: Callable[[], object] | None = None

    def load(self, protocol: Protocol = AS_IT_IS) -> tuple[Clip, torch.Tensor | None]:
        """Return the clip after `protocol`, and its labels, or None where the data set has none.

        Labels: segmentation int64 (T, H, W), 255 is ignored; detection float32 (T, O, 5): left, top, right, bottom as shares
        0..1 of the sides, then the class number; classification int64 (T,); optical flow float32 (T - 1, 2, H, W) in pixels, x
        then y, NaN where it is not known.

        Raises `VideoError` that names it when a file cannot be read or does not fit its labels, and when the protocol's crop is
        larger than the picture.
        """
        clip, labels = self.load_any(protocol)
        assert isinstance(clip, Clip), f"{protocol} asks for RGB: take load_any"
        return clip, labels

    def load_any(self, protocol: Protocol) -> tuple[Clip | RGBClip, torch.Tensor | None]:
        """As `load`; an `RGBClip` where the protocol keeps RGB."""
        try:
            return self.read(protocol)
        except ConfigError as error:  # settings are right or wrong for all pictures: this one is too small
            raise VideoError(f"{self.name}: {error}") from error


@dataclass(frozen=True, eq=False, repr=False)
class DataSet:
    """Examples, in the order of their names on disk, and the task that they have ground truth for.

    task: None when there are no labels. num_classes: of the labels' class numbers. class_maps: for networks with other classes,
    by how many they have, the label's class of each of theirs (-1: none). Raises `ConfigError` when there are no examples or two
    share a name.
    """

    name: str
    examples: tuple[Example, ...]
    task: LabelledTask | None = None
    num_classes: int | None = None
    class_maps: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.examples:
            raise ConfigError(f"the data set {self.name} has no examples")
        seen: set[str] = set()
        for example in self.examples:
            if example.name in seen:
                raise ConfigError(f"the data set {self.name} has two examples called {example.name}: rename one file")
            seen.add(example.name)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def __repr__(self) -> str:
        return f"DataSet({self.name}, examples={len(self)}, task={self.task}, num_classes={self.num_classes})"

    def check(self) -> None:
        """Raise the `VideoError` of the first example whose files do not fit each other, by their headers."""
        for example in self:
            if example.check is not None:
                example.check()

    def spread(self, count: int) -> DataSet:
        """At most `count` of the examples, evenly over the whole."""
        return replace(self, examples=tuple(spread(list(self.examples), count)))


def read_pictures(
    protocol: Protocol,
    *,
    pictures: Sequence[Path],
    read_labels: ReadLabels | None = None,
    task: LabelledTask | None = None,
    fps: Fraction = STILL_FPS,
) -> tuple[Clip | RGBClip, torch.Tensor | None]:
    """Return a clip of one frame per picture. The protocol sees the stored RGB, so that colour is brought to 4:2:0 once."""
    stored = [read_rgb(picture) for picture in pictures]
    for picture, frame in zip(pictures, stored, strict=True):
        if frame.shape != stored[0].shape:
            height, width = stored[0].shape[1:]
            raise VideoError(f"{picture} is {frame.shape[1]}x{frame.shape[2]}, but {pictures[0]} before it is {height}x{width}")
    frames = torch.stack(stored)
    size = (frames.shape[2], frames.shape[3])
    fitted = fit_frames(frames, protocol)
    clip = RGBClip(fitted, fps) if protocol.rgb else Clip.from_rgb(fitted, fps)
    if read_labels is None or task is None:
        return clip, None
    labels = fit_labels(read_labels(size), protocol, task=task, size=size)
    return clip, labels.float() if task in ("detection", "optical_flow") else labels.long()


def printable(path: Path) -> str:
    """Return a path as a name: with / between folders, and escapes for what no terminal shows."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in path.as_posix())


def existing(path: Path, *, layout: str) -> Path:
    """`path`, or a `ConfigError` that says what was expected where."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist; expected: {layout}")
    return path


def list_pictures(folder: Path, pattern: str, *, layout: str) -> list[Path]:
    """Return the pictures below `folder` by a glob pattern, sorted. Raises `ConfigError` when there are none, or no folder."""
    pictures = [path for path in existing(folder, layout=layout).glob(pattern) if is_picture(path)]
    if not pictures:
        raise ConfigError(f"{folder} has no pictures named {pattern}; expected: {layout}")
    return sorted(pictures)


def is_picture(path: Path) -> bool:
    """By its name; hidden files are none: archives made on a Mac have one beside every picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
