"""The ladder: one clip really coded at a few constant QP maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dvcc.clip import Clip
from dvcc.codecs import Codec
from dvcc.codecs.bitstream import inspect_bitstream
from dvcc.codecs.cache import EncodeCache
from dvcc.qp import DEFAULT_RUNGS, QPMap

FRAME_TYPES = ("I", "P", "B")
"""A frame type in a sample is an index into this."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """A clip coded at constant QP maps.

    qps: (R,), rising. frames: uint8 (R, T, 3, H, W), really coded RGB. bits: float32 (R, T), bits per frame. frame_types:
    int64 (T,), indices into `FRAME_TYPES`.
    """

    qps: tuple[int, ...]
    frames: torch.Tensor
    bits: torch.Tensor
    frame_types: torch.Tensor


def encode_ladder(cache: EncodeCache, codec: Codec, clip: Clip, qps: tuple[int, ...] = DEFAULT_RUNGS) -> Ladder:
    """Encode `clip` at every rung (or read it from the cache) and decode."""
    coded = [cache.encode(codec, clip, QPMap.uniform(qp, like=clip)) for qp in qps]
    bits = torch.from_numpy(np.stack([rung.bits_per_frame for rung in coded])).float()
    # x264 decides the types in its lookahead, which does not see the map: one rung tells them for all maps. The coarsest
    # is the quickest to read.
    types = inspect_bitstream(coded[-1].bitstream).frame_types
    frame_types = torch.tensor([FRAME_TYPES.index(kind) for kind in types])
    return Ladder(tuple(qps), torch.stack([rung.frames for rung in coded]), bits, frame_types)
