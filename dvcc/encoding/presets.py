"""Encoders at presets that do not ignore what controls them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

from dvcc.codecs import VIDEO_CODECS, VideoCodec
from dvcc.errors import ConfigError
from dvcc.qp import Delivery

_X265_AQ = {"aq-mode": "2", "aq-strength": "1"}  # as of its other presets
_OBEYED = {  # what a preset must do, or the encoder drops a map or decides its QPs anew
    ("x264", "offsets"): {"ultrafast": {"aq-mode": "1"}},
    ("x264", "map"): {"veryslow": {"subme": "9"}, "placebo": {"subme": "9"}},
    ("x265", "offsets"): {"ultrafast": _X265_AQ, "superfast": _X265_AQ},
}
_MOST_THREADS, _MOST_LIVE_THREADS, _MOST_X265_THREADS = 16, 4, 4


def obedient_codec(
    name: str, preset: str, delivery: Delivery, *, gop: int, threads: int, params: Mapping[str, str] = MappingProxyType({})
) -> VideoCodec:
    """Return an encoder at a preset, less what of it would ignore a control that is so delivered.

    Raises `ConfigError` where none obeys.
    """
    if (name, delivery) not in _OBEYED:
        raise ConfigError(f"{name} takes offsets on its own QPs and no map: choose --delivery offsets, or x264")
    return VIDEO_CODECS[name](preset, gop=gop, threads=threads, params={**_OBEYED[name, delivery].get(preset, {}), **params})


def default_threads(name: str, *, live: bool = False) -> int:
    """Frame threads by the encoder's own rule, up to where more gain nothing; of a live stream every one is a frame of delay."""
    cores = os.cpu_count() or 1
    if name == "x265":  # which has threads within a frame, too
        return max(1, min(_MOST_X265_THREADS, cores // 2))
    return min(_MOST_LIVE_THREADS if live else _MOST_THREADS, 3 * cores // 2)
