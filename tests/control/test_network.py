"""The control starts at x264 itself, sees only the past, and reads its target."""

import math

import pytest
import torch

from dvcc.control.network import ControlNetwork, centred, load_network, mean_so_far, reduced
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.weights import Weights, save_weights


@pytest.fixture
def control() -> ControlNetwork:
    torch.manual_seed(0)
    return ControlNetwork(width=16)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (2, 5, 3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def train_a_little(control: ControlNetwork) -> None:
    torch.nn.init.normal_(control.head.weight, std=0.3)


def test_an_untrained_control_moves_nothing(control, frames):
    offsets = control.offsets(frames, torch.tensor([-3.0, -2.0]))
    assert offsets.shape == (2, 5, 5, 6) and not offsets.any()


def test_the_prior_learns_the_rate_of_flat_maps(control):
    generator = torch.Generator().manual_seed(0)
    contrast = torch.rand(40, generator=generator) * 0.4 + 0.1
    clips = [c * torch.rand(4, 3, 32, 48, generator=generator) for c in contrast]
    qps = torch.arange(16.0, 48, 4)
    log_bpp = torch.log(contrast)[:, None] - 0.11 * (qps - 30)
    assert control.prior.fit(clips, log_bpp, qps) < 1.0
    torch.testing.assert_close(control.prior(reduced(clips[3][None]), log_bpp[3, 2:3]), qps[2:3], atol=1.5, rtol=0)
    low, high = (control.prior(reduced(clips[0][None]), torch.tensor([b])) for b in (-4.0, -2.0))
    assert low > high  # fewer bits, coarser
    with pytest.raises(ConfigError, match="at least"):
        control.prior.fit(clips[:2], log_bpp[:2, :2], qps[:2])


def test_a_single_frame_has_a_prior(control):
    assert torch.isfinite(control.prior(reduced(torch.rand(1, 1, 3, 32, 48)), torch.tensor([-3.0]))).all()


def test_a_frames_delta_depends_on_no_later_frame(control, frames):
    train_a_little(control)
    log_bpp, mean_qps = torch.tensor([-3.0, -2.0]), torch.tensor([30.0, 30.0])
    before = control.delta_qp(reduced(frames), log_bpp, mean_qps)
    changed = frames.clone()
    changed[:, 3:] = 255 - changed[:, 3:]
    after = control.delta_qp(reduced(changed), log_bpp, mean_qps)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3], before[:, 3])


def test_the_delta_stays_within_its_bound_and_depends_on_the_target(control, frames):
    train_a_little(control)
    mean_qps = torch.tensor([30.0, 30.0])
    coarse, fine = (control.delta_qp(reduced(frames), torch.full((2,), b), mean_qps) for b in (-4.0, -1.0))
    assert coarse.abs().max() <= control.config["max_delta_qp"] and not torch.allclose(coarse, fine)


def test_it_stays_small():
    assert sum(parameter.numel() for parameter in ControlNetwork().parameters()) < 2_000_000


def test_weights_survive_the_disk_and_bad_files_are_named(control, frames, tmp_path):
    train_a_little(control)
    control.save(tmp_path / "control.safetensors", {"run": {"task": "segmentation"}})
    loaded, config = load_network(tmp_path / "control.safetensors")
    assert config["run"] == {"task": "segmentation"}
    log_bpp = torch.tensor([math.log(0.05)] * 2)
    torch.testing.assert_close(loaded.offsets(frames, log_bpp), control.offsets(frames, log_bpp))
    save_weights(tmp_path / "s.safetensors", Weights("surrogate", {}, {"a": torch.ones(1)}))
    with pytest.raises(CheckpointError, match="'surrogate'.*'control'"):
        load_network(tmp_path / "s.safetensors")


def test_the_mean_so_far_begins_anew_with_every_gop():
    x = torch.arange(7.0).view(1, 7, 1, 1)
    expected = [0, 0.5, 1, 3, 3.5, 4, 6]
    torch.testing.assert_close(mean_so_far(x, gop=3).flatten(), torch.tensor(expected))


def test_offsets_say_where_to_spend_and_not_when(control, frames):
    """0 on average in every frame, and of no later frame; a new GOP forgets."""
    train_a_little(control)
    log_bpp = torch.tensor([-3.0, -2.0])
    offsets = control.offsets(frames, log_bpp)
    torch.testing.assert_close(offsets.mean((2, 3)), torch.zeros(2, 5), atol=1e-5, rtol=0)
    assert offsets.abs().max() > 0.5
    small, mean_qps = reduced(frames), torch.tensor([30.0, 30.0])
    changed = small.clone()
    changed[:, 3:] = 1 - changed[:, 3:]

    def steady(x):
        return centred(mean_so_far(control.delta_qp(x, log_bpp, mean_qps, gop=4), gop=4))

    before, after = steady(small), steady(changed)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3], before[:, 3])
    changed = small.clone()
    changed[:, :3] = 1 - changed[:, :3]
    torch.testing.assert_close(steady(changed)[:, 4], before[:, 4])


def test_a_blur_makes_small_steps(frames):
    """The delta of random macroblocks changes less from one to the next."""
    torch.manual_seed(0)
    rough, smooth = (ControlNetwork(width=16, blur_sigma=value) for value in (0.0, 1.5))
    train_a_little(rough)
    smooth.load_state_dict(rough.state_dict())
    small, mean_qps = reduced(frames), torch.tensor([30.0, 30.0])
    steps = [c.delta_qp(small, torch.tensor([-3.0, -2.0]), mean_qps).diff(dim=-1).abs().mean() for c in (rough, smooth)]
    assert steps[1] < 0.4 * steps[0]


def test_without_a_picture_it_weighs_planes_and_their_surroundings():
    torch.manual_seed(0)
    network = ControlNetwork(width=0, extra_planes=2, blur_sigma=0.0, analysis={})
    assert sum(parameter.numel() for parameter in network.parameters()) == 3 * 2 + 1
    planes, frames = torch.randn(1, 1, 2, 9, 12), torch.rand(1, 1, 3, 144, 192)
    squares = [torch.nn.functional.avg_pool2d(planes[0], side, 1, side // 2, count_include_pad=False) for side in (1, 3, 7)]
    wanted = centred((0.5 * squares[0][:, 0] - 2.0 * squares[2][:, 1])[None])
    optimizer, rate = torch.optim.Adam(network.parameters(), lr=0.01), torch.tensor([-3.0])
    for _ in range(300):
        optimizer.zero_grad()
        loss = (network.offsets(frames, rate, planes=planes) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01 * wanted.square().mean()
    other = network.offsets(torch.zeros_like(frames), rate + 2, planes=planes)
    assert torch.equal(network.offsets(frames, rate, planes=planes), other)
