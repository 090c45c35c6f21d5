"""Training samples whose encodes and pixels are kept in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dvcc._cache import Cache
from dvcc.codecs import Codec
from dvcc.codecs.cache import EncodeCache
from dvcc.errors import ConfigError
from dvcc.surrogate import Surrogate, load_surrogate
from dvcc.surrogate.predicted import PredictedLadders
from dvcc.surrogate.samples import Clips, LadderSamples
from dvcc.surrogate.store import SampleStore


def build_samples(clips: Clips, codec: Codec, *, folder: str, qps: Sequence[int], **settings: Any) -> LadderSamples:
    """Return training samples of `clips`: their ladders at `qps`, and what else the `settings` of `LadderSamples` ask for.

    Encodes are kept in `folder`, decoded samples in `folder`/samples. It may be an address of storage.
    """
    cache, store = EncodeCache(folder), SampleStore(Cache(folder).part("samples"))
    return LadderSamples(clips, codec=codec, cache=cache, store=store, qps=tuple(qps), **settings)


def load_predicted(path: str, *, reader: Surrogate) -> tuple[PredictedLadders, dict[str, Any]]:
    """Return who predicts the ladders that `reader` reads, from the file of a surrogate, and the config of that.

    Raises `ConfigError` for a surrogate that reads a ladder itself, and for a `reader` that reads none.
    """
    surrogate, stored = load_surrogate(path)
    if not reader.reads_ladder:
        raise ConfigError(f"ladder={path} would be read by nobody, as the surrogate reads no ladder: leave one of the two out")
    if surrogate.reads_ladder:
        raise ConfigError(
            f"ladder={path} reads a ladder itself, and cannot predict one: set a surrogate that reads none, "
            "e.g. ladder=checkpoints/surrogate_structured.safetensors"
        )
    return PredictedLadders(surrogate), stored
