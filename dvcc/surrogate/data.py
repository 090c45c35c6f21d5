"""Training samples of the configured videos."""

from __future__ import annotations

from pathlib import Path

from dvcc.codecs import Codec
from dvcc.codecs.cache import EncodeCache
from dvcc.config import DataConfig
from dvcc.datasets.splits import training_videos
from dvcc.surrogate.samples import LadderSamples
from dvcc.surrogate.store import SampleStore
from dvcc.training.run import build_clips, data_root


def build_samples(
    data: DataConfig,
    codec: Codec,
    *,
    seed: int,
    with_maps: bool,
    baselines: int = 0,
) -> LadderSamples:
    """Build training samples of the configured videos, stored in `data.cache`/samples.

    With groups of random maps and the pixels of the ladder, or without maps the ladder alone, and x264's own maps at so many
    rates.
    """
    root, test, exclude = data_root(data.root), data.test, data.exclude
    videos = training_videos(root, test=test, exclude=exclude, name=data.name, fold=data.fold, folds=data.folds)
    clips = build_clips(data, videos, crops_per_clip=data.crops_per_clip, seed=seed)
    cache = EncodeCache(data.cache)
    return LadderSamples(
        clips,
        codec=codec,
        cache=cache,
        maps_per_clip=data.maps_per_clip if with_maps else 0,
        groups=data.groups,
        maps_with_frames=data.maps_with_frames,
        qps=tuple(data.rungs),
        seed=seed,
        baselines=baselines,
        store_pixels=with_maps and data.store_pixels,
        store=SampleStore(Path(data.cache) / "samples"),
    )
