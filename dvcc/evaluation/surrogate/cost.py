"""What a surrogate costs on one clip, in seconds of processor: real encodes, its own analysis, one map."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from dvcc.clip import Clip
from dvcc.codecs import Codec
from dvcc.evaluation.surrogate.rows import Cost
from dvcc.qp import QPMap
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.surrogate.samples import Sample

T = TypeVar("T")


@torch.no_grad()
def measure_cost(surrogate: Surrogate, sample: Sample, clip: Clip, codec: Codec, rungs: Sequence[int]) -> Cost:
    """Encode anew what `surrogate` needs of `clip`, and predict one map of its `sample`, a batch of one.

    A surrogate that reads no ladder is given the frame types, which the coarsest rung tells.
    """
    needed = list(rungs) if surrogate.reads_ladder else [max(rungs)]
    _, encodes = _timed(lambda: [codec.encode(clip, QPMap.uniform(qp, like=clip)).frames for qp in needed])
    analysis, of_analysis = _timed(lambda: surrogate.analyse(sample))
    qp = one_hot_qp(torch.full(QPMap.uniform(34, like=clip).values.shape, 34))[None]
    surrogate.predict(analysis, qp)  # the first call sets things up
    _, of_map = _timed(lambda: surrogate.predict(analysis, qp))
    return Cost(len(needed), encodes, of_analysis, of_map)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    return call(), time.process_time() - start
