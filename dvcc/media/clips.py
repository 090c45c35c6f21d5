"""Clips from video files and folders of images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av

from dvcc.clip import Clip, convert_frames
from dvcc.errors import ConfigError, VideoError
from dvcc.media.container import MEND_FILE, open_container
from dvcc.media.damage import Damage
from dvcc.media.decode import decoded as decode
from dvcc.media.folders import image_sequence, is_cityscapes
from dvcc.media.probe import frame_rate
from dvcc.media.streams import main_video
from dvcc.media.timestamps import Timeline


def read_clip(
    path: str | Path,
    *,
    frames: int | None = None,
    start: int = 0,
    stride: int = 1,
    size: tuple[int, int] | None = None,
    fps: Fraction | None = None,
) -> Clip:
    """Read `frames` frames (all if None) of a video file or frame folder, from `start`, every `stride`-th.

    path: a video that FFmpeg opens; a folder of images, in the order of their names (the numbers in them count
    as numbers); or one Cityscapes image (`frankfurt_000000_000294_leftImg8bit.png`), from which its sequence is
    followed. size: (H, W) to scale to; odd sizes lose their last row or column. fps: for image folders, whose
    rate is not stored (25 if None, Cityscapes 17). The clip's fps is the source's divided by `stride`.

    Raises `VideoError` when the path is missing, unreadable, without video, or too short; `ConfigError` for a
    wrong number.
    """
    source_fps, decoded = _frames(Path(path), frames=frames, start=start, stride=stride, size=size)
    with _named(Path(path)):
        clip = convert_frames(decoded, (fps or source_fps) / stride, size)
    if frames is not None and clip.num_frames < frames:
        raise VideoError(
            f"{path} has only {clip.num_frames} of the {frames} frames asked for from {start} in steps of {stride}: "
            f"ask for fewer, or check that the file is not truncated"
        )
    return clip


def read_parts(path: str | Path, *, part: int, frames: int, start: int = 0) -> Iterator[Clip]:
    """Yield the clip that `read_clip` returns in parts of `part` frames, the last one of what is left.

    A long one need not fit into memory. Where the video has fewer than `frames` the parts end with it. Raises as `read_clip`
    does, and `VideoError` for frames of another size than the first.
    """
    fps, decoded = _frames(Path(path), frames=frames, start=start, stride=1, size=None)
    first: Clip | None = None
    while True:
        with _named(Path(path)):
            some = list(itertools.islice(decoded, part))
            if not some:
                return
            clip = convert_frames(iter(some), fps)
            first = first or clip.slice(0, 1)
            if clip.y.shape[1:] != first.y.shape[1:]:
                raise VideoError(f"the frames have different sizes: {first.y.shape[1:]} and {clip.y.shape[1:]}")
        yield clip


def _frames(
    path: Path, *, frames: int | None, start: int, stride: int, size: tuple[int, int] | None
) -> tuple[Fraction, Iterator[av.VideoFrame]]:
    """Return the source's frame rate, and the frames that are asked for, not converted."""
    for name, value, low in (("frames", frames, 1), ("start", start, 0), ("stride", stride, 1)):
        if value is not None and value < low:
            raise ConfigError(f"{name} must be at least {low}, got {value}")
    if size is not None and (min(size) < 16 or size[0] % 2 or size[1] % 2):
        raise ConfigError(f"size must be (height, width), even and at least 16, got {tuple(size)}")
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    stop = None if frames is None else start + (frames - 1) * stride + 1
    with _named(path):
        if path.is_dir() or is_cityscapes(path):
            images, folder_fps = image_sequence(path)
            return folder_fps, itertools.chain.from_iterable(_decode(image)[1] for image in images[start:stop:stride])
        source_fps, all_frames = _decode(path)
        return source_fps, itertools.islice(all_frames, start, stop, stride)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of reading as `VideoError`s that name the file."""
    try:
        yield
    except ConfigError as error:
        raise VideoError(f"{path}: {error}") from error
    except VideoError as error:
        raise error if str(path) in str(error) else VideoError(f"{path}: {error}") from error
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path} cannot be read as video ({reason}): check that the file is complete") from error


def _decode(path: Path) -> tuple[Fraction, Iterator[av.VideoFrame]]:
    """Frame rate and frames of the first video stream. Raises `VideoError` where a part of it cannot be decoded."""
    container = open_container(path)
    stream = main_video(container)
    if stream is None:
        container.close()
        raise VideoError(f"{path} has no video stream: give a file with pictures")
    timeline, damage = Timeline(container, stream.index), Damage()

    def frames() -> Iterator[av.VideoFrame]:
        with container:
            yield from decode(timeline, stream, damage, None)
        if damage.packets or damage.stopped:
            raise VideoError(f"{path} is damaged ({damage}): check that the file is complete")

    return frame_rate(timeline, stream)[0], frames()


def count_frames(path: Path) -> int:
    """Frames that a reader gets of a video file: counted by the container, or by its packets where it does not say.

    Raises `VideoError` when it cannot be read.
    """
    with open_container(path) as container:
        stream = main_video(container)
        if stream is None:
            raise VideoError(f"{path} has no video stream: give a file with pictures")
        try:
            return stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
        except av.FFmpegError as error:
            raise VideoError(f"{path} cannot be read as video ({error.strerror}): {MEND_FILE}") from error


def decode_video(path: Path) -> Iterator[av.VideoFrame]:
    """Every frame of a video file, as it is stored. Raises `VideoError` when it cannot be read or is damaged."""
    return _decode(path)[1]
