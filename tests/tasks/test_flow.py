"""The flow network and its training on tiny pictures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.optical_flow import raft_small

from dvcc.datasets.synthetic import SyntheticClips
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.flow import FlowNetwork, consistent, correlation, load_flow, warp
from dvcc.networks.optical_flow import load_flow_net
from dvcc.pretraining.flow import photometric_loss, supervised_loss, synthetic_error
from dvcc.pretraining.flow_pairs import random_motion, synthetic_bank


@pytest.mark.parametrize("dx, dy", [(2, 0), (-3, 1), (0, -2)])
def test_warp_by_whole_pixels_is_a_shift(dx: int, dy: int) -> None:
    frames = torch.rand(2, 3, 11, 14)
    flow = torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(2, 2, 11, 14)
    warped = warp(frames.roll((dy, dx), (2, 3)), flow)
    torch.testing.assert_close(warped[..., 3:-3, 3:-3], frames[..., 3:-3, 3:-3], atol=1e-5, rtol=0)


def test_warp_repeats_the_border() -> None:
    frames = torch.rand(1, 1, 4, 5)
    warped = warp(frames, torch.full((1, 2, 4, 5), 100.0))
    torch.testing.assert_close(warped, frames[..., -1:, -1:].expand(1, 1, 4, 5))


def test_correlation_is_that_of_shifted_pictures() -> None:
    first, second = torch.rand(2, 2, 5, 11, 13).unbind()
    padded = F.pad(second, (2, 2, 2, 2))
    expected = [(first * padded[..., y : y + 11, x : x + 13]).sum(1) for y in range(5) for x in range(5)]
    torch.testing.assert_close(correlation(first, second, radius=2), torch.stack(expected, 1))


def test_correlation_has_exact_gradients() -> None:
    pair = torch.rand(2, 1, 2, 5, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda pair: correlation(*pair, radius=1), (pair,))


def test_points_that_do_not_come_back_are_not_consistent() -> None:
    right = torch.tensor([4.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 16, 20)
    mask = consistent(right, -right)
    assert mask[..., :16].all() and not mask[..., 16:].any()
    assert not consistent(right, right).any()


@pytest.mark.parametrize("height, width", [(33, 65), (96, 128), (17, 20)])
def test_flow_has_the_size_of_its_input(height: int, width: int) -> None:
    first, second = torch.rand(2, 2, 3, height, width).unbind()
    assert FlowNetwork().eval()(first, second).shape == (2, 2, height, width)


def test_gradients_reach_both_pictures() -> None:
    pair = torch.rand(2, 1, 3, 64, 96, requires_grad=True)
    FlowNetwork().eval()(*pair).square().mean().backward()
    assert pair.grad is not None and (pair.grad.abs().amax((1, 2, 3, 4)) > 0).all()


def test_training_overfits_one_pair() -> None:
    torch.manual_seed(0)
    sample = SyntheticClips(num_clips=1, frames=2, size=(96, 128), seed=3)[0]
    first, second = sample.rgb[:, None] / 255
    network = FlowNetwork().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(60):
        loss, error = supervised_loss(network.levels(first, second), sample.flow)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert error < 0.5 * sample.flow.norm(dim=1).mean()


def test_photometric_loss_prefers_the_true_flow() -> None:
    sample = SyntheticClips(num_clips=1, frames=2, size=(96, 128), seed=3)[0]
    first, second = sample.rgb[:, None] / 255
    seen = sample.visible[:, None].float()
    losses = [photometric_loss(first, second, seen, flow=flow)[0] for flow in (sample.flow, 0 * sample.flow)]
    assert losses[0] < 0.5 * losses[1]


def test_random_motion_is_bounded() -> None:
    motion = random_motion(50, size=(64, 96), reach=8.0)
    centre = motion @ torch.tensor([47.5, 31.5, 1.0])
    assert (centre[:, :2] - torch.tensor([47.5, 31.5])).norm(dim=1).max() <= 8.0


def test_committed_network_beats_no_motion_on_unseen_clips() -> None:
    clips, flows = synthetic_bank(2, seed=777)
    figures = synthetic_error(load_flow(), (clips[:, :2], flows[:, :1]))
    assert figures["epe"] < 0.5 * figures["still_epe"]


def test_rafts_weights_come_from_a_file_and_it_takes_any_size(tmp_path) -> None:
    torch.manual_seed(0)
    net = raft_small(weights=None)
    torch.save(net.state_dict(), tmp_path / "raft.pth")
    loaded = load_flow_net("raft_small", weights=tmp_path / "raft.pth")
    first, second = torch.rand(2, 1, 3, 136, 144).unbind()
    torch.testing.assert_close(loaded(first, second), net.eval()(2 * first - 1, 2 * second - 1)[-1])
    assert loaded(first[..., :50, :71], second[..., :50, :71]).shape == (1, 2, 50, 71)


def test_wrong_flow_networks_are_named(tmp_path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"no optical-flow network 'pwc'.*raft_small"):
        load_flow_net("pwc")
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: set surrogate\.flow_weights=PATH"):
        load_flow_net("raft_small", weights=tmp_path / "nowhere.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))  # which have the file of its authors
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(CheckpointError, match=r"weights of raft_small could not be downloaded .*put https.*raft_small.*\.pth at"):
        load_flow_net("raft_small")


def _no_network(*arguments: object, **options: object) -> None:
    raise OSError("no network")
