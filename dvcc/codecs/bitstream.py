"""Reading H.264 back: frames, QPs of every macroblock, frame types, bits per frame, x264's settings text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.frame import PictureType

from dvcc.clip import Clip, frames_to_clip
from dvcc.errors import CodecError, VideoError
from dvcc.qp import MAX_QP, QPMap

if TYPE_CHECKING:
    import torch

_START_CODE = rb"\x00\x00\x00?\x01"


def decode(bitstream: bytes) -> Clip:
    """All frames of an mp4 in memory. Raises `CodecError` if it is damaged."""
    try:
        with av.open(io.BytesIO(bitstream), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames = list(container.decode(stream))
            fps = Fraction(stream.average_rate)  # type: ignore[arg-type]  # None, for none, is the TypeError below
    except (av.FFmpegError, IndexError, TypeError) as error:
        raise CodecError(f"the bitstream ({len(bitstream)} bytes) cannot be decoded ({error}): encode the clip again") from error
    if not frames:
        raise CodecError(f"the bitstream ({len(bitstream)} bytes) holds no frame: encode the clip again")
    return frames_to_clip(frames, fps)


def decode_rgb(bitstream: bytes) -> torch.Tensor:
    """RGB frames of an mp4 in memory, uint8 (T, 3, H, W)."""
    return decode(bitstream).frames


@dataclass(frozen=True, repr=False)
class StreamReport:
    """What an H.264 file says of itself, in display order.

    realised_qp: QP of every macroblock as coded. frame_types: "I", "P" or "B" per frame. bits_per_frame: int64
    (T,), packets as stored and in the first frame the parameter sets, x264's settings text excluded, as in
    `EncodedClip`. first_frame: the first picture.
    """

    realised_qp: QPMap
    frame_types: tuple[str, ...]
    bits_per_frame: np.ndarray
    fps: Fraction
    settings: str | None
    first_frame: np.ndarray

    def __repr__(self) -> str:
        return f"StreamReport({self.realised_qp!r}, types={''.join(self.frame_types)}, bits={int(self.bits_per_frame.sum())})"


def inspect_bitstream(source: bytes | str | Path) -> StreamReport:
    """Read back a coded H.264 file or bytes.

    Raises `VideoError` if it is missing, unreadable or not H.264 (only that decoder exports its QPs here).
    """
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise VideoError(f"{name} {'is a folder' if Path(source).is_dir() else 'does not exist'}: give an H.264 file")
    maps: list[np.ndarray] = []
    types: list[str] = []
    bits: list[int] = []
    settings: str | None = None
    first_frame: np.ndarray = np.empty(0)
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else name, "r") as container:
            if not container.streams.video:
                raise VideoError(f"{name} has no video stream: give an H.264 file")
            stream = container.streams.video[0]
            context = stream.codec_context
            if context.name != "h264":
                raise VideoError(f"{name} is {context.name}, and QPs can be read from H.264 only")
            context.thread_count = 1
            context.options = {"export_side_data": "venc_params"}
            context.copy_opaque = True  # a frame carries the bits of its packet: raw .h264 has no times to sort by
            fps = Fraction(stream.average_rate or 25)
            for packet in container.demux(stream):
                if packet.size:
                    text, text_bytes = split_settings(bytes(packet))
                    settings = settings or text
                    packet.opaque = 8 * (packet.size - text_bytes)
                for frame in packet.decode():
                    if frame.format.components[0].bits != 8:
                        raise VideoError(f"{name} is {frame.format.name}, and QPs are read from 8-bit video only")
                    if not maps:
                        first_frame = frame.to_ndarray(format="rgb24")
                    maps.append(qp_of(frame))
                    types.append(PictureType(frame.pict_type).name)
                    bits.append(frame.opaque or 0)  # type: ignore[arg-type]  # what we put there
            header_bits = 8 * _parameter_set_bytes(context.extradata or b"")
    except av.FFmpegError as error:
        raise VideoError(f"{name} cannot be decoded ({error.strerror}): check that the file is complete") from error
    if not maps:
        raise VideoError(f"{name} holds no frame")
    bits[0] += header_bits
    return StreamReport(QPMap(np.stack(maps)), tuple(types), np.array(bits, np.int64), fps, settings, first_frame)


def realised_qps(path: str | Path) -> Iterator[np.ndarray]:
    """QPs (h, w) of every frame of an H.264 file, in display order, one at a time."""
    with av.open(str(path), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"export_side_data": "venc_params"}
        yield from map(qp_of, container.decode(stream))


def qp_of(frame: av.VideoFrame) -> np.ndarray:
    """QPs (h, w) of a frame whose decoder was told to export them. Raises `VideoError` if it did not."""
    side_data: Any = frame.side_data.get("VIDEO_ENC_PARAMS")  # the stub of `side_data` does not know it
    if side_data is None:
        raise VideoError("the decoder exported no QPs: use av>=18 with its own FFmpeg")
    return np.clip(side_data.qp_map(), 0, MAX_QP)


def _parameter_set_bytes(extradata: bytes) -> int:
    """Bytes of the parameter sets that an mp4 keeps apart from its packets, each with a start code as the encoder writes it.

    0 for a stream that carries them in its packets (Annex B, whose first byte is 0; here it is a version, 1).
    """
    if extradata[:1] != b"\x01":
        return 0
    total, place = 0, 5
    for counted in (0x1F, 0xFF):  # bits of the count of sequence parameter sets, then of picture parameter sets
        count, place = extradata[place] & counted, place + 1
        for _ in range(count):
            size = int.from_bytes(extradata[place : place + 2], "big")
            total, place = total + 4 + size, place + 2 + size
    return total


def split_settings(packet: bytes) -> tuple[str | None, int]:
    """x264's settings text in a packet, and the bytes of the SEI unit that carries it: (None, 0) without one.

    The unit may follow an Annex B start code (from the encoder) or a 4-byte length (from an mp4).
    """
    mark = packet.find(b"x264 - core")
    if mark < 0:
        return None, 0
    starts = [match.start() for match in re.finditer(_START_CODE, packet)]
    if starts and packet[:4].lstrip(b"\x00")[:1] == b"\x01":
        begin = max(start for start in starts if start < mark)
        end = min((start for start in starts if start > mark), default=len(packet))
    else:
        begin = 0
        while (end := begin + 4 + int.from_bytes(packet[begin : begin + 4], "big")) < mark:
            begin = end
    text = packet[mark:end].rstrip(b"\x00\x80").decode("ascii", "replace")
    return text, end - begin
