"""Mutations of videos that know their structure: bytes in, bytes out, decided by a random generator."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

Mutation = Callable[[bytes, random.Random], bytes]

INTEGERS = (0, 1, 2, 7, 8, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)
"""At the ends of ranges, where sizes and counts are mishandled."""
_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"moof", b"traf", b"mvex", b"meta")
_MASTERS = (0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0xE1, 0x1F43B675, 0x1C53BB6B, 0x114D9B74, 0x1043A770, 0x1254C367)


def raw(data: bytes, rng: random.Random) -> bytes:
    """Cut, flip, wipe, splice or repeat somewhere, whatever stands there."""
    if not data:
        return b"\0"
    kind, place, size = rng.randrange(6), rng.randrange(len(data)), rng.choice([1, 2, 4, 16, 300, 2000])
    changed = bytearray(data)
    if kind == 0:
        return data[:place]
    if kind == 1:
        for _ in range(rng.choice([1, 1, 3, 40])):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        changed[place : place + size] = bytes(len(changed[place : place + size]))
    elif kind == 3:
        changed[place:place] = data[place : place + size]
    elif kind == 4:
        del changed[place : place + size]
    else:
        changed[place : place + 4] = struct.pack(">I", rng.choice(INTEGERS))
    return bytes(changed)


def boxes(data: bytes, rng: random.Random) -> bytes:
    """Change one box of an mp4: its size, its name, a number in it, its length, its place; or leave it out or double it."""
    found = list(_walk_boxes(data, 0, len(data)))
    if not found:
        return raw(data, rng)
    small = [box for box in found if box[2] != b"mdat"] or found
    begin, end, _ = rng.choice(small)
    box, kind = bytearray(data[begin:end]), rng.randrange(7)
    if kind == 0:
        box[:4] = struct.pack(">I", rng.choice([*INTEGERS, len(box) + 1, max(0, len(box) - 1)]) % 2**32)
    elif kind == 1:
        box[4:8] = rng.choice(found)[2]
    elif kind == 2:
        box = bytearray()
    elif kind == 3:
        box = box + box
    elif kind == 4 and len(box) > 12:
        box = bytearray(_sized(box[: rng.randrange(8, len(box))]))
    elif kind == 5:
        box = box + bytes(data[slice(*rng.choice(small)[:2])])
    else:
        for _ in range(rng.choice([1, 1, 4])):
            if len(box) > 12:
                at = rng.randrange(8, len(box) - 3)
                box[at : at + 4] = struct.pack(">I", rng.choice(INTEGERS))
    return data[:begin] + bytes(box) + data[end:]


def _walk_boxes(data: bytes, begin: int, end: int, depth: int = 0) -> Iterator[tuple[int, int, bytes]]:
    while begin + 8 <= end and depth < 9:
        size, name = struct.unpack(">I4s", data[begin : begin + 8])
        size = size if 8 <= size <= end - begin else end - begin
        yield begin, begin + size, name
        if name in _BOXES:
            yield from _walk_boxes(data, begin + 8, begin + size, depth + 1)
        begin += size


def _sized(box: bytes | bytearray) -> bytes:
    return struct.pack(">I", len(box)) + bytes(box[4:])


def units(data: bytes, rng: random.Random) -> bytes:
    """Change a NAL unit behind a start code: its type, its headers, its length, its order; or leave it out or double it."""
    parts = data.split(b"\0\0\1")
    if len(parts) < 3:
        return raw(data, rng)
    at, kind = rng.randrange(1, len(parts)), rng.randrange(6)
    if rng.random() < 0.5:  # parameter sets come first, and everything hangs on them
        at = rng.randrange(1, min(6, len(parts)))
    unit = bytearray(parts[at])
    if kind == 0:
        del parts[at]
    elif kind == 1:
        parts.insert(rng.randrange(1, len(parts)), bytes(unit))
    elif kind == 2:
        other = rng.randrange(1, len(parts))
        parts[at], parts[other] = parts[other], parts[at]
    elif kind == 3 and len(unit) > 1:
        parts[at] = bytes(unit[: rng.randrange(1, len(unit))])
    elif unit:
        for _ in range(rng.choice([1, 2, 8])):
            place = 0 if kind == 4 else rng.randrange(min(len(unit), 24))
            unit[place] ^= 1 << rng.randrange(8)
        parts[at] = bytes(unit)
    return b"\0\0\1".join(parts)


def transport(data: bytes, rng: random.Random) -> bytes:
    """Change packets of MPEG-TS: lost, repeated, out of order, of another stream, with other flags, lengths, tables or times."""
    packets = [bytearray(data[at : at + 188]) for at in range(0, len(data), 188)]
    for _ in range(rng.choice([1, 1, 2, 10])):
        if not packets:
            break
        at, kind = rng.randrange(len(packets)), rng.randrange(8)
        packet = packets[at]
        if kind == 0:
            del packets[at]
        elif kind == 1:
            packets.insert(rng.randrange(len(packets)), bytearray(packet))
        elif kind == 2:
            other = rng.randrange(len(packets))
            packets[at], packets[other] = packets[other], packets[at]
        elif kind == 3:
            packet[1:3] = struct.pack(">H", rng.choice([0, 1, 0x11, 0x100, 0x101, 0x1000, 0x1FFF]) | packet[1] << 8 & 0xE000)
        elif kind == 4 and len(packet) > 8:
            packet[3] ^= 1 << rng.randrange(8)
        elif kind == 5 and len(packet) > 8:
            packet[4] = rng.choice([0, 1, 183, 184, 255])
        elif len(packet) > 30:
            packet[rng.randrange(4, 30 if kind == 6 else len(packet))] ^= 1 << rng.randrange(8)
    return b"".join(packets)


def matroska(data: bytes, rng: random.Random) -> bytes:
    """Change an element of Matroska: its size, its content, its length; or leave it out or double it."""
    found = list(_walk_elements(data, 0, len(data)))
    if not found:
        return raw(data, rng)
    begin, content, end = rng.choice(found)
    element, kind = data[begin:end], rng.randrange(5)
    if kind == 0:
        element = data[begin : content - 1] + bytes([rng.choice([0x80, 0x81, 0xFF, 0x01, 0x00])]) + data[content:end]
    elif kind == 1:
        element = b""
    elif kind == 2:
        element = element + element
    elif kind == 3 and end > content:
        at = rng.randrange(content, end)
        element = data[begin:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 : end]
    else:
        element = data[begin:content] + bytes(rng.choice([0, 255]) for _ in range(end - content))
    return data[:begin] + element + data[end:]


def _walk_elements(data: bytes, begin: int, end: int, depth: int = 0) -> Iterator[tuple[int, int, int]]:
    while begin < end and depth < 6:
        first = data[begin]
        id_length = 9 - first.bit_length()
        at = begin + id_length
        if not first or at >= end or not data[at]:
            return
        length = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + length]) & ((1 << 7 * length) - 1)
        content = at + length
        stop = min(end, content + size)
        yield begin, content, stop
        if int.from_bytes(data[begin:at]) in _MASTERS:
            yield from _walk_elements(data, content, stop, depth + 1)
        begin = stop
