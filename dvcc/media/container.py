"""Open containers for reading: the one place that does."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

from dvcc.errors import VideoError

MEND_FILE = "check that the file is complete"
"""What to do about one that cannot be read."""


_ALIGNED = 2**16  # pixels


@dataclass
class Limits:
    """What a video may be that this process reads: pixels of a picture, seconds; None: whatever FFmpeg takes."""

    max_pixels: int | None = None
    max_seconds: float | None = None

    def check_seconds(self, seconds: float, name: str | Path) -> None:
        """Raise `VideoError` for a video that lasts longer, as it says or as it turns out."""
        if self.max_seconds is not None and seconds > self.max_seconds:
            raise VideoError(
                f"{name} lasts {seconds:.0f} s or longer, and --max-seconds is {self.max_seconds:g}: give a shorter one"
            )

    def check_size(self, width: int, height: int, name: str | Path) -> None:
        """Raise `VideoError` for a picture of more pixels."""
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise VideoError(
                f"{name} has pictures of {width}x{height}, and --max-pixels is {self.max_pixels}: scale it down before"
            )

    def check(self, container: av.container.InputContainer, name: str | Path) -> None:
        """Raise `VideoError` for what a container says of itself, and keep its decoders from far larger pictures."""
        if container.duration is not None:
            self.check_seconds(container.duration / av.time_base, name)
        for context in (stream.codec_context for stream in container.streams.video if stream.codec_context):
            self.check_size(context.width, context.height, name)
            context.options = {**context.options, **self.options()}

    def options(self) -> dict[str, str]:
        """FFmpeg's options of a decoder, which counts pixels that it only adds to align rows."""
        return {} if self.max_pixels is None else {"max_pixels": str(2 * self.max_pixels + _ALIGNED)}


LIMITS = Limits()
"""Those of this process."""


def file_url(path: str | Path) -> str:
    """Return what FFmpeg opens for the file at `path`, whatever its name.

    Without the protocol, "cam1:front.mp4" is protocol "cam1".
    """
    return f"file:{path}"


def open_container(
    source: str | Path | bytes,
    *,
    form: str | None = None,
    options: dict[str, str] | None = None,
    name: str | None = None,
    advice: str = MEND_FILE,
) -> av.container.InputContainer:
    """Return FFmpeg's reader of `source`, which the caller closes.

    source: the path of a file, the bytes of one, or, where no such file exists and it is a string, whatever else FFmpeg opens in
    that form.

    Raises `VideoError` when it cannot be read, which calls it `name` and ends in `advice`.
    """
    where: str | io.BytesIO
    if isinstance(source, bytes):
        where, name = io.BytesIO(source), name or f"{len(source)} bytes"
    else:
        where, name = file_url(source) if isinstance(source, Path) or os.path.isfile(source) else source, name or str(source)
    try:
        container = av.open(where, "r", format=form, options={**(options or {}), **LIMITS.options()}, metadata_errors="replace")
    except (av.FFmpegError, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{name} cannot be read as video ({reason}): {advice}") from error
    try:
        LIMITS.check(container, name)
    except VideoError:
        container.close()
        raise
    return container


@contextmanager
def opened_file(path: Path) -> Iterator[av.container.InputContainer]:
    """`open_container` for what has to be a file. Raises `VideoError` where it is none."""
    if path.is_dir():
        raise VideoError(f"{path} is a folder: give a video file")
    if not path.exists():
        raise VideoError(f"{path} does not exist: give a video file")
    if not path.is_file():
        raise VideoError(f"{path} is no file, and can be read only once: write it to a file, or take dvcc encode --live")
    with open_container(path) as container:
        yield container
