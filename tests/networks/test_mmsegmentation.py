"""DeepLabV3 and UPerNet: the layout of MMSegmentation's checkpoints, the size of the answer, files that do not fit."""

from __future__ import annotations

import pytest
import torch

from dvcc.errors import CheckpointError
from dvcc.networks.loading import Normalise
from dvcc.networks.mmsegmentation import MMSEGMENTATION_NETS, Backbone, build_mmsegmentation
from dvcc.networks.segmentation import load_segmentation_net

SMALLEST = "deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769"

# Names and shapes in MMSegmentation's published state dicts.
KNOWN = {
    "deeplabv3_r18": {
        "backbone.stem.0.weight": (32, 3, 3, 3),
        "backbone.layer4.1.conv2.weight": (512, 512, 3, 3),
        "decode_head.conv_seg.weight": (19, 128, 1, 1),
        "decode_head.image_pool.1.conv.weight": (128, 512, 1, 1),
    },
    "deeplabv3_r50": {
        "backbone.stem.6.weight": (64, 32, 3, 3),
        "backbone.stem.7.running_mean": (64,),
        "backbone.layer1.0.conv1.weight": (64, 64, 1, 1),
        "backbone.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "decode_head.aspp_modules.0.conv.weight": (512, 2048, 1, 1),
        "decode_head.aspp_modules.3.conv.weight": (512, 2048, 3, 3),
        "decode_head.aspp_modules.3.bn.weight": (512,),
        "decode_head.bottleneck.conv.weight": (512, 2560, 3, 3),
        "decode_head.conv_seg.bias": (19,),
    },
    "deeplabv3_r101": {"backbone.layer3.22.conv3.weight": (1024, 256, 1, 1), "decode_head.conv_seg.weight": (19, 512, 1, 1)},
    "upernet_r50": {
        "backbone.layer3.5.bn3.running_var": (1024,),
        "decode_head.psp_modules.3.1.conv.weight": (512, 2048, 1, 1),
        "decode_head.bottleneck.conv.weight": (512, 4096, 3, 3),
        "decode_head.lateral_convs.0.conv.weight": (512, 256, 1, 1),
        "decode_head.fpn_convs.2.bn.bias": (512,),
        "decode_head.fpn_bottleneck.conv.weight": (512, 2048, 3, 3),
    },
    "upernet_r101": {"backbone.layer3.22.conv3.weight": (1024, 256, 1, 1), "decode_head.conv_seg.weight": (19, 512, 1, 1)},
}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file as MMSegmentation saves it, with random weights: "meta" and "state_dict", the auxiliary head too."""
    torch.manual_seed(0)
    net = build_mmsegmentation(SMALLEST)
    state = net.state_dict() | {"auxiliary_head.conv_seg.weight": torch.zeros(19, 64, 1, 1)}
    path = tmp_path_factory.mktemp("mmsegmentation") / "official.pth"
    torch.save({"meta": {"CLASSES": ("road",) * 19, "PALETTE": [[0, 0, 0]], "mmseg_version": "0.9"}, "state_dict": state}, path)
    return path, net.eval()


@pytest.mark.parametrize("name", MMSEGMENTATION_NETS)
def test_names_and_shapes_are_those_of_the_published_files(name):
    with torch.device("meta"):
        state = build_mmsegmentation(name).state_dict()
    expected = KNOWN["_".join(name.split("_")[:2]).removesuffix("-d8")]
    assert {key: tuple(state[key].shape) for key in expected} == expected
    assert {key.partition(".")[0] for key in state} == {"backbone", "decode_head"}


@pytest.mark.parametrize("dilated, last", [(True, 5), (False, 2)])
@pytest.mark.parametrize("depth", [18, 50])
def test_a_dilated_backbone_stops_at_an_eighth(depth, dilated, last):
    with torch.device("meta"):
        features = Backbone(depth, dilated=dilated)(torch.zeros(1, 3, 33, 64))
    assert [tuple(x.shape[-2:]) for x in (features[1], features[3])] == [(5, 8), (last, 8 if dilated else 2)]
    dilations = [c.dilation[0] for c in Backbone(depth, dilated=True).layer4.modules() if getattr(c, "dilation", (1,))[0] > 1]
    assert dilations == ([2, 4] if depth == 18 else [2, 4, 4])


def test_an_official_checkpoint_loads_and_answers_at_the_pictures_size(official):
    path, net = official
    loaded = load_segmentation_net(SMALLEST, weights=path).eval()
    images = torch.randn(2, 3, 49, 65)
    logits = loaded(images)
    assert loaded.num_classes == 19 and logits.shape == (2, 19, 49, 65)
    torch.testing.assert_close(logits, net(Normalise()(images)), rtol=1e-4, atol=1e-4)


def test_files_that_do_not_fit_are_named(official, tmp_path):
    path, net = official
    state = net.state_dict()
    few = {key: x[:12] if key.startswith("decode_head.conv_seg") else x for key, x in state.items()}
    partial = {key: x for key, x in state.items() if not key.startswith("backbone.stem")}
    for name, content in {
        "few.pth": {"state_dict": few},
        "partial.pth": {"state_dict": partial},
        "list.pth": {"state_dict": [1]},
    }.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(CheckpointError, match=name):
            load_segmentation_net(SMALLEST, weights=tmp_path / name)
    with pytest.raises(CheckpointError, match="another model"):
        load_segmentation_net("upernet_r50_4xb2-40k_cityscapes-769x769", weights=path)


@pytest.mark.filterwarnings("ignore")  # of MMSegmentation's own
@pytest.mark.parametrize("name", MMSEGMENTATION_NETS)
def test_the_logits_are_mmsegmentations_own(name):
    pytest.importorskip("mmseg")
    from benchmarks.mmsegmentation_parity import largest_difference

    assert largest_difference(name)[1] < 1e-5
