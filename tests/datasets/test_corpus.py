"""One side of a folder of videos with a table."""

import pytest

from dvcc.datasets import build_dataset
from dvcc.errors import ConfigError
from tests.datasets import replicas


def test_one_side_its_groups_and_its_kinds(tmp_path):
    root = replicas.corpus(tmp_path)
    data = build_dataset("corpus", root, frames=4, stride=2, per_video=1)
    assert [one.name for one in data] == ["a.mp4 from frame 0", "b.mp4 from frame 0"] and {one.group for one in data} == {"yard"}
    assert data[0].load()[0].num_frames == 4 and data[0].files == (root / "a.mp4",)
    assert [one.source.name for one in build_dataset("corpus", root, split="train")] == ["c.mp4"]
    assert [one.source.name for one in build_dataset("corpus", root, kinds=("driving",))] == ["b.mp4"]
    with pytest.raises(ConfigError, match="data.split is train, val, test, got 'dev'"):
        build_dataset("corpus", root, split="dev")
    with pytest.raises(ConfigError, match=r"data.kinds names \['sport'\]"):
        build_dataset("corpus", root, kinds=("sport",))
