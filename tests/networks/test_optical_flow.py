"""RAFT by name: the weights that the paper used, SMURF's from a file."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.optical_flow import raft_small

from dvcc.errors import CheckpointError
from dvcc.networks.optical_flow import load_flow_net
from dvcc.networks.zoo import ZOO


def test_raft_takes_the_file_in_torchs_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = ZOO["optical_flow", "raft_small"].weights.path
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    net = raft_small(weights=None)
    torch.save(net.state_dict(), path)
    pair = torch.rand(2, 1, 3, 128, 136)
    torch.testing.assert_close(load_flow_net("raft_small")(*pair), net.eval()(*(2 * pair - 1))[-1])


def test_smurf_is_raft_large_with_weights_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"smurf are not at .*: put SMURF's weights, under the names of torchvision's raft_large"
    ):
        load_flow_net("smurf")
    net = load_flow_net("raft_large", random=True)
    path = ZOO["optical_flow", "smurf"].weights.path
    path.parent.mkdir(parents=True)
    torch.save(net.net.state_dict(), path)
    loaded = load_flow_net("smurf")
    assert all(torch.equal(x, net.state_dict()[name]) for name, x in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
