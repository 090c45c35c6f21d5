"""Looking at a video before it is read: which stream, what it is like, what of it cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av

from dvcc.clip import SWSCALE_MATRIX, Matrix, frame_to_planar
from dvcc.errors import ConfigError, VideoError
from dvcc.media.format import VideoFormat
from dvcc.media.source import MEND_FILE, Damage, Others, VideoSource, decoded, nothing_in, opened, refuse_interlaced
from dvcc.media.streams import main_video, video_streams

_FPS = Fraction(25)  # of a file that says nothing, as a raw bitstream
_LEAST_SIDE = 16
_UNTAGGED = 2  # FFmpeg's number for a colour property that nobody has said anything about
_HDR = (16, 18)  # FFmpeg's numbers of the transfer curves of SMPTE ST 2084 (PQ) and ARIB STD-B67 (HLG)
_IS_420 = ("yuv420", "yuvj420", "nv12", "nv21", "p010", "yuva420", "gray")


def open_video(path: str | Path, *, stream: int | None = None) -> VideoSource:
    """Look at a file: its video stream (the `stream`-th of the file's streams; otherwise the default or the largest), decoded
    as far as its first frame.

    Raises `VideoError` when it is missing, unreadable, without video, interlaced or too small; `ConfigError` for a stream that
    is not a video stream.
    """
    path = Path(path)
    with opened_file(path) as container:
        return probe(path, container, stream=stream)[0]


@contextmanager
def opened_file(path: Path) -> Iterator[av.container.InputContainer]:
    """`opened`, of what has to be a file."""
    if path.is_dir():
        raise VideoError(f"{path} is a folder: give a video file")
    if not path.exists():
        raise VideoError(f"{path} does not exist: give a video file")
    if not path.is_file():
        raise VideoError(f"{path} is no file, and can be read only once: write it to a file, or take dvcc encode --live")
    with opened(path) as container:
        yield container


def probe(
    path: str | Path,
    container: av.container.InputContainer,
    *,
    stream: int | None = None,
    damage: Damage | None = None,
    others: Others | None = None,
    ahead: bool = True,
    advice: str = MEND_FILE,
) -> tuple[VideoSource, Iterator[av.VideoFrame]]:
    """What `open_video` says of an open container, and its frames from the first on; ahead: see `decoded`; advice: `opened`."""
    chosen, notes = _chosen(path, container, stream)
    frames = decoded(container, chosen.index, damage or Damage(), others, ahead=ahead)
    first = next(frames, None)
    if first is None:
        raise nothing_in(path, advice)
    refuse_interlaced(path, first)
    if min(first.height, first.width) < _LEAST_SIDE:
        raise VideoError(f"{path} has pictures of {first.width}x{first.height}, and the least is {_LEAST_SIDE}x{_LEAST_SIDE}")
    picture, matrix = _picture(chosen, first)
    notes += _lost(first, picture)
    length = _length(container, chosen, picture.fps)
    source = VideoSource(Path(path), chosen.index, picture, matrix, length, first.rotation % 360, tuple(notes))
    return source, chain([first], frames)


def _chosen(path: str | Path, container: av.container.InputContainer, index: int | None) -> tuple[av.VideoStream, list[str]]:
    videos, chosen = video_streams(container), main_video(container)
    if chosen is None:
        lacking = "no video stream" if not container.streams.video else "no video that this FFmpeg can decode"
        raise VideoError(f"{path} has {lacking}: give a complete one with moving pictures")
    if index is not None:
        named = [stream for stream in videos if stream.index == index]
        if not named:
            raise ConfigError(f"stream {index} of {path} is no video stream: choose among {[s.index for s in videos]}")
        chosen = named[0]
    left = [str(stream.index) for stream in videos if stream is not chosen]
    notes = [f"video stream {', '.join(left)} is left out (stream {chosen.index} is coded)"] if left else []
    return chosen, notes


def _picture(stream: av.VideoStream, frame: av.VideoFrame) -> tuple[VideoFormat, Matrix]:
    _, matrix, full_range = frame_to_planar(frame, None)
    fps = next((rate for rate in (stream.average_rate, stream.guessed_rate) if rate and 0 < rate <= 1000), _FPS)
    time_base = stream.time_base or 1 / fps
    if time_base > 1 / fps:  # a clock too coarse for its frames
        time_base = 1 / fps
    said = {name: int(getattr(frame, f"color_{name}")) for name in ("primaries", "trc")}
    picture = VideoFormat(
        frame.height - frame.height % 2,
        frame.width - frame.width % 2,
        Fraction(fps).limit_denominator(100_000),
        Fraction(time_base),
        SWSCALE_MATRIX[matrix] if frame.format.is_rgb else int(frame.colorspace),
        full_range=full_range,
        primaries=said["primaries"] if said["primaries"] not in (0, _UNTAGGED) else None,
        transfer=said["trc"] if said["trc"] not in (0, _UNTAGGED) else None,
        pixel_aspect=stream.sample_aspect_ratio or None,
    )
    return picture, matrix


def _lost(frame: av.VideoFrame, picture: VideoFormat) -> list[str]:
    notes = []
    if (frame.height, frame.width) != (picture.height, picture.width):
        notes.append(f"4:2:0 needs even sides: {frame.width}x{frame.height} is cut to {picture.width}x{picture.height}")
    components = frame.format.components
    if (bits := max(component.bits for component in components)) > 8:
        notes.append(f"{bits} bits per sample become 8")
    if int(frame.color_trc) in _HDR:
        notes.append("HDR in 8 bits shows bands, and its mastering data are left out")
    if any(component.is_alpha for component in components):
        notes.append("transparency is left out")
    if not frame.format.name.startswith(_IS_420):
        notes.append(f"{frame.format.name} becomes 4:2:0")
    return notes


def _length(container: av.container.InputContainer, stream: av.VideoStream, fps: Fraction) -> int | None:
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base:
        return max(1, round(stream.duration * stream.time_base * fps))
    if container.duration is None:
        return None
    late = container.start_time or 0 if "matroska" in container.format.name else 0  # whose length counts from 0
    return max(1, round(Fraction(container.duration - late, av.time_base) * fps))
