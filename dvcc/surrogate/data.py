"""Training samples whose encodes and pixels are kept in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dvcc._cache import Cache
from dvcc.codecs import Codec
from dvcc.codecs.cache import EncodeCache
from dvcc.surrogate.samples import Clips, LadderSamples
from dvcc.surrogate.store import SampleStore


def build_samples(clips: Clips, codec: Codec, *, folder: str, qps: Sequence[int], **settings: Any) -> LadderSamples:
    """Return training samples of `clips`: their ladders at `qps`, and what else the `settings` of `LadderSamples` ask for.

    Encodes are kept in `folder`, decoded samples in `folder`/samples. It may be an address of storage.
    """
    cache, store = EncodeCache(folder), SampleStore(Cache(folder).part("samples"))
    return LadderSamples(clips, codec=codec, cache=cache, store=store, qps=tuple(qps), **settings)
