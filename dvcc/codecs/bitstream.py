"""Reading H.264 back: QPs of every macroblock, frame types, bits per frame, x264's settings text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

from dvcc.errors import VideoError
from dvcc.media.container import open_container
from dvcc.media.probe import ASSUMED_FPS
from dvcc.media.streams import main_video
from dvcc.media.timestamps import Timeline
from dvcc.qp import MAX_QP, QPMap
from dvcc.units import MACROBLOCK, macroblock_grid

_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_SETTINGS = re.compile(rb"x264 - core|x265 \(build")


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
    """Read back a coded H.264 file or bytes that fits into memory; for one of any length take `CodedStream`.

    Raises `VideoError` if it is missing, damaged or not H.264 (only that decoder exports its QPs here).
    """
    maps: list[np.ndarray] = []
    types: list[str] = []
    bits: list[int] = []
    first_frame: np.ndarray = np.empty(0)
    stream = CodedStream(source)
    for frame in stream:
        if not maps:
            first_frame = frame.picture.to_ndarray(format="rgb24")
        maps.append(frame.qp)
        types.append(frame.type)
        bits.append(frame.bits)
    if stream.lost:
        raise VideoError(f"{stream.name} is damaged ({stream.lost} frames are lost): check that the file is complete")
    return StreamReport(QPMap(np.stack(maps)), tuple(types), np.array(bits, np.int64), stream.fps, stream.settings, first_frame)


@dataclass(frozen=True, repr=False)
class CodedFrame:
    """A decoded frame and what its bitstream says of it.

    qp: int32 (h, w), QP of every macroblock as coded. type: "I", "P" or "B". bits: as in `StreamReport`. key: decoding can start
    here; idr: and no later frame looks behind it. seconds: when it is shown, None in a raw stream. damaged: the decoder had to
    make up a part of it.
    """

    picture: av.VideoFrame
    qp: np.ndarray
    type: str
    bits: int
    key: bool
    idr: bool
    seconds: float | None
    damaged: bool

    @property
    def placed_qp(self) -> np.ndarray:
        """Return the QPs (h, w) by place: as `qp`, but for the two fields of an interlaced frame.

        There a pair of rows of macroblocks may be the two fields of the same 32 lines, so both get the mean of the pair.
        """
        if not self.picture.interlaced_frame:
            return self.qp
        pairs = self.qp[: len(self.qp) // 2 * 2].reshape(-1, 2, self.qp.shape[1]).mean(1).round().astype(self.qp.dtype)
        return np.concatenate([np.repeat(pairs, 2, axis=0), self.qp[len(pairs) * 2 :]])


class CodedStream:
    """The frames of an H.264 file or bytes, in display order, one at a time: iterate once.

    Known at once: `name`, `fps`, `fps_assumed` (a raw stream that does not say it is taken for 25), `height`, `width` in pixels,
    `expected` (frames by the container, 0 if it does not say), `profile`, `container`. Known after the last frame: `settings`
    (x264's text), `lost` (frames that were left out: not decoded, without QPs, or of another size than the first), `corrections`
    (of time stamps).

    Raises `VideoError` if the file is missing, unreadable or not 8-bit H.264, and at the end of the iteration if no frame could
    be decoded.
    """

    def __init__(self, source: bytes | str | Path) -> None:
        self.name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
        if not isinstance(source, bytes) and not Path(source).is_file():
            raise VideoError(f"{self.name} {'is a folder' if Path(source).is_dir() else 'does not exist'}: give an H.264 file")
        self._file = open_container(source if isinstance(source, bytes) else Path(source))
        try:
            self._stream = self._checked()
        except BaseException:
            self._file.close()
            raise
        context = self._stream.codec_context
        context.thread_count = 1
        context.options = {**context.options, "export_side_data": "venc_params"}
        context.copy_opaque = True  # a frame carries what is said of its packet: raw .h264 has no times to sort by
        self._timeline = Timeline(self._file, self._stream.index)
        rate, _ = self._timeline.rate(self._stream)
        self.fps, self.fps_assumed = rate or ASSUMED_FPS, rate is None
        self.corrections = self._timeline.corrections
        self.height, self.width = context.height, context.width
        self.expected = max(0, self._stream.frames)
        self.profile, self.container = context.profile or "unknown", self._file.format.name
        self.settings: str | None = None
        self.lost = 0

    def _checked(self) -> av.VideoStream:
        stream = main_video(self._file)
        if stream is None:
            lacking = "no video stream" if not self._file.streams.video else "video of an unknown codec only"
            raise VideoError(f"{self.name} has {lacking}: give an H.264 file")
        name = stream.codec_context.name
        if name != "h264":
            raise VideoError(f"{self.name} is {name}, and QPs can be read from H.264 only")
        return stream

    def __iter__(self) -> Iterator[CodedFrame]:
        begun = False
        error: av.FFmpegError | None = None
        with self._file:
            for frame, packet_facts in self._decoded():
                if isinstance(frame, av.FFmpegError):
                    error = frame
                    continue
                depth = frame.format.components[0].bits
                if depth != 8:
                    raise VideoError(f"{self.name} is {frame.format.name}, and QPs are read from 8-bit video only")
                qp = _exported_qp(frame)
                if qp is None or (begun and (frame.height, frame.width) != (self.height, self.width)):
                    self.lost += 1
                    continue
                bits, idr = packet_facts or (0, False)
                if not begun:
                    begun, self.height, self.width = True, frame.height, frame.width
                    bits += 8 * _parameter_set_bytes(self._stream.codec_context.extradata or b"")
                kind = PictureType(frame.pict_type).name
                yield CodedFrame(frame, qp, kind, bits, bool(frame.key_frame), idr, frame.time, frame.is_corrupt)
        if not begun:
            if error is not None:
                raise self._unreadable(error) from error
            lacking = "exports no QPs: use av>=18 with its own FFmpeg" if self.lost else "holds no frame"
            raise VideoError(f"{self.name} {lacking}")

    def _decoded(self) -> Iterator[tuple[av.VideoFrame | av.FFmpegError, tuple[int, bool] | None]]:
        """Frames with (bits, is IDR) of their packets; what a packet could not be decoded for. Damage in the middle is no end."""
        context = self._stream.codec_context
        length_bytes = _length_bytes(context.extradata or b"")
        packets = (packet for packet in self._timeline if packet.stream.index == self._stream.index)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self.lost += 1
                yield error, None
                return
            if packet.size:
                data = bytes(packet)
                text, text_bytes = split_settings(data, length_bytes=length_bytes)
                self.settings = self.settings or text
                packet.opaque = 8 * (packet.size - text_bytes), _is_idr(data, length_bytes)
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self.lost += 1
                yield error, None
                continue
            for frame in frames:
                yield frame, frame.opaque  # type: ignore[misc]  # what we put there

    def _unreadable(self, error: av.FFmpegError) -> VideoError:
        return VideoError(f"{self.name} cannot be decoded ({error.strerror}): check that the file is complete")


_BLOCK = np.dtype([(name, "<i4") for name in ("x", "y", "width", "height", "delta_qp")])  # FFmpeg's AVVideoBlockParams


def qp_of(frame: av.VideoFrame) -> np.ndarray:
    """QPs (h, w) of a frame whose decoder was told to export them. Raises `VideoError` if it did not."""
    qp = _exported_qp(frame)
    if qp is None:
        raise VideoError("the decoder exported no QPs: use av>=18 with its own FFmpeg")
    return qp


def _exported_qp(frame: av.VideoFrame) -> np.ndarray | None:
    """int32 (h, w), one per macroblock of the picture; None if the decoder says nothing.

    PyAV's own `qp_map` refuses pictures of which a whole row of macroblocks is cropped, as in interlaced video, where their
    number is even.
    """
    side_data: Any = frame.side_data.get("VIDEO_ENC_PARAMS")  # the stub of `side_data` does not know it
    if side_data is None or side_data.nb_blocks == 0:
        return None
    buffer = np.frombuffer(side_data, np.uint8, side_data.nb_blocks * side_data.block_size, side_data.blocks_offset)
    blocks = buffer.reshape(side_data.nb_blocks, side_data.block_size)[:, : _BLOCK.itemsize].copy().view(_BLOCK)[:, 0]
    rows, columns = macroblock_grid(frame.height, frame.width)
    coded_columns = int(blocks["x"].max()) // MACROBLOCK + 1
    qp = blocks["delta_qp"].reshape(-1, coded_columns)[:rows, :columns] + side_data.qp
    return np.clip(qp, 0, MAX_QP) if qp.shape == (rows, columns) else None


def _length_bytes(extradata: bytes) -> int:
    """Bytes of the length before every unit of a packet; 0 for Annex B, whose units begin with a start code."""
    return (extradata[4] & 3) + 1 if extradata[:1] == b"\x01" and len(extradata) > 4 else 0


def _units(packet: bytes, length_bytes: int) -> Iterator[tuple[int, int, int]]:
    """(begin, first byte, end) of every unit of a packet; it begins with its start code or length."""
    if not length_bytes:
        codes = list(_START_CODE.finditer(packet))
        ends = [code.start() for code in codes[1:]] + [len(packet)]
        yield from ((code.start(), code.end(), end) for code, end in zip(codes, ends, strict=False))
        return
    begin = 0
    while begin + length_bytes < len(packet):
        first = begin + length_bytes
        end = min(len(packet), first + int.from_bytes(packet[begin:first], "big"))
        yield begin, first, end
        begin = end


def _is_idr(packet: bytes, length_bytes: int) -> bool:
    """Whether a packet holds a slice of an IDR picture (unit type 5)."""
    return any(first < end and packet[first] & 0x1F == 5 for _, first, end in _units(packet, length_bytes))


def _parameter_set_bytes(extradata: bytes) -> int:
    """Bytes of the parameter sets that an mp4 keeps apart from its packets, each with a start code as the encoder writes it.

    0 for a stream that carries them in its packets (Annex B, whose first byte is 0; here it is a version, 1).
    """
    if extradata[:1] != b"\x01":
        return 0
    total, place = 0, 5
    for counted in (0x1F, 0xFF):  # bits of the count of sequence parameter sets, then of picture parameter sets
        count, place = int.from_bytes(extradata[place : place + 1], "big") & counted, place + 1
        for _ in range(count):
            size = int.from_bytes(extradata[place : place + 2], "big")
            total, place = total + 4 + size, place + 2 + size
    return total


def split_settings(packet: bytes, *, length_bytes: int = 0) -> tuple[str | None, int]:
    """Return the settings text of x264 or x265 in a packet, and the bytes of the SEI unit that carries it: (None, 0) without one.

    length_bytes: of the length before every unit, as in an mp4; 0 for Annex B start codes, as from the encoder.
    """
    mark = _SETTINGS.search(packet)
    for begin, first, end in _units(packet, length_bytes) if mark else ():
        if mark and first <= mark.start() < end:
            return packet[mark.start() : end].rstrip(b"\x00\x80").decode("ascii", "replace"), end - begin
    return None, 0
