"""COCO on a tiny copy of its layout: corners as shares, class numbers, crowds."""

import json
import shutil

import pytest
import torch

from dvcc import ConfigError, VideoError
from dvcc.datasets import build_dataset
from dvcc.datasets.coco import CATEGORY_IDS
from dvcc.media.protocols import PAPER
from tests.datasets import replicas
from tests.datasets.replicas import paint

ANNOTATIONS = "annotations/instances_val2017.json"


@pytest.fixture
def root(tmp_path):
    return replicas.coco(tmp_path)


def test_boxes_are_shares_and_classes_count_from_zero(root):
    data = build_dataset("coco", root)
    assert [(example.name, example.group) for example in data] == [
        (number, number) for number in ("000000000139", "000000000285", "000000000632")
    ]
    assert data.num_classes == 3
    labels = [example.load()[1] for example in data]
    assert labels[0].tolist() == [[[0.25, 0.25, 0.5, 0.75, 2], [0.5, 0, 1, 1, 0]]]  # the crowd is left out
    # A third of 33 columns, of which the last goes; the bottom is cut at the picture's.
    assert labels[1][0, 0].tolist() == pytest.approx([11 / 32, 12 / 48, 1, 1, 1]) and labels[1].shape == (1, 1, 5)
    assert labels[2].shape == (1, 0, 5)
    clip, fitted = data[0].load(PAPER["detection"])
    assert (clip.height, clip.width) == (480, 640) and torch.equal(fitted, labels[0])


def test_the_numbers_of_networks_with_91_scores():
    """The last of COCO's 80 is 90, the toothbrush; 12 is the first gap, so the stop sign, 13, is class 11."""
    assert (len(CATEGORY_IDS), CATEGORY_IDS[0], CATEGORY_IDS[11], CATEGORY_IDS[79]) == (80, 1, 13, 90)
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    named = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    assert [i for i, name in enumerate(named) if name not in ("N/A", "__background__")] == list(CATEGORY_IDS)


def test_missing_pieces_are_named(root):
    picture = paint(root / "val2017/000000000139.jpg", size=(32, 48))
    with pytest.raises(VideoError, match=rf"{picture} is 32x48, but its annotations are for 32x64: get the picture again"):
        build_dataset("coco", root)[0].load()
    picture.unlink()
    with pytest.raises(
        ConfigError, match=rf"1 of 3 pictures are missing, the first is {picture}; expected: ROOT/val2017/\*\.jpg"
    ):
        build_dataset("coco", root)
    content = (root / ANNOTATIONS).read_text()
    captions = {**json.loads(content), "annotations": [{"image_id": 139, "caption": "a living room"}]}
    for wrong in (content[:-9], "[]", json.dumps(captions)):
        (root / ANNOTATIONS).write_text(wrong)
        with pytest.raises(ConfigError, match=r"instances_val2017\.json is not a file of COCO instances \(.*\); expected: ROOT"):
            build_dataset("coco", root)
    (root / ANNOTATIONS).unlink()
    with pytest.raises(ConfigError, match=r"annotations/instances_val2017\.json does not exist; expected: "):
        build_dataset("coco", root)
    shutil.rmtree(root / "val2017")
    with pytest.raises(ConfigError, match=r"val2017 does not exist; expected: "):
        build_dataset("coco", root)


def test_a_set_of_ones_own_in_cocos_format(tmp_path):
    replicas.coco(tmp_path)
    expected = [example.load()[1] for example in build_dataset("coco", tmp_path)]
    (tmp_path / "val2017").rename(tmp_path / "images")
    (tmp_path / "annotations" / "instances_val2017.json").rename(tmp_path / "instances.json")
    labels = [example.load()[1] for example in build_dataset("coco", tmp_path)]
    assert all(torch.equal(*pair) for pair in zip(labels, expected, strict=True)) and len(labels) == 3
