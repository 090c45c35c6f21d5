"""Which of a file's streams it is about, the same for everything that reads it."""

from __future__ import annotations

import av
from av.stream import Disposition


def video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """All video streams that can be decoded; no cover art."""
    pictures = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    return [stream for stream in pictures if stream.codec_context is not None]


def main_video(container: av.container.InputContainer) -> av.VideoStream | None:
    """Return the default one of them, or the largest, and of equals one that moves: AVIF has a still beside it. None for none."""

    def rank(stream: av.VideoStream) -> tuple[bool, int, bool]:
        return bool(stream.disposition & Disposition.default), stream.width * stream.height, stream.frames != 1

    return max(video_streams(container), key=rank, default=None)
