"""What the anchored surrogate promises before any learning."""

import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264, read_clip
from dvcc.codecs.cache import EncodeCache
from dvcc.errors import ConfigError
from dvcc.surrogate import build_surrogate, one_hot_qp
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.samples import LadderSamples
from tests.conftest import make_scene

QPS = (16, 24, 32, 40, 48)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    cache = EncodeCache(tmp_path_factory.mktemp("cache"))
    samples = LadderSamples([make_scene(height=96, width=128)], codec=X264(), cache=cache, qps=QPS)
    return default_collate([samples[0]])


def flat(sample, qp: int) -> torch.Tensor:
    return torch.full((1, 8, 6, 8), qp)


def scrambled(surrogate) -> None:
    """Weights as far from their start as training may take them."""
    with torch.no_grad():
        for parameter in surrogate.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


@pytest.fixture
def surrogate():
    return build_surrogate("anchored", qps=QPS, gop=8, width=16)


@pytest.mark.parametrize("rung", range(5))
def test_flat_maps_at_a_rung_are_exact_whatever_was_learned(rung, surrogate, sample):
    torch.manual_seed(0)
    scrambled(surrogate)
    predicted = surrogate.eval()(sample, one_hot_qp(flat(sample, QPS[rung])))
    torch.testing.assert_close(predicted.frames, sample["ladder_frames"][:, rung].float() / 255, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(predicted.log_bits, torch.log(sample["ladder_bits"][:, rung]), rtol=1e-5, atol=1e-4)


def test_a_sample_without_the_ladder_of_the_surrogate_is_refused(surrogate, sample):
    without = {name: value for name, value in sample.items() if not name.startswith("ladder")}
    fewer = {name: value[:, :3] if name.startswith("ladder") else value for name, value in sample.items()}
    for wrong, sizes in ((without, "none"), (fewer, "{'ladder_log_error': 3, 'ladder_bits': 3}")):
        with pytest.raises(ConfigError, match=rf"ladder of 5 rungs, and the sample has {sizes}: .*qps=\(16, 24, 32, 40, 48\)"):
            surrogate.analyse(wrong)


def test_every_macroblock_is_one_rung_never_a_blend(surrogate, sample):
    surrogate.train()  # not trained: nothing is corrected
    frames = surrogate(sample, one_hot_qp(flat(sample, 28))).frames[0]
    rungs = sample["ladder_frames"][0].float() / 255
    distances = (rungs - frames).abs().unfold(-2, 16, 16).unfold(-2, 16, 16).amax((-1, -2, 2))  # r t h w
    assert (distances.amin(0) < 1e-6).all()
    chosen = distances.argmin(0)
    assert set(chosen.unique().tolist()) == {1, 2}  # the rungs around 28


def test_a_coarser_macroblock_costs_fewer_bits(surrogate, sample):
    qp = flat(sample, 24)
    base = surrogate(sample, one_hot_qp(qp)).log_bits
    qp[:, :, :, 4:] = 40
    assert (surrogate(sample, one_hot_qp(qp)).log_bits < base).all()


def test_backward_the_coding_error_grows_as_the_ladder_says(surrogate, sample):
    """The slope of the mean error along a frame's QP, against the difference of the two rungs around it."""
    surrogate.eval()
    requested = flat(sample, 28).float().requires_grad_()
    frames = surrogate(sample, soft_qp(requested)).frames
    source = sample["frames"].float() / 255
    (slope,) = torch.autograd.grad((frames - source).abs().mean((2, 3, 4)).log().sum(), requested)
    rungs = (sample["ladder_frames"].float() / 255 - source[:, None]).abs().mean((3, 4, 5)).log()
    wanted = (rungs[0, 2] - rungs[0, 1]) / 8
    assert (slope.sum((0, 2, 3))[0] - wanted[0]).abs() < 0.35 * wanted[0]  # the I frame; others lean on it too


def test_the_effective_qp_lies_between_its_own_and_its_references(surrogate, sample):
    torch.manual_seed(0)
    scrambled(surrogate)
    requested = torch.randint(20, 44, (1, 8, 6, 8)).float()
    effective, _ = surrogate._propagate(surrogate.analyse(sample), requested)
    assert (effective >= requested.amin() - 1e-3).all() and (effective <= requested.amax() + 1e-3).all()
    torch.testing.assert_close(effective[:, 0], requested[:, 0])  # an I frame has no reference
    assert (effective - requested).abs().max() > 0.1


@pytest.mark.parametrize("gop", [8, 18])
def test_clips_longer_than_a_gop_and_longer_gops(gop, surrogate, tmp_path):
    """Two GOPs and a piece of a third, and a single long one: quality is carried within a GOP and never across."""
    samples = LadderSamples([make_scene(18, 96, 128)], codec=X264(gop=gop), cache=EncodeCache(tmp_path), qps=QPS, maps_per_clip=5)
    item = default_collate([samples[0]])
    starts = list(range(0, 18, gop))
    assert torch.nonzero(item["frame_types"][0] == FRAME_TYPES.index("I")).flatten().tolist() == starts
    predicted = surrogate.eval()(item, one_hot_qp(torch.full((1, 18, 6, 8), 32)))
    torch.testing.assert_close(predicted.log_bits, torch.log(item["ladder_bits"][:, 2]), rtol=1e-5, atol=1e-4)
    requested = torch.full((1, 18, 6, 8), 40.0)
    requested[:, 0] = 20.0
    effective, _ = surrogate._propagate(surrogate.analyse(item), requested)
    better = (effective[0] < 39.9).flatten(1).any(1)
    assert better[1:8].all() and not better[gop:].any()  # untrained, an eighth of it reaches the next frame
    mixed = surrogate(item, one_hot_qp(item["qp"][0]))
    assert (mixed.log_clip_bits - torch.log(item["coded_bits"][0].sum(1))).abs().max() < 0.6


def test_better_than_the_trivial_answers_on_real_video(bikes, tmp_path):
    """Composed rungs against copying the input, and clip bits within a factor of 1.8, before any learning."""
    clips = [read_clip(bikes, frames=8, start=start, stride=3, size=(144, 256)) for start in (0, 120)]
    cache = EncodeCache(tmp_path)
    qps = tuple(range(12, 52, 4))
    samples = LadderSamples(clips, codec=X264(), cache=cache, qps=qps, maps_per_clip=5, maps_with_frames=4)
    surrogate = build_surrogate("anchored", qps=qps, gop=8, width=16).eval()
    ours, copy = [], []
    for item in (default_collate([samples[i]]) for i in range(len(samples))):
        coded = item["coded_frames"][0].float() / 255
        predicted = surrogate(item, one_hot_qp(item["qp"][0, item["shown"][0]]))
        ours.append((predicted.frames - coded).square().mean((1, 2, 3, 4)))
        copy.append((item["frames"].float() / 255 - coded).square().mean((1, 2, 3, 4)))
        error = predicted.log_clip_bits - torch.log(item["coded_bits"][0, item["shown"][0]].sum(1))
        assert (error.abs() < 0.6).all()
    gain_db = 10 * (torch.cat(copy) / torch.cat(ours)).log10()
    assert len(gain_db) == 8 and gain_db.mean() > 0.5
