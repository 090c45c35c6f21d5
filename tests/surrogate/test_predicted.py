"""Ladders that a surrogate predicts: the shape and use of encoded ones, and one encode in all."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264
from dvcc.codecs.cache import EncodeCache
from dvcc.evaluation.surrogate.descent import task_gradient_at_equal_bits
from dvcc.networks.sources import CHECKPOINTS
from dvcc.surrogate import build_surrogate, load_surrogate
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.ladder import encode_ladder
from dvcc.surrogate.predicted import PredictedLadders
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks import build_task
from dvcc.tasks.reconstruction import ReconstructionTask
from tests.conftest import make_scene

QPS = (18, 30, 42)


@pytest.fixture(scope="module")
def structured():
    return load_surrogate(CHECKPOINTS / "surrogate_structured.safetensors")[0]


class CountingCache(EncodeCache):
    encodes = 0

    def encode(self, *words, **settings):
        self.encodes += 1
        return super().encode(*words, **settings)


def test_a_predicted_ladder_is_near_the_encoded_one_and_costs_one_encode(structured, tmp_path):
    clip, cache = make_scene(frames=4, height=72, width=112), CountingCache(tmp_path)  # not whole macroblocks
    made = PredictedLadders(structured).of_clip(cache, X264(), clip, QPS)
    assert cache.encodes == 1
    real = encode_ladder(cache, X264(), clip, QPS)
    assert made.qps == real.qps and made.frames.shape == real.frames.shape and made.frames.dtype == real.frames.dtype
    assert made.bits.dtype == real.bits.dtype and torch.equal(made.frame_types, real.frame_types)
    sizes = [ladder.bits.sum(1).log() for ladder in (made, real)]
    assert (sizes[0] - sizes[1]).abs().max() < 0.25 < (sizes[1][0] - sizes[1][-1]) / 4
    errors = [(ladder.frames.float() - clip.frames).abs().mean((1, 2, 3, 4)) for ladder in (made, real)]
    assert (errors[0].diff() > 0).all() and (errors[0] / errors[1]).log().abs().max() < 0.6


def test_what_is_made_of_a_predicted_ladder_is_kept_apart(structured, tmp_path):
    clip, cache, task = (
        make_scene(frames=2, height=32, width=48),
        EncodeCache(tmp_path),
        build_task("reconstruction", model="psnr"),
    )
    torch.manual_seed(0)
    other = build_surrogate("structured", qps=QPS, gop=8, width=24)
    by = [None, PredictedLadders(structured), PredictedLadders(other)]
    samples = [LadderSamples([clip], codec=X264(), cache=cache, qps=QPS, predicted=maker) for maker in by]
    assert len({repr(one.entries(0)) for one in samples}) == 3
    read = [JudgedLadders(task, one).degradation(0, default_collate([one[0]])) for one in samples]
    assert all(not torch.equal(read[0], one) for one in read[1:]) and not torch.equal(read[1], read[2])
    assert samples[1].ladder_frames(0, slice(1, 2)).shape == (1, 2, 3, 32, 48)


def test_the_gradient_off_a_predicted_ladder_is_nearly_that_off_the_encoded_one(structured, tmp_path):
    clip, cache = make_scene(frames=4, height=64, width=128), EncodeCache(tmp_path)
    anchored, stored = load_surrogate(CHECKPOINTS / "surrogate_anchored.safetensors")
    anchored.eval().requires_grad_(False)

    class LeftHalf(ReconstructionTask):
        def degradation(self, prediction, reference):
            found = super().degradation(prediction, reference)
            return torch.cat([found[..., :64], 0 * found[..., 64:]], -1)

    task, gradients = LeftHalf(), []
    for maker in (None, PredictedLadders(structured)):
        samples = LadderSamples([clip], codec=X264(), cache=cache, qps=tuple(stored["surrogate"]["qps"]), predicted=maker)
        sample = default_collate([samples[0]])
        sample["ladder_degradation"] = JudgedLadders(task, samples).degradation(0, sample)
        gradients.append(task_gradient_at_equal_bits(anchored, task, sample, clip.frames / 255, mean_qp=32))
    assert all(of[..., :4].mean() > 0 > of[..., 4:].mean() for of in gradients)
    assert np.corrcoef(*(of.flatten() for of in gradients))[0, 1] > 0.8
