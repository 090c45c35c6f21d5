"""Whether a file ends where its format says so, and what of it FFmpeg does not get to.

Most containers mark their end, or say how long their last piece is. FFmpeg does not get to the last of three files that were put
behind one another.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import av

from dvcc.errors import VideoError
from dvcc.media.packets import packet_of

_PIECE, _MOST_PIECES = 1 << 20, 64  # bytes, and how many of these are read to see whether a disk gives them
_TAIL = 1 << 17  # bytes: longer than the last piece of any container that is looked at from its end
_TS_PACKETS = (188, 192, 204)  # bytes: as broadcast, as Blu-ray discs have it, with error correction
_TS_SYNC = 0x47
_BOXES = b"moof mdat moov ftyp styp sidx free skip wide mfra uuid emsg prft meta".split()
_LEAST_UNREAD, _MOST_UNREAD = 2000, 0.01  # bytes, share of the file
_EBML = b"\x1a\x45\xdf\xa3"  # begins a Matroska file
_NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"
_START, _HAS_LENGTHS = b"\0\0\1", b"\1"  # what begins a unit; what begins the parameter sets where units have lengths instead
_BEFORE_PICTURE = {"h264": (6, 7, 8, 9, 14, 15), "hevc": (32, 33, 34, 35, 39)}
"""Types of units that stand in front of a picture: parameter sets, delimiters, messages."""
_AFTER = 256  # bytes put behind a picture
_ASF_HEADER, _ASF_DATA, _ASF_IDS = 30, 16, 24  # bytes: header object, identifier, identifier and size


def is_truncated(path: Path, form: str, picture_bytes: float) -> bool:
    """Whether the file at `path`, in FFmpeg's format `form`, ends before it says that it does.

    False where its format has no such mark, as a raw stream, or where that cannot be made out. picture_bytes: of a packet of the
    video, which all have one size in a format of uncompressed pictures.
    """
    looks_at = partial(_y4m, picture_bytes=picture_bytes) if form == "yuv4mpegpipe" else _ENDINGS.get(form)
    if looks_at is None:
        return False
    try:
        with opened_to_look(path) as file:
            return looks_at(file, os.fstat(file.fileno()).st_size)
    except (FileNotFoundError, struct.error):
        return False


@contextmanager
def opened_to_look(path: Path) -> Iterator[BinaryIO]:
    """Yield an opened file; what the system refuses of it is a `VideoError`: a disk that fails is no damage of the file."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VideoError(f"{path} cannot be read ({error.strerror or error}): check the disk or the network it is on") from error


def check_rest(path: Path, begin: int) -> None:
    """Raise `VideoError` where the bytes after `begin` cannot be read: FFmpeg ends in silence, or with an error of the format."""
    with opened_to_look(path) as file:
        file.seek(begin)
        for _ in range(_MOST_PIECES):
            if len(file.read(_PIECE)) < _PIECE:
                return


def unread_bytes(path: Path, form: str, read_to: int) -> int:
    """Return the bytes of the file at `path` behind the place `read_to`, where they are pictures and no index.

    FFmpeg ends at what it takes for the end.
    """
    with opened_to_look(path) as file:
        size = os.fstat(file.fileno()).st_size
    if form == "flv":
        return size - read_to if read_to and size - read_to > max(_LEAST_UNREAD, _MOST_UNREAD * size) else 0
    if form != "matroska,webm" or not read_to:
        return 0
    with opened_to_look(path) as file:
        file.seek(read_to)
        while piece := file.read(_TAIL):
            if (place := piece.find(_EBML)) >= 0:
                return size - file.tell() + len(piece) - place
            if len(piece) == _TAIL:
                file.seek(1 - len(_EBML), os.SEEK_CUR)
    return 0


def is_cut_picture(stream: Any, packet: av.Packet | None) -> bool:
    """Return whether an H.264 or HEVC stream without lengths of packets ends within a picture where no decoder tells.

    packet: the last one of the stream.

    It ends in what stands before a picture. Or a part of a picture of HEVC is decoded differently with different bytes behind it;
    a whole one says where it ends. FFmpeg tells the same of H.264.
    """
    name, parameters = stream.codec_context.name, stream.codec_context.extradata or b""
    data = b"" if packet is None else bytes(packet)
    if name not in _BEFORE_PICTURE or parameters.startswith(_HAS_LENGTHS) or _START not in data:
        return False
    last = data[data.rindex(_START) + len(_START) :]
    if last and (last[0] & 0x1F if name == "h264" else last[0] >> 1 & 0x3F) in _BEFORE_PICTURE[name]:
        return True
    return name == "hevc" and _decoded(parameters + data, b"\x55") != _decoded(parameters + data, b"\xaa")


def _decoded(data: bytes, after: bytes) -> list[bytes]:
    """Return the picture of a packet of HEVC with some bytes behind it; none where it is refused, which damage counts."""
    decoder = av.CodecContext.create("hevc", "r")
    decoder.thread_count, decoder.options = 1, {"flags": "+output_corrupt"}  # the pictures that it refers to are not there
    try:
        frames = [*decoder.decode(packet_of(data + _AFTER * after)), *decoder.decode(None)]
        return [bytes(plane) for frame in frames for plane in frame.planes]
    except av.FFmpegError:
        return []


