"""PNG pictures of every depth and kind, and mutations that know their structure: bytes in, bytes out, by a random generator."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from .videos import INTEGERS, raw

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By the colour type: grey, colours, a palette, grey with transparency, colours with it."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SIDES = (0, 1, 2, 15, 96, 4097, 16385, 30000, 65535, 2**31 - 1, 2**31)
SIZES = ((1, 1), (16, 64000), (64000, 16), (4096, 2731), (7680, 4320), (8192, 4400))
"""The last one has more pixels than zones may have."""
_OTHERS = b"tRNS PLTE gAMA iCCP cHRM sBIT eXIf zTXt acTL fcTL fdAT IDAT IEND".split()

Chunks = list[tuple[bytes, bytes]]


def painted(rng: random.Random, *, width: int = 96, height: int = 64) -> bytes:
    """Return zones that are whole: white on the left, black at the lower right, grey elsewhere; of any depth and kind."""
    colour = rng.choice(list(_CHANNELS))
    depth = rng.choice(_DEPTHS[colour])
    shades = np.ones((height, width), np.int64)
    shades[:, : width // 3], shades[height // 2 :, width // 2 :] = 2, 0
    most = 2**depth - 1
    samples = shades if colour == 3 else np.array([0, most // 2, most])[shades]
    samples = np.repeat(samples[..., None], _CHANNELS[colour], 2)
    if colour in (4, 6):
        samples[..., -1] = most
    rows = samples.reshape(height, -1)
    if depth < 8:
        bits = (rows[..., None] >> np.arange(depth)[::-1]) & 1
        lines = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        lines = rows.astype(">u2" if depth == 16 else np.uint8).view(np.uint8).reshape(height, -1)
    pixels = zlib.compress(np.pad(lines, ((0, 0), (1, 0))).tobytes())  # a row begins with its filter, here none
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    if colour == 3:
        chunks.append((b"PLTE", bytes([0] * 3 + [128] * 3 + [255] * 3)))
    half = len(pixels) // 2
    return _joined([*chunks, (b"IDAT", pixels[:half]), (b"IDAT", pixels[half:]), (b"IEND", b"")])


def png(data: bytes, rng: random.Random, *, sizes: Sequence[tuple[int, int]] = SIZES) -> bytes:
    """Change a chunk, the head, the palette or the pixels of a PNG picture, or its size; checksums are renewed, mostly."""
    chunks = _split(data)
    if not chunks:
        return raw(data, rng)
    kind, at = rng.randrange(9), rng.randrange(len(chunks))
    name, content = chunks[at]
    if kind == 0:
        del chunks[at]
    elif kind == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[at])
    elif kind == 2:
        other = rng.randrange(len(chunks))
        chunks[at], chunks[other] = chunks[other], chunks[at]
    elif kind == 3 or (kind == 4 and name == b"IHDR"):
        chunks = [(name, _head(content, rng)) if name == b"IHDR" else (name, content) for name, content in chunks]
    elif kind == 4:
        chunks[at] = name, raw(content, rng)
    elif kind == 5:
        payload = rng.choice([b"", bytes(rng.choice([1, 3, 8, 255, 769, 5000])), zlib.compress(bytes(10**6)), rng.randbytes(26)])
        chunks.insert(rng.randrange(len(chunks) + 1), (rng.choice(_OTHERS), payload))
    elif kind == 6:
        chunks = _with_pixels(chunks, rng)
    elif kind == 7:
        return resized(data, *rng.choice(sizes))
    else:
        joined = bytearray(_joined(chunks))
        place = joined.find(name)  # the length and the checksum of one chunk say something else
        joined[place - 4 : place] = struct.pack(">I", rng.choice([*INTEGERS, len(content) + 1]) % 2**32)
        return bytes(joined)
    return _joined(chunks, wrong=rng.randrange(len(chunks)) if chunks and rng.random() < 0.1 else None)


def _head(content: bytes, rng: random.Random) -> bytes:
    """Change one field of the head: a side, the depth, the kind, or how it is packed."""
    fields = list(struct.unpack(">IIBBBBB", content[:13].ljust(13, b"\0")))
    at = rng.randrange(7)
    values = [_SIDES, _SIDES, (0, 1, 2, 3, 4, 8, 16, 32, 255), (0, 1, 2, 3, 4, 5, 6, 7, 255), (1, 255), (1, 64, 255), (1, 2, 255)]
    fields[at] = rng.choice(values[at])
    return struct.pack(">IIBBBBB", *fields)


def _with_pixels(chunks: Chunks, rng: random.Random) -> Chunks:
    """Unpack the pixels, change them, the filters of rows among them, and pack them again."""
    try:
        pixels = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    except zlib.error:
        return chunks
    changed = bytearray(raw(pixels, rng) if rng.random() < 0.7 else pixels + bytes(rng.choice([1, 1000, 10**6])))
    row = max(1, len(pixels) // 64)
    for place in range(0, len(changed), row):
        if rng.random() < 0.2:
            changed[place] = rng.choice([1, 2, 3, 4, 5, 255])
    return _repacked(chunks, bytes(changed))


def resized(data: bytes, width: int, height: int) -> bytes:
    """Return a picture of the same depth and kind with all pixels of its size: a small file and a huge picture."""
    chunks = _split(data)
    head = next((content for name, content in chunks if name == b"IHDR"), b"").ljust(13, b"\0")
    row = 1 + (width * _CHANNELS.get(head[9], 1) * head[8] + 7) // 8
    packer = zlib.compressobj(1)
    line = b"\0" + (b"\xff" * (row // 2)).ljust(row - 1, b"\0")
    packed = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    kept = [(name, content) for name, content in chunks if name not in (b"IHDR", b"IDAT", b"IEND")]
    return _joined([(b"IHDR", struct.pack(">II", width, height) + head[8:]), *kept, (b"IDAT", packed), (b"IEND", b"")])


def _repacked(chunks: Chunks, pixels: bytes) -> Chunks:
    first = next(at for at, (name, _) in enumerate(chunks) if name == b"IDAT")
    kept = [chunk for at, chunk in enumerate(chunks) if chunk[0] != b"IDAT" or at == first]
    kept[first] = b"IDAT", zlib.compress(pixels)
    return kept


def _split(data: bytes) -> Chunks:
    """Return the chunks up to the first that is not whole."""
    chunks, at = [], len(_SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if at + 12 + length > len(data):
            break
        chunks.append((name, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _joined(chunks: Chunks, wrong: int | None = None) -> bytes:
    """Return the file, with the checksum of one chunk `wrong`."""
    parts = [_SIGNATURE]
    for at, (name, content) in enumerate(chunks):
        checksum = zlib.crc32(name + content) ^ (at == wrong)
        parts.append(struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum))
    return b"".join(parts)
