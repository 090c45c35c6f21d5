"""The cache of real encodes, by content."""

from __future__ import annotations

import hashlib
import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dvcc._cache import Cache
from dvcc._files import read_arrays
from dvcc._source import source_digest
from dvcc.clip import Clip
from dvcc.codecs.base import ABR, CRF, Codec, EncodedClip, Rate
from dvcc.qp import QPMap, QPOffsets

_FORMAT = 1


class EncodeCache:
    """Real encodes on disk, keyed by the clip's pixels, the codec's settings and code, the rate, PyAV and its FFmpeg build.

    Bitstreams are stored, not pixels. Entries are written atomically and carry checksums: many workers can share
    a folder, and a damaged entry is encoded again. place: of a `Cache`, a folder or an address.
    """

    def __init__(self, place: str | Path) -> None:
        self.entries = Cache(place)

    def encode(self, codec: Codec, clip: Clip, rate: Rate) -> EncodedClip:
        """Return what `codec.encode(clip, rate)` returns, from the cache when it is there."""
        key = _key(codec, clip, rate)
        name = f"{key[:2]}/{key}.npz"
        if (coded := _read(self.entries.find(name))) is None:
            coded = codec.encode(clip, rate)
            self.entries.keep(name, _serialise(coded))
        return coded


def _key(codec: Codec, clip: Clip, rate: Rate) -> str:
    code = source_digest("dvcc.codecs", type(codec).__module__)
    words = [_FORMAT, clip.digest, codec, code, _rate_words(rate), av.__version__, av.ffmpeg_version_info]
    return hashlib.sha256(repr(words).encode()).hexdigest()


def _rate_words(rate: Rate | QPOffsets) -> str:
    """Return the rate in full: the repr of a map names only its shape and range."""
    if isinstance(rate, (QPMap, QPOffsets)):
        return f"{type(rate).__name__} {rate.values.shape} {hashlib.sha256(rate.values.tobytes()).hexdigest()}"
    if isinstance(rate, ABR):
        offsets = None if rate.offsets is None else _rate_words(rate.offsets)
        return f"ABR {rate.kbps!r} {rate.passes} {offsets} {rate.vbv} {rate.vbv_init}"
    if isinstance(rate, CRF) and rate.offsets is not None:
        return f"CRF {rate.value!r} {_rate_words(rate.offsets)} {rate.vbv}"
    return repr(rate)


def _serialise(coded: EncodedClip) -> bytes:
    arrays: dict[str, Any] = {"bitstream": np.frombuffer(coded.bitstream, np.uint8), "bits": coded.bits_per_frame}
    if coded.requested_qp is not None:
        arrays["requested_qp"] = coded.requested_qp.values
    meta: dict[str, Any] = {"fps": str(coded.fps), "size": [coded.height, coded.width], "codec": coded.codec}
    meta |= {"settings": coded.settings, "num_encodes": coded.num_encodes}
    buffer = io.BytesIO()
    np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def _read(path: Path) -> EncodedClip | None:
    """None when the entry is missing or damaged."""
    stored = read_arrays(path, "meta", "bitstream", "bits")
    if stored is None:
        return None
    try:
        meta = json.loads(stored["meta"].tobytes())
        requested = QPMap(stored["requested_qp"]) if "requested_qp" in stored else None
        height, width = meta.pop("size")
        fps = Fraction(meta.pop("fps"))
        return EncodedClip(stored["bitstream"].tobytes(), stored["bits"], fps, height, width, requested_qp=requested, **meta)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):  # of another version, or made by somebody else
        return None
