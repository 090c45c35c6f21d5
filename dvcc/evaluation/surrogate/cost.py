"""What a surrogate costs on one clip, in seconds of processor: real encodes, its own analysis, one map."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from dvcc.codecs import Codec
from dvcc.evaluation.surrogate.rows import Cost, TestClip
from dvcc.qp import QPMap
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.surrogate.predicted import PredictedLadders

T = TypeVar("T")


@torch.no_grad()
def measure_cost(surrogate: Surrogate, test: TestClip, codec: Codec, predicted: PredictedLadders | None) -> Cost:
    """Encode anew what `surrogate` needs of a clip, and predict one map of it.

    A surrogate that reads no ladder is given the frame types, which the coarsest rung tells. So is one whose ladder is
    `predicted`: that takes time of the analysis.
    """
    clip, sample, rungs = test.clip, test.sample, tuple(test.rungs)
    needed = rungs if surrogate.reads_ladder and predicted is None else rungs[-1:]
    _, encodes = _timed(lambda: [codec.encode(clip, QPMap.uniform(qp, like=clip)).frames for qp in needed])
    analysis, of_analysis = _timed(lambda: surrogate.analyse(sample))
    if surrogate.reads_ladder and predicted is not None:
        _, of_ladder = _timed(lambda: predicted.rungs(clip.frames, sample["frame_types"][0], rungs))
        of_analysis += of_ladder
    qp = one_hot_qp(torch.full(QPMap.uniform(34, like=clip).values.shape, 34))[None]
    surrogate.predict(analysis, qp)  # the first call sets things up
    _, of_map = _timed(lambda: surrogate.predict(analysis, qp))
    return Cost(len(needed), encodes, of_analysis, of_map)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    return call(), time.process_time() - start
