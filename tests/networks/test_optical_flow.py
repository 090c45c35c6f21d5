"""RAFT and SMURF by name: weights in the layouts that they are published in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large, raft_small

from dvcc.errors import CheckpointError
from dvcc.media.pictures import read_rgb
from dvcc.networks.optical_flow import load_flow_net
from dvcc.networks.raft import build_smurf, load_raft
from dvcc.networks.sources import assets_folder
from dvcc.networks.zoo import ZOO


def _authors_small() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published raft-small.pth: bottleneck blocks of 1x1, 3x3, 1x1, no norm has parameters."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, inputs: int, outputs: int, size: int) -> None:
        shapes[f"module.{name}.weight"], shapes[f"module.{name}.bias"] = (outputs, inputs, size, size), (outputs,)

    for encoder, last in (("fnet", 128), ("cnet", 160)):
        conv(f"{encoder}.conv1", 3, 32, 7)
        for layer, (inputs, outputs) in enumerate(((32, 32), (32, 64), (64, 96)), 1):
            for block, channels in enumerate((inputs, outputs)):
                inner = outputs // 4
                for number, sizes in enumerate(((channels, inner, 1), (inner, inner, 3), (inner, outputs, 1)), 1):
                    conv(f"{encoder}.layer{layer}.{block}.conv{number}", *sizes)
                if layer > 1 and block == 0:
                    conv(f"{encoder}.layer{layer}.0.downsample.0", channels, outputs, 1)
        conv(f"{encoder}.conv2", 96, last, 1)
    for name, sizes in {"convc1": (196, 96, 1), "convf1": (2, 64, 7), "convf2": (64, 32, 3), "conv": (128, 80, 3)}.items():
        conv(f"update_block.encoder.{name}", *sizes)
    for gate in "zrq":
        conv(f"update_block.gru.conv{gate}", 242, 96, 3)
    conv("update_block.flow_head.conv1", 96, 128, 3)
    conv("update_block.flow_head.conv2", 128, 2, 3)
    return shapes


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_raft_takes_the_file_in_torchs_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))
    path = ZOO["optical_flow", "raft_small"].weights.path
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    net = raft_small(weights=None)
    torch.save(net.state_dict(), path)
    pair = torch.rand(2, 1, 3, 128, 136)
    loaded = load_flow_net("raft_small")
    torch.testing.assert_close(loaded(*pair), net.eval()(*(2 * pair - 1))[-1])
    assert loaded.words == "raft_small_C_T_V2-01064c6d.pth in torchvision's layout"


def test_raft_small_takes_its_authors_names_and_their_file_serves_where_torchvisions_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))
    path = tmp_path / "models" / "optical_flow" / "raft-small.pth"
    path.parent.mkdir(parents=True)
    state = _random(_authors_small())
    assert len(state) == 106
    torch.save(state, path)
    net = load_flow_net("raft_small")
    assert net.words == "raft-small.pth in the authors' names"
    ours = net.net.state_dict()
    assert len(ours) == len(state)
    for name, authors in {
        "feature_encoder.convnormrelu.0.weight": "fnet.conv1.weight",
        "context_encoder.conv.bias": "cnet.conv2.bias",
        "context_encoder.layer3.0.convnormrelu2.0.weight": "cnet.layer3.0.conv2.weight",
        "feature_encoder.layer2.0.downsample.0.weight": "fnet.layer2.0.downsample.0.weight",
        "update_block.motion_encoder.convflow1.0.weight": "update_block.encoder.convf1.weight",
        "update_block.recurrent_block.convgru1.convr.weight": "update_block.gru.convr.weight",
    }.items():
        assert torch.equal(ours[name], state[f"module.{authors}"])


def test_raft_large_takes_its_authors_names():
    """Its batch norms, the one of a shortcut under two names, two GRUs and the mask."""
    torch.manual_seed(0)
    state = raft_large(weights=None).state_dict()
    authors = {}
    for name, tensor in state.items():
        for ours, theirs in (
            ("feature_encoder.", "module.fnet."),
            ("context_encoder.", "module.cnet."),
            ("mask_predictor.convrelu.0", "module.update_block.mask.0"),
            ("mask_predictor.conv", "module.update_block.mask.2"),
            ("update_block.flow_head", "module.update_block.flow_head"),
            ("update_block.motion_encoder.convcorr1.0", "module.update_block.encoder.convc1"),
            ("update_block.motion_encoder.convcorr2.0", "module.update_block.encoder.convc2"),
            ("update_block.motion_encoder.convflow1.0", "module.update_block.encoder.convf1"),
            ("update_block.motion_encoder.convflow2.0", "module.update_block.encoder.convf2"),
            ("update_block.motion_encoder.conv.0", "module.update_block.encoder.conv"),
            *(
                (f"update_block.recurrent_block.convgru{n}.conv{g}", f"module.update_block.gru.conv{g}{n}")
                for n in "12"
                for g in "zrq"
            ),
            ("net.convnormrelu.0", "net.conv1"),
            ("net.convnormrelu.1", "net.norm1"),
            ("net.conv.", "net.conv2."),
            *((f".convnormrelu{n}.{i}", f".{kind}{n}") for n in "12" for i, kind in ((0, "conv"), (1, "norm"))),
        ):
            name = name.replace(ours, theirs)
        authors[name] = tensor
        if "downsample.1" in name:
            authors[name.replace("downsample.1", "norm3")] = tensor
    assert "module.cnet.layer2.0.norm3.running_mean" in authors and "module.cnet.norm1.weight" in authors
    loaded = load_raft("raft_large", authors, path="raft-things.pth").net.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["", "raft."])
def test_smurfs_port_has_no_parameters_of_norms_and_correlations_row_by_row(prefix):
    torch.manual_seed(0)
    large = raft_large(weights=None).state_dict()
    norms = {name for name in large if name.rsplit(".", 1)[0] + ".running_mean" in large}
    port = {prefix + name: x for name, x in large.items() if name not in norms}
    assert len(port) == 94 and len(norms) == 75
    net = load_raft("smurf", port, path="smurf_sintel.pt")
    assert net.words.endswith("layout of SMURF's port")
    loaded = net.net.state_dict()
    assert len(loaded) == 94 and all(torch.equal(loaded[name.removeprefix(prefix)], x) for name, x in port.items())
    features = torch.rand(2, 1, 8, 16, 16)
    centres = torch.rand(1, 2, 16, 16) * 15
    pyramids = []
    for block in (net.net.corr_block, raft_large(weights=None).corr_block):
        block.build_pyramid(*features)
        pyramids.append(block.index_pyramid(centroids_coords=centres).unflatten(1, (4, 9, 9)))
    torch.testing.assert_close(pyramids[0], pyramids[1].transpose(2, 3))
    correlation = torch.einsum("c,chw->hw", features[0, 0, :, 0, 0], features[1, 0]) / 8**0.5
    net.net.corr_block.build_pyramid(*features)
    at_corner = net.net.corr_block.index_pyramid(centroids_coords=torch.full((1, 2, 16, 16), 5.0)).unflatten(1, (4, 9, 9))
    torch.testing.assert_close(at_corner[0, 0, :, :, 0, 0], correlation[1:10, 1:10])


def test_smurf_in_torchvisions_layout_is_raft_large(monkeypatch, tmp_path):
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"smurf are not at .*: put SMURF's weights, as its PyTorch port or torchvision's"):
        load_flow_net("smurf")
    torch.manual_seed(0)
    state = raft_large(weights=None).state_dict()
    path = ZOO["optical_flow", "smurf"].weights.path
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    loaded = load_flow_net("smurf")
    assert all(torch.equal(x, state[name]) for name, x in loaded.net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_another_networks_state_is_refused_in_one_sentence():
    for state in (raft_large(weights=None).state_dict(), build_smurf().state_dict(), {"fnet.conv1.weight": torch.zeros(1)}, {}):
        with pytest.raises(CheckpointError, match=r"x\.pth holds weights of another model than RAFT .*choose the matching"):
            load_raft("raft_small", state, path="x.pth")
    with pytest.raises(CheckpointError, match="no state dict of raft_small"):
        load_raft("raft_small", {0: torch.zeros(1)}, path="x.pth")


@pytest.mark.exhaustive
@pytest.mark.parametrize("pair, error", [("rubberwhale", 0.31), ("urban2", 0.53)])
def test_raft_small_of_the_assets_has_its_published_error(pair, error):
    folder = assets_folder() / "labelled" / "flow"
    if not folder.exists() or not (assets_folder() / "models" / "optical_flow" / "raft-small.pth").exists():
        pytest.skip("needs the assets' RAFT small and Middlebury pairs")
    path = assets_folder() / "models" / "optical_flow" / "raft-small.pth"
    net = load_flow_net("raft_small", weights=path)
    frames = [read_rgb(folder / f"middlebury_{pair}_{i}.png")[None].float() / 255 for i in (0, 1)]
    stored = (folder / f"middlebury_{pair}.flo").read_bytes()
    width, height = np.frombuffer(stored[4:12], np.int32)
    true = torch.from_numpy(np.frombuffer(stored[12:], np.float32).reshape(height, width, 2).copy()).permute(2, 0, 1)
    finite = (true.abs() < 1e9).all(0)
    with torch.no_grad():
        flow = net(*frames)[0]
    assert float((flow - true).norm(dim=0)[finite].mean()) == pytest.approx(error, abs=0.01)
