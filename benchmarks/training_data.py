"""Whether the surrogate's training waits for its samples: filling the cache, the loader alone, steps with and without it.

python benchmarks/training_data.py [key=value ...], e.g. data.max_clips=4 data.groups=1
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from dvcc.config import SurrogateConfig
from dvcc.config.build import build_codec, build_training_clips, ladder_settings, map_settings
from dvcc.config.parse import parse
from dvcc.surrogate import build_surrogate
from dvcc.surrogate.data import build_samples
from dvcc.surrogate.fill import fill_samples
from dvcc.surrogate.samples import LadderSamples, Sample
from dvcc.surrogate.step_samples import StepSamples
from dvcc.surrogate.training import build_module
from dvcc.training.loader import ClipModule
from dvcc.training.workers import cores, loader_workers

STEPS, WARM_UP = 20, 2


def loader(samples: LadderSamples, config: SurrogateConfig, *, steps: int, workers: int) -> DataLoader[Sample]:
    """The loader of a training."""
    seen = StepSamples(samples, frames=config.losses.frames, seed=config.seed)
    return ClipModule(seen, batch_size=1, steps=steps, num_workers=workers, seed=config.seed).train_dataloader()


def per_second(steps: int, began: float) -> float:
    """A rate since `began`."""
    return steps / (time.perf_counter() - began)


def main() -> None:
    """Print one line per measurement."""
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as cache:
        words = [f"data.cache={cache}", "data.max_clips=10", "data.groups=2", "data.crops_per_clip=1", *sys.argv[1:]]
        config = parse("train", ["surrogate", *words])[1]
        clips = build_training_clips(config.data, seed=0)
        settings = {**ladder_settings(config.data, seed=0), **map_settings(config.data)}
        samples = build_samples(clips, build_codec(config.codec), **settings)
        workers = config.data.cache_workers or cores()
        began = time.perf_counter()
        fill_samples(samples, engine="processes", workers=workers)
        print(f"filling the cache, {workers} workers on {cores()} cores: {per_second(len(samples.clips), began):.2f} clips/s")
        sizes = [path.stat().st_size for path in samples.paths(0)]
        encodes = [path.stat().st_size for path in Path(cache).rglob("*.npz")]
        print(f"a clip: {sum(sizes) / 1e6:.0f} MB of samples, {sum(encodes) / len(samples.clips) / 1e6:.2f} MB of encodes")
        for count in sorted({0, 1, loader_workers(config.data.num_workers)}):
            batches = iter(loader(samples, config, steps=10 * STEPS + WARM_UP, workers=count))
            for _ in range(WARM_UP):
                batch = next(batches)
            began = time.perf_counter()
            print(f"the loader alone, {count} workers: {per_second(sum(1 for _ in batches), began):.1f} samples/s")
        surrogate = build_surrogate("anchored", qps=config.data.rungs, gop=config.codec.gop, width=config.surrogate.width)
        module = build_module(surrogate, config)
        module.log = lambda *arguments, **settings: None  # type: ignore[method-assign]  # there is no trainer

        def step(batch: Sample) -> None:
            module.training_step(batch, 0).backward()

        for _ in range(WARM_UP):
            step(batch)
        began = time.perf_counter()
        for _ in range(STEPS):
            step(batch)
        print(f"steps on one batch: {per_second(STEPS, began):.2f} steps/s, {torch.get_num_threads()} threads")
        batches = iter(loader(samples, config, steps=STEPS + WARM_UP, workers=loader_workers(config.data.num_workers)))
        for _ in range(WARM_UP):
            step(next(batches))
        began = time.perf_counter()
        for batch in batches:
            step(batch)
        print(f"steps with the loader, {loader_workers(config.data.num_workers)} workers: {per_second(STEPS, began):.2f} steps/s")


if __name__ == "__main__":
    main()
