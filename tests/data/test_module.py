"""Training samples are real encodes of reproducible maps; a resumed run sees the order it would have seen."""

import numpy as np
import pytest
import torch

from dvcc import X264, QPMap
from dvcc.data.ladder import EncodeCache
from dvcc.data.maps import KINDS, random_map
from dvcc.data.module import LadderSamples, StepSampler
from tests.conftest import make_scene


def make_samples(tmp_path, **settings) -> LadderSamples:
    clips = [make_scene(seed=0), make_scene(seed=1)]
    return LadderSamples(clips, codec=X264(), cache=EncodeCache(tmp_path), qps=(20, 32, 44), **settings)


def test_a_sample_holds_the_real_encode_of_its_map(tmp_path):
    samples = make_samples(tmp_path, maps_per_clip=2)
    assert len(samples) == 4
    sample = samples[3]
    coded = X264().encode(samples.clips[1], QPMap(sample["qp"].numpy()))
    assert torch.equal(sample["coded_frames"], coded.frames) and sample["coded_bits"].tolist() == list(coded.bits_per_frame)
    assert sample["ladder_frames"].shape == (3, 8, 3, 64, 96) and torch.equal(sample["frames"], samples.clips[1].frames)
    assert torch.equal(samples[3]["qp"], make_samples(tmp_path, maps_per_clip=2)[3]["qp"])
    assert not torch.equal(samples[2]["qp"], sample["qp"])


def test_without_maps_there_is_one_sample_per_clip(tmp_path):
    samples = make_samples(tmp_path)
    assert len(samples) == 2 and "qp" not in samples[0]


@pytest.mark.parametrize("kind", KINDS)
def test_random_maps_are_valid_and_as_their_kind_says(kind, scene):
    for seed in range(20):
        values = random_map(scene, np.random.default_rng(seed), kind=kind).values
        assert values.shape == (8, 4, 6) and values.min() >= 10 and values.max() <= 51
        if kind == "flat":
            assert len(np.unique(values)) == 1
        if kind == "blocky":
            assert (values == values[:1]).all()


def test_every_epoch_is_a_permutation_and_positions_survive_a_resume():
    whole = list(StepSampler(5, batch_size=2, steps=10, seed=3))
    assert len(whole) == 20 and all(sorted(whole[i : i + 5]) == list(range(5)) for i in range(0, 20, 5))
    assert len({tuple(whole[i : i + 5]) for i in range(0, 20, 5)}) > 1  # not one order for all epochs
    for start in (1, 3, 5, 9):
        assert list(StepSampler(5, batch_size=2, steps=10, start=start, seed=3)) == whole[2 * start :]
    assert list(StepSampler(5, batch_size=2, steps=10, seed=4)) != whole


def test_processes_share_out_the_steps_of_one():
    whole = list(StepSampler(5, batch_size=4, steps=6, seed=1))
    first, second = (list(StepSampler(5, batch_size=2, steps=6, seed=1, rank=rank, world_size=2)) for rank in (0, 1))
    assert [*first[:2], *second[:2], *first[2:4], *second[2:4]] == whole[:8] and len(first) == len(second) == 12
    assert list(StepSampler(5, batch_size=2, steps=6, start=4, seed=1, rank=1, world_size=2)) == second[8:]
