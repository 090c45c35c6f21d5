"""Training samples are real encodes of reproducible maps; a resumed run sees the order it would have seen."""

import numpy as np
import pytest
import torch

from dvcc import X264, QPMap
from dvcc.codecs.bitstream import inspect_bitstream
from dvcc.codecs.cache import EncodeCache
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.random_maps import KINDS, random_map
from dvcc.surrogate.samples import LadderSamples
from dvcc.training.batches import StepSampler
from tests.conftest import make_scene


def make_samples(tmp_path, **settings) -> LadderSamples:
    clips = [make_scene(seed=0), make_scene(seed=1)]
    return LadderSamples(clips, codec=X264(), cache=EncodeCache(tmp_path), qps=(20, 32, 44), **settings)


def test_a_sample_holds_the_real_encodes_of_its_maps(tmp_path):
    samples = make_samples(tmp_path, maps_per_clip=4, groups=2, maps_with_frames=2)
    assert len(samples) == 4
    sample, clip = samples[3], samples.clips[1]
    coded = [X264().encode(clip, QPMap(qp.numpy())) for qp in sample["qp"]]
    assert sample["coded_bits"].tolist() == [list(encode.bits_per_frame) for encode in coded]
    assert sample["shown"].tolist() == [1, 2]
    assert torch.equal(sample["coded_frames"], torch.stack([coded[1].frames, coded[2].frames]))
    assert sample["ladder_frames"].shape == (3, 8, 3, 64, 96) and torch.equal(sample["frames"], clip.frames)
    types = inspect_bitstream(coded[3].bitstream).frame_types  # of any map: the ladder tells them for all
    assert [FRAME_TYPES[k] for k in sample["frame_types"]] == list(types) and "B" in types


def test_groups_are_reproducible_and_of_another_mean_qp_each(tmp_path):
    samples = make_samples(tmp_path, maps_per_clip=4, groups=2)
    again = make_samples(tmp_path, maps_per_clip=4, groups=2)
    assert torch.equal(samples[3]["qp"], again[3]["qp"])
    means = [float(samples[i]["qp"].float().mean()) for i in range(4)]
    assert len(set(means[:2])) == 2 and len(set(means[2:])) == 2
    for i in range(4):
        qp = samples[i]["qp"].float()
        assert (qp.mean((1, 2, 3)) - qp[0].mean()).abs().max() < 0.51 and float(qp[0].std()) == 0


def test_without_maps_there_is_one_sample_per_clip(tmp_path):
    samples = make_samples(tmp_path)
    assert len(samples) == 2 and "qp" not in samples[0]


@pytest.mark.parametrize("kind", KINDS)
def test_random_maps_are_valid_and_as_their_kind_says(kind, scene):
    for seed in range(8):
        for mean_qp in (18, 33, 46):
            values = random_map(scene, np.random.default_rng(seed), mean_qp=mean_qp, kind=kind).values
            assert values.shape == (8, 4, 6) and values.min() >= 2 and values.max() <= 51
            assert abs(values.mean() - mean_qp) < 0.51  # maps of two levels; the others do better
            assert (len(np.unique(values)) == 1) == (kind == "flat")
            if kind == "blocky":
                assert (values == values[:1]).all()
            if kind == "frames":
                assert (values == values[:, :1, :1]).all()


def test_maps_cover_the_range_of_qps(scene):
    rng = np.random.default_rng(0)
    values = [random_map(scene, rng, mean_qp=rng.uniform(18, 46)).values for _ in range(200)]
    assert min(map(np.min, values)) == 2 and max(map(np.max, values)) == 51


def places(size: int, **settings) -> tuple[list[int], list[int]]:
    """The indices and the steps that a sampler yields."""
    indices, steps, _ = zip(*StepSampler(size, **settings), strict=True)
    return list(indices), list(steps)


def test_every_epoch_is_a_permutation_and_positions_survive_a_resume():
    whole, steps = places(5, batch_size=2, steps=10, seed=3)
    assert len(whole) == 20 and all(sorted(whole[i : i + 5]) == list(range(5)) for i in range(0, 20, 5))
    assert steps == [step for step in range(10) for _ in range(2)]
    assert len({tuple(whole[i : i + 5]) for i in range(0, 20, 5)}) > 1  # not one order for all epochs
    for start in (1, 3, 5, 9):
        assert places(5, batch_size=2, steps=10, start=start, seed=3) == (whole[2 * start :], steps[2 * start :])
    assert places(5, batch_size=2, steps=10, seed=4)[0] != whole


def test_processes_share_out_the_steps_of_one():
    whole, _ = places(5, batch_size=4, steps=6, seed=1)
    first, second = (places(5, batch_size=2, steps=6, seed=1, rank=rank, world_size=2)[0] for rank in (0, 1))
    assert [*first[:2], *second[:2], *first[2:4], *second[2:4]] == whole[:8] and len(first) == len(second) == 12
    later, steps = places(5, batch_size=2, steps=6, start=4, seed=1, rank=1, world_size=2)
    assert later == second[8:] and steps == [4, 4, 5, 5]
    items = {rank: list(StepSampler(5, batch_size=2, steps=6, seed=1, rank=rank, world_size=2)) for rank in (0, 1)}
    assert [place for _, _, place in items[0][:4]] == [0, 1, 0, 1] and [place for _, _, place in items[1][:2]] == [2, 3]
    assert [*items[0][:2], *items[1][:2]] == list(StepSampler(5, batch_size=4, steps=6, seed=1))[:4]
