"""What the anchored surrogate promises before any learning."""

import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264, read_clip
from dvcc.data.ladder import EncodeCache
from dvcc.data.module import LadderSamples
from dvcc.surrogates import build_surrogate, one_hot_qp
from tests.conftest import make_scene

QPS = (16, 24, 32, 40, 48)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    cache = EncodeCache(tmp_path_factory.mktemp("cache"))
    samples = LadderSamples([make_scene(height=96, width=128)], codec=X264(), cache=cache, qps=QPS, maps_per_clip=6)
    return [default_collate([samples[i]]) for i in range(6)]


@pytest.fixture
def surrogate():
    return build_surrogate("anchored", qps=QPS, gop=8, width=16)


@pytest.mark.parametrize("rung", range(5))
def test_flat_maps_at_a_rung_are_exact(rung, surrogate, sample):
    qp = torch.full_like(sample[0]["qp"], QPS[rung])
    predicted = surrogate(sample[0], one_hot_qp(qp))
    torch.testing.assert_close(predicted.frames, sample[0]["ladder_frames"][:, rung].float() / 255)
    torch.testing.assert_close(predicted.log_bits, torch.log(sample[0]["ladder_bits"][:, rung]), rtol=1e-5, atol=1e-4)


def test_every_macroblock_is_one_rung_never_a_blend(surrogate, sample):
    surrogate.train()
    qp = torch.full_like(sample[0]["qp"], 28)
    frames = surrogate(sample[0], one_hot_qp(qp)).frames[0]
    rungs = sample[0]["ladder_frames"][0].float() / 255
    distances = (rungs - frames).abs().unfold(-2, 16, 16).unfold(-2, 16, 16).amax((-1, -2, 2))  # r t h w
    assert (distances.amin(0) < 1e-6).all()
    chosen = distances.argmin(0)
    assert set(chosen.unique().tolist()) == {1, 2}  # the rungs around 28


def test_a_coarser_macroblock_costs_fewer_bits(surrogate, sample):
    qp = torch.full_like(sample[0]["qp"], 24)
    base = surrogate(sample[0], one_hot_qp(qp)).log_bits
    qp[:, :, :, 4:] = 40
    assert (surrogate(sample[0], one_hot_qp(qp)).log_bits < base).all()


def test_better_than_the_trivial_answers_on_real_video(surrogate, bikes, tmp_path):
    """Composed rungs against copying the input, and clip bits within a factor of 1.8, before any learning."""
    clips = [read_clip(bikes, frames=8, start=start, stride=3, size=(144, 256)) for start in (0, 120)]
    samples = LadderSamples(clips, codec=X264(), cache=EncodeCache(tmp_path), qps=QPS, maps_per_clip=4)
    surrogate.eval()
    ours, copy = [], []
    for item in (default_collate([samples[i]]) for i in range(len(samples))):
        coded = item["coded_frames"].float() / 255
        predicted = surrogate(item, one_hot_qp(item["qp"]))
        ours.append((predicted.frames - coded).square().mean())
        copy.append((item["frames"].float() / 255 - coded).square().mean())
        error = predicted.log_clip_bits - torch.log(item["coded_bits"].sum(1))
        assert error.abs() < 0.6
    assert torch.stack(ours).mean() < 0.9 * torch.stack(copy).mean()
