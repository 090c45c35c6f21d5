"""Every network of the zoo: offline it says which file to put where; with random weights it keeps its contract."""

from __future__ import annotations

import sys

import pytest
import torch
from torchvision.models import resnet50

from dvcc.errors import CheckpointError, ConfigError, MissingExtraError
from dvcc.networks.build import PAPER, build, zoo_entry
from dvcc.networks.detection import load_detection_net
from dvcc.networks.weights import load_published

NAMES = {task: [entry.name for entry in PAPER if entry.task == task] for task in {entry.task for entry in PAPER}}
HEIGHT, WIDTH = 40, 56


def _no_network(*arguments: object, **options: object) -> None:
    raise OSError("no network")


@pytest.mark.parametrize("entry", PAPER, ids=lambda entry: entry.name)
def test_without_a_network_the_file_to_get_is_named(entry, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(CheckpointError) as caught:
        build(entry.task, entry.name)
    sentence = str(caught.value)
    assert (
        f"weights of {entry.name} " in sentence
        and f"at {entry.weights.path}" in sentence
        and "give the path of a file" in sentence
    )


@pytest.mark.parametrize(
    "task, name, extra",
    [
        ("classification", "resnet50", "zoo"),
        ("classification", "efficientnet_lite0", "classification"),
        ("detection", "detr_resnet50", "zoo"),
    ],
)
def test_without_its_package_the_extra_is_named(task, name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=rf"needs timm, which is not installed: .*'\.\[{extra}\]' in its checkout"):
        build(task, name, random=True)


def test_an_unknown_name_lists_the_zoo():
    with pytest.raises(ConfigError, match="choose one of .*swin_base"):
        build("classification", "swin_large")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES["segmentation"])
def test_segmentation(name):
    net = build("segmentation", name, random=True)
    logits = net(torch.randn(1, 3, HEIGHT, WIDTH))
    assert logits.shape == (1, net.num_classes, HEIGHT, WIDTH) and net.num_classes == 19


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES["detection"])
def test_detection(name):
    torch.manual_seed(0)
    net = build("detection", name, random=True)
    if hasattr(net.net, "roi_heads"):
        net.net.roi_heads.score_thresh = -1.0  # random weights are sure of nothing
    images = torch.rand(1, 3, 16, 64, requires_grad=True)  # wide: the networks scale it to 333x1333 instead of 800 by more
    candidates = net(images)
    assert candidates.shape == (1, 100, 84) and net.num_classes == 80
    assert candidates.min() >= 0 and candidates.max() <= 1 and candidates[..., 4:].any()
    candidates.square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES["classification"])
def test_classification(name):
    net = build("classification", name, random=True)
    assert net(torch.rand(1, 3, HEIGHT, WIDTH)).shape == (1, net.num_classes) == (1, 1000)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES["optical_flow"])
def test_optical_flow(name):
    pair = torch.rand(2, 1, 3, HEIGHT, WIDTH)
    assert build("optical_flow", name, random=True)(*pair).shape == (1, 2, HEIGHT, WIDTH)


@pytest.mark.exhaustive
def test_torchvisions_file_is_the_same_network_by_path_and_by_name(monkeypatch, tmp_path):
    """Batch norm's epsilon is not in the file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = zoo_entry("detection", "fasterrcnn_resnet50_fpn").weights.path
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(build("detection", "fasterrcnn_resnet50_fpn", random=True).net.state_dict(), path)
    pictures = torch.rand(1, 3, 64, 64)
    by_name, by_path = (build("detection", "fasterrcnn_resnet50_fpn", weights=w).net.backbone(pictures) for w in (None, path))
    torch.testing.assert_close(by_path, by_name, rtol=1e-6, atol=0)


@pytest.mark.exhaustive
def test_detr_loads_the_names_of_the_published_files(tmp_path, capfd):
    torch.manual_seed(0)
    net = load_detection_net("detr_resnet50", random=True)
    net.net.save_pretrained(tmp_path)  # under the names of the hub's files
    path = tmp_path / "model.safetensors"
    state = dict(load_published(path, key="task.weights"))
    assert {"model.backbone.conv_encoder.model.conv1.weight", "model.decoder.layers.5.encoder_attn.out_proj.bias"} <= set(state)
    capfd.readouterr()
    loaded = load_detection_net("detr_resnet50", weights=path)
    assert capfd.readouterr() == ("", "")
    for name, tensor in net.net.state_dict().items():
        assert torch.equal(tensor, loaded.net.state_dict()[name])
    torch.save({name: tensor[:4] if "class_labels" in name else tensor for name, tensor in state.items()}, tmp_path / "few.pth")
    torch.save({name: tensor for name, tensor in state.items() if "decoder" not in name}, tmp_path / "partial.pth")
    for file in ("few.pth", "partial.pth"):
        with pytest.raises(CheckpointError, match=f"{file} holds weights of another model than detr_resnet50"):
            load_detection_net("detr_resnet50", weights=tmp_path / file)


@pytest.mark.exhaustive
def test_detr_takes_its_authors_names(tmp_path):
    """Layers of torch under the authors' names and transformers' own layers say the same."""
    torch.manual_seed(0)
    whole = load_detection_net("detr_resnet50", random=True)
    transformer = torch.nn.Module()
    sizes = {"d_model": 256, "nhead": 8, "dim_feedforward": 2048, "dropout": 0.0, "batch_first": True}
    transformer.encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(**sizes), 6, enable_nested_tensor=False)
    transformer.decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**sizes), 6, norm=torch.nn.LayerNorm(256))
    transformer.eval()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    body = resnet50(weights=None).state_dict()
    state = {f"transformer.{name}": x for name, x in transformer.state_dict().items()}
    state |= {f"backbone.0.body.{name}": x for name, x in body.items() if "fc." not in name and "num_batches" not in name}
    shapes = {"class_embed": (92, 256), "bbox_embed.layers.0": (256, 256), "bbox_embed.layers.1": (256, 256)}
    shapes |= {"bbox_embed.layers.2": (4, 256), "input_proj": (256, 2048, 1, 1)}
    for name, shape in shapes.items():
        state |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    state["query_embed.weight"] = torch.randn(100, 256)
    torch.save({"model": state}, tmp_path / "detr-r50.pth")
    loaded = load_detection_net("detr_resnet50", weights=tmp_path / "detr-r50.pth").net.eval()
    converted = loaded.state_dict()
    assert len(converted) == len(whole.net.state_dict())
    assert torch.equal(converted["class_labels_classifier.weight"], state["class_embed.weight"])
    assert torch.equal(converted["model.backbone.model.layer4.2.bn3.running_var"], body["layer4.2.bn3.running_var"])
    memory, queries = torch.randn(1, 12, 256), torch.randn(1, 5, 256)
    with torch.no_grad():
        for part, inputs in (("encoder", (memory,)), ("decoder", (queries, memory))):
            theirs = getattr(loaded.model, part).layers[5]
            ours = getattr(transformer, part).layers[5](*inputs)
            more = {"attention_mask": None} if part == "encoder" else {"encoder_hidden_states": memory}
            answer = theirs(inputs[0], **more)
            torch.testing.assert_close(answer[0] if isinstance(answer, tuple) else answer, ours, rtol=1e-4, atol=1e-4)


class _Evil:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_weights_that_could_run_code_are_refused_without_advice_to_run_it(tmp_path, capsys):
    torch.save({"weight": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth holds more than tensors.* is not loaded") as caught:
        load_published(tmp_path / "evil.pth", key="task.weights")
    assert "weights_only" not in str(caught.value) and "trust" not in str(caught.value)
    assert capsys.readouterr().out == ""
