"""Where coded video goes, with the other streams of its source as they are: a file that appears whole or not at all, or a stream
that can be played from wherever it was cut."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.stream import Disposition

from dvcc.errors import ConfigError, DvccError
from dvcc.media.source import OtherPacket, VideoSource

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""FFmpeg's muxer by the suffix of a file."""

_IN_TS = ("aac", "aac_latm", "mp2", "mp3", "mp3float", "ac3", "eac3", "dca", "opus", "dvbsub", "dvb_teletext")
_OWN_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration")  # of the old container


def check_output(path: Path, source: Path, *, suffixes: Collection[str] = tuple(CONTAINERS)) -> None:
    """Raise `ConfigError` for a name without a known suffix, or that of the source; `DvccError` where none can be written."""
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{path} does not say what to write: end it in one of {', '.join(suffixes)}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give the name of a file")
    if path.exists() and source.exists() and os.path.samefile(path, source):
        raise ConfigError(f"{path} is the input itself: write to another file")
    if not path.parent.is_dir():
        raise DvccError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise DvccError(f"cannot write {path}: {path.parent} is read-only; write elsewhere")


class Output(AbstractBase):
    """What is being written; a context manager.

    fragmented: an mp4 in pieces. `container` is open for the encoder, which adds the first stream; then `begin` adds the other
    streams of the source, and says which cannot be carried. `mux` takes the encoder's packets, `copy` the source's.
    """

    fragmented = False

    def __init__(self, path: Path, source: VideoSource) -> None:
        self.path, self.source = path, source
        self._copied: dict[int, Any] = {}  # by stream of the source
        self._shift: dict[int, int] = {}

    @abstractmethod
    def _open(self) -> av.container.OutputContainer: ...

    def __enter__(self) -> Self:
        try:
            self.container = self._open()
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error
        return self

    def begin(self, original: av.container.InputContainer) -> list[str]:
        """Carry over tags, chapters and streams of `original`, the opened source. Returns what is left out, one sentence each."""
        container, video = self.container, self.container.streams.video[0]
        container.metadata.update({k: v for k, v in original.metadata.items() if k.lower() not in _OWN_TAGS})
        source = original.streams[self.source.index]
        video.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in _OWN_TAGS})
        muxer = container.format.name
        carried, notes = fate_of_streams(original, self.source, muxer, self.path.suffix, fragmented=self.fragmented)
        if self.source.rotation and muxer != "mpegts":
            video.set_display_rotation(self.source.rotation)
        with contextlib.suppress(av.FFmpegError, ValueError):  # MPEG-TS has none
            container.set_chapters(original.chapters())
        for stream in carried:
            copied = container.add_stream_from_template(stream)
            copied.metadata.update(stream.metadata)
            copied.disposition = stream.disposition
            self._copied[stream.index] = copied
            self._shift[stream.index] = round(Fraction(original.start_time or 0, av.time_base) / (stream.time_base or 1))
        video.disposition = source.disposition
        return notes

    def mux(self, packet: av.Packet) -> None:
        """Write a packet of the encoder."""
        try:
            self.container.mux_one(packet)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def copy(self, other: OtherPacket) -> None:
        """Write a packet of another stream of the source, which may be closed by now, if that stream is carried."""
        packet, copied = other.packet, self._copied.get(other.index)
        if copied is None or packet.dts is None:  # the end of a stream
            return
        shift = self._shift[other.index]
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts -= shift
        packet.stream = copied
        self.mux(packet)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        whole = False
        try:
            self.container.close()
            whole = error is None
        except (av.FFmpegError, OSError) as failure:
            if error is None:
                raise self._failed(failure) from failure
        finally:
            self._finish(whole=whole)

    @abstractmethod
    def _finish(self, *, whole: bool) -> None:
        """Once it is closed, or cannot be; whole: nothing went wrong."""

    def _failed(self, error: Exception) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error  # whoever read it has enough: no error of ours
        reason = getattr(error, "strerror", None) or error
        return DvccError(f"cannot write {self.path}: {reason}; free some space, or write elsewhere")


