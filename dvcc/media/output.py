"""Where coded video goes, with the other streams of its source as they are.

It is a file that appears whole or not at all, or a stream that can be played from wherever it was cut.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from dvcc._files import failing_temporary
from dvcc.errors import ConfigError, DvccError
from dvcc.media.container import file_url
from dvcc.media.copied import OWN_TAGS, StreamCopy, is_of_the_disk, plan_stream_copy
from dvcc.media.corrections import Corrections
from dvcc.media.decode import OtherPacket
from dvcc.media.source import VideoSource

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""FFmpeg's muxer by the suffix of a file."""

_FRAGMENTED = "frag_keyframe+delay_moov+default_base_moof"  # delayed: ADTS says what it is with its first packet


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
    if path.exists() and not path.is_file():  # a pipe or a device
        return
    trial = WholeFile.temporary(path)
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        advice = "give a shorter name" if error.errno == errno.ENAMETOOLONG else "write elsewhere"
        raise DvccError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def check_room(folder: Path, num_bytes: float, *, what: str, advice: str) -> None:
    """Raise `DvccError` unless `folder` has room for so many bytes, which are for `what`."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DvccError(
            f"{what} takes about {num_bytes / 1e6:.0f} MB in {folder}, where {free / 1e6:.0f} MB are free: free some, or {advice}"
        )


@contextlib.contextmanager
def temporary_container(path: Path) -> Iterator[av.container.OutputContainer]:
    """Yield a Matroska file in a temporary folder, to write to. Raises `DvccError` where the system refuses that."""
    with failing_temporary(), av.open(file_url(path), "w", format="matroska") as container:
        yield container


class Output(AbstractBase):
    """What is being written; a context manager.

    fragmented: an mp4 in pieces. `container` is open for the encoder, which adds the first stream; then `begin` adds the other
    streams of the source, and says which cannot be carried. `mux` takes the encoder's packets, `copy` the source's.

    corrections: of the reader that the packets come from, which knows the gaps that the encoder does not see.
    """

    fragmented = False

    def __init__(self, path: Path, source: VideoSource, corrections: Corrections) -> None:
        self.path, self.source = path, source
        self._corrections = corrections
        self._copy = StreamCopy(corrections)

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
        container.metadata.update({k: v for k, v in original.metadata.items() if k.lower() not in OWN_TAGS})
        source = original.streams[self.source.index]
        video.metadata.update({k: v for k, v in source.metadata.items() if k.lower() not in OWN_TAGS})
        muxer = container.format.name
        carried, notes = plan_stream_copy(original, self.source, muxer, self.path.suffix, fragmented=self.fragmented)
        if (self.source.rotation or self.source.mirrored) and muxer != "mpegts":
            video.set_display_rotation(self.source.rotation, hflip=self.source.mirrored)
        with contextlib.suppress(av.FFmpegError, ValueError):  # MPEG-TS has none
            container.set_chapters(original.chapters())
        for stream in carried:
            self._copy.add(container, stream)
        video.disposition = source.disposition
        return notes

    def mux(self, packet: av.Packet) -> None:
        """Write a packet of the encoder, at the time at which it is shown."""
        if self._corrections.gaps:
            ticks = packet.time_base / self.source.picture.time_base  # of the encoder's clock
            for name in ("pts", "dts"):
                stamp = getattr(packet, name)
                setattr(packet, name, round(self._corrections.with_gaps(round(stamp * ticks)) / ticks))
        try:
            self.container.mux_one(packet)
        except (av.FFmpegError, OSError) as error:
            if is_of_the_disk(error) or not self._copy.refused_later():
                raise self._failed(error) from error

    def copy(self, other: OtherPacket) -> None:
        """Write a packet of another stream of the source, if that stream is carried and the packet fits.

        The source may be closed by now. Nothing about the packet ends the video.
        """
        for packet in self._copy.fit(other):
            try:
                self.container.mux_one(packet)
                self._copy.taken()
            except (av.FFmpegError, OSError) as error:
                if is_of_the_disk(error):
                    raise self._failed(error) from error
                self._copy.leave_out(other)

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
        if is_of_the_disk(error):
            return DvccError(f"cannot write {self.path}: {reason}; free some space, or write elsewhere")
        return DvccError(f"cannot write {self.path}: {reason}; try another container, as .mkv")


class WholeFile(Output):
    """A file that takes its name with `publish`, once the block has ended well.

    Until then, and for good with `discard` or an error, there is nothing of that name. Several of one name do not meet.
    """

    _numbers = itertools.count()

    def __init__(self, path: Path, source: VideoSource, corrections: Corrections) -> None:
        super().__init__(path, source, corrections)
        self._temporary = self.temporary(path)

    @classmethod
    def temporary(cls, path: Path) -> Path:
        """Return the name of what is going to be `path`, another one each time."""
        return path.with_name(f".{path.name}.{os.getpid()}.{next(cls._numbers)}.part")

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
        form = CONTAINERS[self.path.suffix.lower()]
        options = {"fflags": "+bitexact"} if form == "matroska" else {}  # else it numbers segment and tracks at random
        return av.open(file_url(self._temporary), "w", format=form, options=options)

    def _finish(self, *, whole: bool) -> None:
        if not whole:
            self.discard()


class LiveStream(Output):
    """A stream that can be played while it is written, and up to wherever it ends.

    It is MPEG-TS (.ts, or "-" for stdout), or mp4 in fragments of one GOP.
    """

    fragmented = True

    def _open(self) -> av.container.OutputContainer:
        if str(self.path) == "-":
            return av.open("pipe:1", "w", format="mpegts", options={"flush_packets": "1"})
        form, options = CONTAINERS[self.path.suffix.lower()], {"flush_packets": "1"}
        if form == "mp4":
            options["movflags"] = _FRAGMENTED
        return av.open(file_url(self.path), "w", format=form, options=options)

    def _finish(self, *, whole: bool) -> None:
        """Finish the file, so that what was written can be played."""
