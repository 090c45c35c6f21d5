"""Frames of a coded clip in memory."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.reformatter import ColorRange

from dvcc.clip import MATRIX_OF_TAG, Clip, frame_to_rgb, frames_to_clip
from dvcc.errors import CodecError, VideoError
from dvcc.media.container import open_container

if TYPE_CHECKING:
    import torch


def decode(bitstream: bytes) -> Clip:
    """All 4:2:0 frames of an mp4 in memory. Raises `CodecError` if it is damaged."""
    return frames_to_clip(*_decoded_frames(bitstream))


def decode_rgb(bitstream: bytes, codec: str) -> torch.Tensor:
    """RGB frames of an mp4 in memory, uint8 (T, 3, H, W); of 4:4:4, too. codec: as in `EncodedClip`; libjpeg decodes "mjpeg".

    Raises `CodecError` if it is damaged.
    """
    return _jpeg_rgb(bitstream) if codec == "mjpeg" else _video_rgb(bitstream)


def _video_rgb(bitstream: bytes) -> torch.Tensor:
    import torch

    frames, fps = _decoded_frames(bitstream)
    if frames[0].format.name == "yuv420p":
        return frames_to_clip(frames, fps).frames
    full = frames[0].color_range == ColorRange.JPEG
    matrix = MATRIX_OF_TAG.get(int(frames[0].colorspace), "bt601")
    pictures = np.stack([frame_to_rgb(frame, matrix=matrix, full_range=full) for frame in frames])
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())


def _jpeg_rgb(bitstream: bytes) -> torch.Tensor:
    import torch
    from PIL import Image, UnidentifiedImageError

    try:
        with open_container(bitstream) as container:
            packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        frames = [np.asarray(Image.open(io.BytesIO(packet)).convert("RGB")) for packet in packets]
    except (av.FFmpegError, VideoError, UnidentifiedImageError, OSError) as error:
        raise _damaged(bitstream, error) from error
    return torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2).copy())


def _decoded_frames(bitstream: bytes) -> tuple[list[av.VideoFrame], Fraction]:
    try:
        with open_container(bitstream) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames = list(container.decode(stream))
            fps = Fraction(stream.average_rate)  # type: ignore[arg-type]  # None, for none, is the TypeError below
    except (av.FFmpegError, VideoError, IndexError, TypeError) as error:
        raise _damaged(bitstream, error) from error
    if not frames:
        raise CodecError(f"the bitstream ({len(bitstream)} bytes) holds no frame: encode the clip again")
    return frames, fps


def _damaged(bitstream: bytes, error: Exception) -> CodecError:
    return CodecError(f"the bitstream ({len(bitstream)} bytes) cannot be decoded ({error}): encode the clip again")
