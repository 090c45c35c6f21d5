"""Looking at a video before it is read: which stream, what it is like, what of it cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av

from dvcc.clip import SWSCALE_MATRIX, Matrix, frame_to_planar, orientation
from dvcc.errors import ConfigError, VideoError
from dvcc.media.container import MEND_FILE, opened_file
from dvcc.media.damage import Damage
from dvcc.media.decode import Others, decoded
from dvcc.media.format import SourceFrame, VideoFormat
from dvcc.media.source import VideoSource, nothing_in, refuse_interlaced
from dvcc.media.streams import main_video, video_streams
from dvcc.media.timestamps import Timeline

ASSUMED_FPS = Fraction(25)
"""The rate of a stream that says nothing about it, as a raw bitstream."""

_LEAST_SIDE = 16
_MOST_LONGER = 10  # times the frames that the size of a file lets expect
_LISTS = ("hls", "dash", "concat")  # of other files, whose size says nothing
_UNTAGGED = 2  # FFmpeg's number for a colour property that nobody has said anything about
_HDR = (16, 18)  # FFmpeg's numbers of the transfer curves of SMPTE ST 2084 (PQ) and ARIB STD-B67 (HLG)
_IS_420 = ("yuv420", "yuvj420", "nv12", "nv21", "p010", "yuva420", "gray")


def open_video(path: str | Path, *, stream: int | None = None, fps: Fraction | None = None) -> VideoSource:
    """Look at a file: its video stream, decoded as far as its first frame.

    stream: the number of the stream among the file's; otherwise the default or the largest. fps: its rate, where the file says
    none or a wrong one; its time stamps are not looked at then.

    Raises `VideoError` when it is missing, unreadable, without video, interlaced or too small; `ConfigError` for a stream that
    is not a video stream.
    """
    path = Path(path)
    with opened_file(path) as container:
        return probe(path, container, stream=stream, fps=fps).source


@dataclass
class Probed:
    """What `open_video` says of an open container; its frames from the first on, and the timeline that they come from."""

    source: VideoSource
    frames: Iterator[av.VideoFrame]
    timeline: Timeline

    def read(self, container: av.container.InputContainer, damage: Damage) -> Iterator[SourceFrame]:
        """All frames: see `VideoSource.read`."""
        return self.source.read(container, self.timeline, self.frames, damage)


def probe(
    path: str | Path,
    container: av.container.InputContainer,
    *,
    stream: int | None = None,
    fps: Fraction | None = None,
    damage: Damage | None = None,
    others: Others | None = None,
    ahead: bool = True,
    clock: bool = False,
    advice: str = MEND_FILE,
) -> Probed:
    """Look at an open container; ahead: see `decoded`; clock: `Timeline`; advice: `open_container`; the rest: `open_video`.

    Raises `ConfigError` for a clock of pictures that come out of order.
    """
    damage = damage or Damage()
    chosen, notes = _chosen(path, container, stream)
    if clock and chosen.codec_context.has_b_frames:
        raise ConfigError(f"{path} has B frames, which do not arrive in order: say its rate with --fps instead of --clock")
    timeline = Timeline(container, chosen.index, damage.corrections, quick=not ahead, clock=clock)
    frames = decoded(timeline, chosen, damage, others, ahead=ahead)
    first = next(frames, None)
    if first is None:
        raise nothing_in(path, advice)
    refuse_interlaced(path, first)
    if min(first.height, first.width) < _LEAST_SIDE:
        raise VideoError(f"{path} has pictures of {first.width}x{first.height}, and the least is {_LEAST_SIDE}x{_LEAST_SIDE}")
    by_number = timeline.untimed or fps is not None
    rate, rate_notes = (fps, []) if fps is not None else frame_rate(timeline, chosen)
    if clock:
        rate_notes = [f"the time of a picture is when it arrives, at about {float(rate):.3g} fps"]
    picture, matrix = _picture(chosen, first, rate, by_number=by_number)
    notes += rate_notes + _lost(chosen, first, picture)
    length = _length(container, chosen, picture.fps, timeline)
    rotation, mirrored = orientation(first)
    more = {"by_number": by_number, "mirrored": mirrored}
    source = VideoSource(Path(path), chosen.index, picture, matrix, length, rotation, tuple(notes), **more)
    return Probed(source, chain([first], frames), timeline)


def frame_rate(timeline: Timeline, stream: av.VideoStream) -> tuple[Fraction, list[str]]:
    """Return the rate of `stream`, and a note where it is assumed or other than the file says."""
    rate, measured = timeline.rate(stream)
    if rate is None:
        how = "it has no time stamps" if timeline.untimed else "too few time stamps"
        return ASSUMED_FPS, [f"its rate is not known ({how}): taken as {ASSUMED_FPS} fps; say the real one with --fps"]
    if measured:
        declared = stream.average_rate or stream.guessed_rate or rate
        return rate, [f"the file says {float(declared):.5g} fps, and its time stamps {float(rate):.5g}: that is what is taken"]
    return rate, []


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


def _picture(stream: av.VideoStream, frame: av.VideoFrame, fps: Fraction, *, by_number: bool) -> tuple[VideoFormat, Matrix]:
    _, matrix, full_range = frame_to_planar(frame, None)
    time_base = stream.time_base or 1 / fps
    if by_number or time_base > 1 / fps:  # or a clock too coarse for its frames
        time_base = 1 / fps
    colours = {name: int(getattr(frame, f"color_{name}")) for name in ("primaries", "trc")}
    picture = VideoFormat(
        frame.height - frame.height % 2,
        frame.width - frame.width % 2,
        Fraction(fps).limit_denominator(100_000),
        Fraction(time_base),
        SWSCALE_MATRIX[matrix] if frame.format.is_rgb else int(frame.colorspace),
        full_range=full_range,
        primaries=colours["primaries"] if colours["primaries"] not in (0, _UNTAGGED) else None,
        transfer=colours["trc"] if colours["trc"] not in (0, _UNTAGGED) else None,
        pixel_aspect=stream.sample_aspect_ratio or None,
    )
    return picture, matrix


def _lost(stream: av.VideoStream, frame: av.VideoFrame, picture: VideoFormat) -> list[str]:
    notes = []
    if (frame.height, frame.width) != (picture.height, picture.width):
        notes.append(f"4:2:0 needs even sides: {frame.width}x{frame.height} is cut to {picture.width}x{picture.height}")
    components = frame.format.components
    if (bits := max(component.bits for component in components)) > 8:
        notes.append(f"{bits} bits per sample become 8")
    if int(frame.color_trc) in _HDR:
        notes.append("HDR in 8 bits shows bands, and its mastering data are left out")
    if any(component.is_alpha for component in components) or stream.metadata.get("alpha_mode") == "1":  # of WebM, beside it
        notes.append("transparency is left out")
    if not frame.format.name.startswith(_IS_420):
        notes.append(f"{frame.format.name} becomes 4:2:0")
    return notes


def _length(container: av.container.InputContainer, stream: av.VideoStream, fps: Fraction, timeline: Timeline) -> int | None:
    """About how many frames: as the container counts them, or by its duration unless a broken clock made that too long."""
    if stream.frames and container.format.name != "avi":  # written into a pipe, it says any number
        return stream.frames
    frames = stream.frames or _by_duration(container, stream, fps)
    bytes_of_frame = 0 if container.format.name in _LISTS else timeline.mean_bytes
    if frames and container.size > 0 and bytes_of_frame and frames > _MOST_LONGER * container.size / bytes_of_frame:
        return max(1, round(container.size / bytes_of_frame))
    return frames


def _by_duration(container: av.container.InputContainer, stream: av.VideoStream, fps: Fraction) -> int | None:
    if stream.duration and stream.time_base:
        return max(1, round(stream.duration * stream.time_base * fps))
    if container.duration is None:
        return None
    late = container.start_time or 0 if "matroska" in container.format.name else 0  # whose length counts from 0
    return max(1, round(Fraction(container.duration - late, av.time_base) * fps))