def _tail(file: BinaryIO, size: int, length: int = _TAIL) -> bytes:
    file.seek(max(0, size - length))
    return file.read(length)


def _transport(file: BinaryIO, size: int) -> bool:
    """Find a part of a packet after whole ones."""
    tail = _tail(file, size, 8 * max(_TS_PACKETS))
    for length in _TS_PACKETS:
        for begin in range(length):
            syncs = tail[begin::length]
            if len(syncs) > 4 and set(syncs) == {_TS_SYNC}:
                after = 4 if length == 192 else 0  # its packets begin with a time stamp
                return (len(tail) - begin + after) % length != 0
    return False


def _ogg(file: BinaryIO, size: int) -> bool:
    """Look whether the last page says that it is the last of its stream, and is whole."""
    tail = _tail(file, size)
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return at >= 0
    lengths = tail[at + 27 : at + 27 + tail[at + 26]]
    return not tail[at + 5] & 4 or len(tail) < at + 27 + tail[at + 26] + sum(lengths)


def _gif(file: BinaryIO, size: int) -> bool:
    return not _tail(file, size, 64).rstrip(b"\0\r\n").endswith(b";")


def _motion_jpeg(file: BinaryIO, size: int) -> bool:
    """Find whether the last picture has no end."""
    tail = _tail(file, size, 1 << 24)
    return tail.rfind(b"\xff\xd8\xff") > tail.rfind(b"\xff\xd9")


def _loki_jpeg(file: BinaryIO, size: int) -> bool:
    return not _tail(file, size, 16).endswith(b"DONE")


def _obu(file: BinaryIO, size: int) -> bool:
    """Find a unit of AV1 that is longer than the file."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(10)
        if not head[0] & 2:  # without a length
            return False
        begin = 1 + (head[0] >> 2 & 1)
        parts = [byte & 0x7F for byte in head[begin:]]
        last = next((place for place, byte in enumerate(head[begin:]) if byte < 0x80), None)
        if last is None:
            return len(head) < 10
        at += begin + last + 1 + sum(part << 7 * place for place, part in enumerate(parts[: last + 1]))
    return at > size


def _riff(file: BinaryIO, size: int) -> bool:
    """Find a piece longer than the file. What is written into a pipe says no length."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or length in (0, 0xFFFFFFFF):
            return False
        at += 8 + length + length % 2
    return at > size + 1


def _asf(file: BinaryIO, size: int) -> bool:
    file.seek(_ASF_DATA)
    (header,) = struct.unpack("<Q", file.read(8))
    file.seek(header + _ASF_DATA)
    (length,) = struct.unpack("<Q", file.read(8))
    return length > _ASF_IDS and header + length > size


def _boxes(file: BinaryIO, size: int) -> bool:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if name not in _BOXES or length < 8:  # something else behind the file, or a box up to its end
            return False
        at += length
    return at != size


def _nut(file: BinaryIO, size: int) -> bool:
    """Look for the index that ends it and says its own length."""
    if size < 12:
        return True
    (length,) = struct.unpack(">Q", _tail(file, size, 12)[:8])
    file.seek(max(0, size - length) if length <= size else 0)
    return file.read(8) != _NUT_INDEX


def _flash(file: BinaryIO, size: int) -> bool:
    """Every tag is followed by its length."""
    (length,) = struct.unpack(">I", _tail(file, size, 4))
    if length + 4 > size:
        return True
    file.seek(size - 4 - length)
    _, *data = file.read(4)
    return 11 + int.from_bytes(data) != length


def _program(file: BinaryIO, size: int) -> bool:
    """Look whether the last packet goes up to the end of the file."""
    tail = _tail(file, size)
    ended = tail.rstrip(b"\0").endswith(b"\0\0\1\xb9")
    at = len(tail)
    while not ended and (at := tail.rfind(b"\0\0\1", 0, at)) >= 0:
        if len(tail) >= at + 6 and tail[at + 3] >= 0xBB:
            ended = at + 6 + int.from_bytes(tail[at + 4 : at + 6]) == len(tail)
    return not ended


def _y4m(file: BinaryIO, size: int, picture_bytes: float) -> bool:
    head = file.read(4096)
    begin = head.find(b"\n") + 1
    frame = head.find(b"\n", begin) + 1 - begin + round(picture_bytes)
    return frame > 0 and (size - begin) % frame != 0


_ENDINGS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "mpegts": _transport,
    "ogg": _ogg,
    "gif": _gif,
    "mjpeg": _motion_jpeg,
    "jpeg_pipe": _motion_jpeg,
    "mpjpeg": _motion_jpeg,
    "smjpeg": _loki_jpeg,
    "obu": _obu,
    "avi": _riff,
    "asf": _asf,
    "mov,mp4,m4a,3gp,3g2,mj2": _boxes,
    "nut": _nut,
    "flv": _flash,
    "mpeg": _program,
}
