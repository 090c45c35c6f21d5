"""Where a step of `train.py control` spends its time. python benchmarks/training_step.py"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch.utils.data import default_collate

from dvcc.config.build import build_codec, build_training_clips, ladder_settings
from dvcc.config.parse import parse
from dvcc.control.network import ControlNetwork
from dvcc.pixels import as_float
from dvcc.surrogate import build_surrogate, one_hot_qp
from dvcc.surrogate.data import build_samples
from dvcc.surrogate.judged import imitated_loss, judge_ladder
from dvcc.tasks import build_task
from dvcc.units import macroblock_grid

ROUNDS = 7


def milliseconds(run: Callable[[], object]) -> float:
    """Median of a few runs, after one to warm up."""
    run()
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def main() -> None:
    """Print a table for the demo's scale."""
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as cache:
        _, config = parse("train", ["control", "resolution=demo", f"data.cache={cache}"])
        clips = build_training_clips(config.data, seed=0)
        samples = build_samples(clips, build_codec(config.codec), **ladder_settings(config.data, seed=0))
        began = time.perf_counter()
        sample = default_collate([samples[0]])
        print(f"first sample, {len(config.data.rungs)} real encodes: {1000 * (time.perf_counter() - began):.0f} ms")
        print(f"sample from the cache: {milliseconds(lambda: samples[0]):.0f} ms")
    frames = as_float(sample["frames"])
    log_bpp = torch.full((4,), math.log(0.05))
    control, task = ControlNetwork(), build_task("segmentation", model="student")
    with torch.no_grad():
        reference = task.predict(frames)
        qp = one_hot_qp(torch.full((1, frames.shape[1], *macroblock_grid(*frames.shape[-2:])), 34))

    def through_surrogate(name: str) -> Callable[[], None]:
        surrogate = build_surrogate(name, qps=config.data.rungs, gop=8, width=32).requires_grad_(False)

        def run() -> None:
            predicted = surrogate(sample, qp.detach().requires_grad_())
            (predicted.frames.square().mean() + predicted.log_clip_bits.sum()).backward()

        return run

    def through_control() -> None:
        control.offsets(frames.repeat(4, 1, 1, 1, 1), log_bpp).square().sum().backward()

    anchored = build_surrogate("anchored", qps=config.data.rungs, gop=8, width=48).requires_grad_(False)
    judged = {**sample, "ladder_degradation": judge_ladder(task, sample)}
    analysis = anchored.without_pixels(anchored.analyse(judged))

    def off_the_ladder() -> None:
        predicted = anchored.predict(analysis, qp.repeat(4, 1, 1, 1, 1).requires_grad_(), frame_numbers=[])
        (imitated_loss(task, predicted, None) + predicted.log_clip_bits).sum().backward()

    def through_task() -> None:
        task.loss(task.predict(frames.detach().requires_grad_()), reference).sum().backward()

    for name, run in {
        "control at 4 targets, forward and backward": through_control,
        "judging the ladder, once per clip": lambda: judge_ladder(task, sample),
        "analysis by the anchored surrogate, once per clip": lambda: anchored.analyse(judged),
        "task loss and bits off the ladder at 4 targets, forward and backward": off_the_ladder,
        "through predicted frames instead, 1 target: anchored surrogate, forward and backward": through_surrogate("anchored"),
        "the same, network surrogate": through_surrogate("network"),
        "and segmentation by the student and its loss, forward and backward": through_task,
        "reference prediction": lambda: task.predict(frames),
    }.items():
        print(f"{name}: {milliseconds(run):.0f} ms")


if __name__ == "__main__":
    main()
