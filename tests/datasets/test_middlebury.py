"""Middlebury's pairs: both layouts, what is not known, and files that do not fit."""

import shutil

import numpy as np
import pytest
import torch

from dvcc.datasets import build_dataset
from dvcc.errors import ConfigError, VideoError
from tests.datasets import replicas


@pytest.fixture
def root(tmp_path):
    return replicas.middlebury(tmp_path)


def flat(root, folder):
    """The same pairs in one folder."""
    folder.mkdir()
    for name in ("Grove", "Urban"):
        for i in (0, 1):
            shutil.copy(root / "other-data" / name / f"frame1{i}.png", folder / f"{name}_{i}.png")
        shutil.copy(root / "other-gt-flow" / name / "flow10.flo", folder / f"{name}.flo")
    return folder


def test_both_layouts_are_one_data_set(root, tmp_path):
    published, ours = build_dataset("middlebury", root), build_dataset("middlebury", flat(root, tmp_path / "flat"))
    assert [one.name for one in published] == [one.name for one in ours] == ["Grove", "Urban"]
    for a, b in zip(published, ours, strict=True):
        (clip, flow), (other_clip, other_flow) = a.load(), b.load()
        assert clip.digest == other_clip.digest and torch.equal(flow.nan_to_num(9), other_flow.nan_to_num(9))


def test_flow_is_x_then_y_in_pixels_and_nan_where_it_is_not_known(root):
    flow = build_dataset("middlebury", root)[0].load()[1]
    assert flow[..., 0].isnan().all() and not flow[..., 1:].isnan().any()
    assert (flow[0, 0, :, 1:] == 1).all() and (flow[0, 1, :, 1:] == -0.5).all()


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda content: b"PNG!" + content[4:], "is no file of optical flow"),
        (lambda content: content[:-8], r"has \d+ bytes, but 32x64 need"),
        (
            lambda content: content[:4] + np.array([32, 32], "<i4").tobytes() + content[12:],
            "is of 32x32, but its pictures are 32x64",
        ),
    ],
)
def test_a_flow_that_does_not_fit_is_named(spoil, said, root):
    path = root / "other-gt-flow" / "Grove" / "flow10.flo"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(VideoError, match=rf"flow10\.flo {said}"):
        build_dataset("middlebury", root)[0].load()


def test_what_is_missing_is_named(root, tmp_path):
    (root / "other-data" / "Urban" / "frame11.png").unlink()
    with pytest.raises(ConfigError, match=r"Urban/frame11\.png does not exist; expected: ROOT/other-data/NAME"):
        build_dataset("middlebury", root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no pictures named \*_0\.png; expected: .*NAME\.flo"):
        build_dataset("middlebury", tmp_path / "empty")
