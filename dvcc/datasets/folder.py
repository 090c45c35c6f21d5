"""Any pictures and videos of one's own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dvcc.clip import Clip
from dvcc.datasets.base import DataSet, Example, existing, is_picture, printable, read_pictures
from dvcc.datasets.clips import clip_starts
from dvcc.errors import ConfigError, VideoError
from dvcc.media.clips import read_clip
from dvcc.media.folders import VIDEO_SUFFIXES
from dvcc.media.pictures import PICTURE_SUFFIXES, picture_size
from dvcc.media.protocols import Protocol, fit_frames
from dvcc.rgb_clip import RGBClip

_LAYOUT = f"pictures ({', '.join(sorted(PICTURE_SUFFIXES))}) or videos ({', '.join(sorted(VIDEO_SUFFIXES))}) at any depth"


def folder(root: Path, *, frames: int = 8, stride: int = 3, per_video: int | None = None, shots: bool = False) -> DataSet:
    """Every picture as a clip of one frame, and every video as clips of `frames` frames, every `stride`-th, that do not overlap.

    root: a folder, or one file. per_video: at most so many clips of a video, or of each of its shots, evenly over it (None: all).
    shots: look for cuts (every video is decoded once for that), so that no clip goes across one. A video that cannot be read,
    or is too short, is one example that says so when it is loaded.

    Raises `ConfigError` when there is neither a picture nor a video, or for a number below 1.
    """
    for name, value in (("frames", frames), ("stride", stride), ("per_video", per_video)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    existing(root, layout=_LAYOUT)
    base, paths = (root.parent, [root]) if root.is_file() else (root, sorted(root.rglob("*")))
    examples = []
    for path in paths:
        inside = path.relative_to(base)
        if any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        name = printable(inside)
        if is_picture(path):
            read = partial(read_pictures, pictures=[path])
            examples.append(Example(name, name, read, path.parent, (path,), partial(picture_size, path)))
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            for start in starts_of(path, frames=frames, stride=stride, per_video=per_video, shots=shots):
                part = partial(read_video, path=path, frames=frames, start=start, stride=stride)
                examples.append(Example(f"{name} from frame {start}", name, part, path, (path,)))
    if not examples:
        raise ConfigError(f"{root} has nothing to code; expected: {_LAYOUT}")
    return DataSet("folder", tuple(examples))


def starts_of(path: Path, *, frames: int, stride: int, per_video: int | None, shots: bool = False) -> list[int]:
    """Return where the clips of a video begin; [0] for one that cannot be read or is too short."""
    try:
        return [first for first, _, _ in clip_starts(path, frames=frames, stride=stride, per_video=per_video, shots=shots)]
    except VideoError:  # raised again where the example is loaded, and may be skipped
        return [0]


def read_video(protocol: Protocol, *, path: Path, frames: int, start: int, stride: int) -> tuple[Clip | RGBClip, None]:
    """Read what `Example.load_any` returns of a video without labels."""
    clip = read_clip(path, frames=frames, start=start, stride=stride)
    size = (clip.height, clip.width)
    if protocol.rgb:
        return RGBClip(fit_frames(clip.frames, protocol), clip.fps), None
    window = protocol.window(*protocol.scaled(*size))
    if protocol.scaled(*size) == size and window.top % 2 == window.left % 2 == 0:  # the stored planes, without a detour by RGB
        return clip.crop(top=window.top, left=window.left, height=window.height, width=window.width), None
    return Clip.from_rgb(fit_frames(clip.frames, protocol), clip.fps, matrix=clip.matrix), None
