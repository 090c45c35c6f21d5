"""Cityscapes on tiny copies of its layout: train ids, snippets and their annotated frame."""

import shutil
from fractions import Fraction

import numpy as np
import pytest

from dvcc import ConfigError, VideoError, read_clip
from dvcc.datasets import build_dataset
from tests.datasets import replicas
from tests.datasets.replicas import HEIGHT, WIDTH, halves, paint, store


def test_cityscapes_ids_become_train_ids(tmp_path):
    data = build_dataset("cityscapes", replicas.cityscapes(tmp_path))
    assert [(example.name, example.group) for example in data] == [
        ("frankfurt_000000_000294", "frankfurt_000000"),
        ("frankfurt_000000_000576", "frankfurt_000000"),
        ("munster_000001_000019", "munster_000001"),
    ]
    for index, expected in enumerate([(0, 13), (255, 255), (17, 255)]):  # the last from the stored train ids
        assert np.array_equal(data[index].load()[1][0], halves(*expected))
    ids = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 256
    store(tmp_path / "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png", ids)
    table = dict(zip(ids.flat, data[0].load()[1][0].flatten().tolist(), strict=True))
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]  # road to bicycle, as published
    assert table == {**dict.fromkeys(range(256), 255), **{number: train for train, number in enumerate(evaluated)}}


def test_the_coded_clip_is_the_picture(tmp_path):
    data = build_dataset("cityscapes", replicas.cityscapes(tmp_path))
    clip = data[0].load()[0]
    stored = read_clip(tmp_path / "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png", frames=1)
    assert (clip.num_frames, clip.height, clip.width) == (1, HEIGHT, WIDTH) and np.array_equal(clip.y, stored.y)


def test_missing_pieces_of_cityscapes_are_named(tmp_path):
    replicas.cityscapes(tmp_path)
    label = tmp_path / "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png"
    store(label, halves(7, 7)[:-2])
    data = build_dataset("cityscapes", tmp_path)
    with pytest.raises(VideoError, match=rf"{label} is 30x64, but its picture is 32x64"):
        data[0].load()
    label.unlink()
    with pytest.raises(ConfigError, match=rf"{label} does not exist; expected: ROOT/leftImg8bit/val/CITY/"):
        build_dataset("cityscapes", tmp_path)
    shutil.rmtree(tmp_path / "gtFine")
    with pytest.raises(ConfigError, match=r"gtFine/val does not exist; expected: .*ROOT/gtFine/val/CITY/.*_gtFine_labelIds\.png"):
        build_dataset("cityscapes", tmp_path)
    shutil.rmtree(tmp_path / "leftImg8bit/val/munster")
    shutil.rmtree(tmp_path / "leftImg8bit/val/frankfurt")
    with pytest.raises(ConfigError, match=r"leftImg8bit/val has no pictures named .*leftImg8bit\.png; expected: "):
        build_dataset("cityscapes", tmp_path)


def test_a_snippets_clip_meets_its_annotated_frame(tmp_path):
    replicas.cityscapes_sequence(tmp_path)
    data = build_dataset("cityscapes_sequence", tmp_path)
    assert [(example.name, example.group) for example in data] == [
        ("frankfurt_000000_000276", "frankfurt_000000"),
        ("frankfurt_000000_000306", "frankfurt_000000"),
        ("munster_000001_000001", "munster_000001"),
    ]
    clip, labels = data[2].load()
    assert clip.num_frames == 8 and clip.fps == Fraction(17, 3) and data.num_classes == 19
    assert np.array_equal(labels[6], halves(0, 13)) and (labels[[0, 1, 2, 3, 4, 5, 7]] == 255).all()  # 1, 4, .., 19, 22
    stored = read_clip(tmp_path / "leftImg8bit_sequence/val/munster", start=1, stride=3, frames=8)
    assert np.array_equal(clip.y, stored.y)
    late = build_dataset("cityscapes_sequence", tmp_path, frames=4, stride=1)
    assert late[0].name == "frankfurt_000000_000291" and (late[0].load()[1][3] != 255).all()
    beside = build_dataset("cityscapes_sequence", tmp_path, frames=2, stride=29)  # frames 0 and 29 only
    assert (beside.task, beside[0].name, beside[0].load()[1]) == (None, "frankfurt_000000_000275", None)


def test_missing_pieces_of_the_sequences_are_named(tmp_path):
    replicas.cityscapes_sequence(tmp_path)

    def build(**options):
        return build_dataset("cityscapes_sequence", tmp_path, **options)

    for options, sentence in (
        ({"frames": 11}, "11 frames with stride 3 span 31, but a Cityscapes snippet has 30: ask for fewer"),
        ({"frames": 0}, "frames and stride must be at least 1, got frames=0 and stride=3"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            build(**options)
    frame = tmp_path / "leftImg8bit_sequence/val/munster/munster_000001_000001_leftImg8bit.png"
    paint(frame, size=(32, 32))
    with pytest.raises(VideoError, match=r"_000004_leftImg8bit\.png is 32x64, but .*_000001_leftImg8bit\.png before it is 32x32"):
        build()[2].load()
    (tmp_path / "gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(ConfigError, match=r"munster_000001_000019_gtFine_labelIds\.png does not exist; expected: "):
        build()
    shutil.rmtree(tmp_path / "gtFine")
    assert (build().task, build()[0].load()[1], build()[2].name) == (None, None, "munster_000001_000001")
    frame.unlink()
    with pytest.raises(ConfigError, match=r"munster_000001_000000_leftImg8bit\.png has 1 frames in a row, not 30: complete the"):
        build()
