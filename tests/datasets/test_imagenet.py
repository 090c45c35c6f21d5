"""ImageNet on a tiny copy of torchvision's layout: class numbers that networks mean, and those of one's own classes."""

import sys

import pytest

from dvcc import ConfigError
from dvcc.datasets import build_dataset
from dvcc.datasets.imagenet import class_numbers
from dvcc.media.protocols import PAPER
from tests.datasets import replicas
from tests.datasets.replicas import paint


@pytest.fixture
def root(tmp_path):
    return replicas.imagenet(tmp_path)


def classes(root):
    return [example.load()[1].tolist() for example in build_dataset("imagenet", root)]


def test_a_part_of_imagenet_keeps_its_numbers(root):
    data = build_dataset("imagenet", root)
    assert [example.name for example in data] == [
        "n01440764/ILSVRC2012_val_00000293.JPEG",
        "n01484850/ILSVRC2012_val_00000001.JPEG",
        "n15075141/ILSVRC2012_val_00000017.JPEG",
    ]
    assert classes(root) == [[0], [2], [999]] and data.num_classes == 1000
    clips = [example.load(PAPER["classification"])[0] for example in data]
    assert [(clip.height, clip.width) for clip in clips] == [(224, 224)] * 3


def test_all_1000_folders_are_numbered_by_their_order(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.data", None)  # not needed
    names = [f"n{number:08d}" for number in range(1000)]
    assert class_numbers(names) == ({name: i for i, name in enumerate(names)}, 1000)
    with pytest.raises(ConfigError, match=r"ROOT/val has 999 of ImageNet's 1000 classes, .*: pip install timm"):
        class_numbers(names[1:])


def test_classes_of_ones_own_are_numbered_by_their_order(tmp_path):
    for name in ("wasp", "bee", "n99999999"):
        paint(tmp_path / "val" / name / "1.png")
    assert classes(tmp_path) == [[0], [1], [2]] and build_dataset("imagenet", tmp_path).num_classes == 3
    assert class_numbers(["n01440764", "n99999999"]) == ({"n01440764": 0, "n99999999": 1}, 2)


def test_pictures_without_class_folders_are_answered(tmp_path):
    paint(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")  # as the published archive unpacks
    with pytest.raises(ConfigError, match=r"val has no pictures named \*/\*; expected: ROOT/val/n01440764/\*\.JPEG, one folder"):
        build_dataset("imagenet", tmp_path)


def test_a_table_of_classes_beside_one_folder_of_pictures(tmp_path):
    for name in ("b.jpg", "a.jpg"):
        paint(tmp_path / "images" / name)
    table = tmp_path / "labels.tsv"
    table.write_text("file\tclass_index\tname\nb.jpg\t7\tcock\na.jpg\t999\ttoilet tissue\n")
    data = build_dataset("imagenet", tmp_path)
    assert [(one.name, int(one.load()[1])) for one in data] == [("a.jpg", 999), ("b.jpg", 7)] and data.num_classes == 1000
    for text, said in (
        ("file\tclass\nb.jpg\t7\n", "lacks the columns file, class_index: it has file, class"),
        ("file\tclass_index\nc.jpg\t7\n", "names c.jpg, which is not in"),
        ("file\tclass_index\nb.jpg\t1000\n", "gives b.jpg the class '1000': classes are 0 to 999"),
    ):
        table.write_text(text)
        with pytest.raises(ConfigError, match=said):
            build_dataset("imagenet", tmp_path)