class WholeFile(Output):
    """A file that takes its name with `publish`, once the block has ended well; until then, and for good with `discard` or an
    error, there is nothing of that name. Several of one name do not meet."""

    _numbers = itertools.count()

    def __init__(self, path: Path, source: VideoSource) -> None:
        super().__init__(path, source)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(self._numbers)}.part")

    def publish(self) -> None:
        """Give the file its name, in place of what had it."""
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Remove it, unless it is published."""
        self._temporary.unlink(missing_ok=True)

    def _open(self) -> av.container.OutputContainer:
        return av.open(str(self._temporary), "w", format=CONTAINERS[self.path.suffix.lower()])

    def _finish(self, *, whole: bool) -> None:
        if not whole:
            self.discard()


class LiveStream(Output):
    """A stream that can be played while it is written, and up to wherever it ends: MPEG-TS (.ts, or "-" for stdout), or mp4 in
    fragments of one GOP."""

    fragmented = True

    def _open(self) -> av.container.OutputContainer:
        if str(self.path) == "-":
            return av.open("pipe:1", "w", format="mpegts", options={"flush_packets": "1"})
        form, options = CONTAINERS[self.path.suffix.lower()], {"flush_packets": "1"}
        if form == "mp4":
            options["movflags"] = "frag_keyframe+empty_moov+default_base_moof"
        return av.open(str(self.path), "w", format=form, options=options)

    def _finish(self, *, whole: bool) -> None:
        """What was written can be played."""


def fate_of_streams(
    original: av.container.InputContainer, source: VideoSource, muxer: str, suffix: str, *, fragmented: bool = False
) -> tuple[list[Any], list[str]]:
    """The streams of the opened source that go along with the coded one, and what is left out, one sentence each."""
    carried, notes = [], []
    if source.rotation and muxer == "mpegts":
        notes.append(f"the rotation by {source.rotation} degrees cannot be stored in MPEG-TS: players will not turn it")
    lost = ["tags"] * any(tag.lower() not in _OWN_TAGS for tag in original.metadata) + ["chapters"] * bool(original.chapters())
    if lost and muxer == "mpegts":
        notes.append(f"{' and '.join(lost)} cannot be stored in MPEG-TS and are left out")
    for stream in original.streams:
        name = stream.codec_context.name if getattr(stream, "codec_context", None) else "unknown"
        if stream.type in ("audio", "subtitle"):
            adts = name == "aac" and not stream.codec_context.extradata  # which only a whole mp4 is unpacked for
            if fragmented and muxer == "mp4" and adts:
                notes.append("audio (aac as in MPEG-TS) cannot be stored in mp4 while it is written, and is left out: write .ts")
            elif _carries(muxer, stream):
                carried.append(stream)
            else:
                advice = "" if fragmented or muxer == "matroska" else ": .mkv takes most"
                notes.append(f"{stream.type} ({name}) cannot be stored in {suffix or 'MPEG-TS'} and is left out{advice}")
        elif stream.type != "video" and not (stream.type == "data" and original.chapters()):  # where an mp4 keeps them
            notes.append(f"stream {stream.index} ({stream.type}) is left out")
        elif stream.type == "video" and stream.disposition & Disposition.attached_pic:
            notes.append("the cover picture is left out")
    return carried, notes


def _carries(muxer: str, stream: Any) -> bool:
    """Whether the muxer takes such packets: it says so when it writes its header, and FFmpeg's lists do not. MPEG-TS takes
    anything, and what it has no name for nobody can read again."""
    name = stream.codec_context.name if stream.codec_context else "unknown"
    if muxer == "mpegts":
        return name in _IN_TS
    if muxer == "mp4" and name.startswith("pcm_"):
        return False  # it takes the header, and then no packet of more than one channel
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True
