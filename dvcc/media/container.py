"""Open containers for reading: the one place that does."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from dvcc.errors import VideoError

MEND_FILE = "check that the file is complete"
"""What to do about one that cannot be read."""


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
        return av.open(where, "r", format=form, options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{name} cannot be read as video ({reason}): {advice}") from error


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
