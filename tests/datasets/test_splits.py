"""Which side of a data set is trained on: never the one that is tested on."""

import shutil

import pytest

from dvcc.datasets.splits import split_data, training_videos
from dvcc.errors import ConfigError
from tests.datasets import replicas


def test_cityscapes_keeps_its_official_split(tmp_path):
    replicas.cityscapes_sequence(tmp_path)
    sequences = tmp_path / "leftImg8bit_sequence"
    with pytest.raises(ConfigError, match="leftImg8bit_sequence/train is not there"):
        training_videos(tmp_path, name="cityscapes_sequence")
    shutil.copytree(sequences / "val" / "munster", sequences / "train" / "aachen")
    train, val = split_data("cityscapes_sequence", tmp_path)
    assert [video.relative_to(sequences).parts[0] for video in train] == ["train"]
    assert len(val) == 2 and all(video.relative_to(sequences).parts[0] == "val" for video in val)
    assert training_videos(tmp_path, name="cityscapes_sequence") == train
    with pytest.raises(ConfigError, match="has its own split: leave out data.test"):
        split_data("cityscapes_sequence", tmp_path, test=["munster_000001_000000_leftImg8bit.png"])


@pytest.mark.parametrize("name", ["camvid", "camvid_sequence", "coco", "imagenet", "cityscapes"])
def test_sets_that_only_test_are_not_trained_on(name, tmp_path):
    with pytest.raises(ConfigError, match=f"data={name} has no videos to train on"):
        training_videos(tmp_path, name=name)
