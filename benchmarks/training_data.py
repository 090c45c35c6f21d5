"""Whether real encodes hold training up: samples per second, the step they feed, bytes on disk.

python benchmarks/training_data.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, default_collate

from dvcc.config.parse import parse
from dvcc.surrogate import build_surrogate
from dvcc.surrogate.samples import LadderSamples
from dvcc.surrogate.training import SurrogateModule
from dvcc.training.run import build_codec, build_samples

CLIPS, GROUPS, STEPS = 10, 2, 7


def samples_per_second(samples: LadderSamples, *, workers: int) -> float:
    """One epoch through a loader; starting its workers counts."""
    began = time.perf_counter()
    for _ in DataLoader(samples, 1, num_workers=workers):
        pass
    return len(samples) / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    torch.set_flush_denormal(True)
    torch.multiprocessing.set_sharing_strategy("file_system")
    for workers in (0, 1, 2):
        with tempfile.TemporaryDirectory() as cache:
            words = [f"data.cache={cache}", f"data.max_clips={CLIPS}", f"data.groups={GROUPS}", "data.crops_per_clip=1"]
            _, config = parse("train", ["surrogate", *words])
            samples = build_samples(config.data, build_codec(config.codec), seed=0, with_maps=True)
            first = samples_per_second(samples, workers=workers)
            second = samples_per_second(samples, workers=workers)
            print(f"{workers} workers: {first:.2f} samples/s in the first epoch, {second:.2f} in the second")
            stored = sum(path.stat().st_size for path in Path(cache).rglob("*.npz"))
            batch = default_collate([samples[0]])
            encodes = batch["ladder_bits"].shape[1] + GROUPS * batch["qp"].shape[1]
    print(f"cache: {stored / CLIPS / 1e6:.2f} MB per clip ({encodes} encodes); ", end="")
    print(f"the same as pixels: {encodes * batch['frames'].numel() / 1e6:.0f} MB")
    surrogate = build_surrogate("anchored", qps=config.data.rungs, gop=config.codec.gop, width=config.surrogate.width)
    module = SurrogateModule(surrogate, config)
    module.log = lambda *arguments, **settings: None  # type: ignore[method-assign]  # there is no trainer
    taken = []
    for _ in range(STEPS):
        began = time.perf_counter()
        module.training_step(batch, 0).backward()
        taken.append(time.perf_counter() - began)
    print(f"training step: {statistics.median(taken):.2f} s, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
