"""Pictures and videos of one's own, at any depth."""

from fractions import Fraction

import numpy as np
import pytest

from dvcc import ConfigError, VideoError, read_clip
from dvcc.datasets import build_dataset
from dvcc.media.protocols import Protocol
from tests.datasets import replicas
from tests.datasets.replicas import paint


@pytest.fixture
def root(tmp_path):
    return replicas.folder(tmp_path)


def test_pictures_of_any_size_and_clips_of_videos(root):
    data = build_dataset("folder", root)
    assert [(example.name, example.group) for example in data] == [
        ("site/day 1/tall.JPG", "site/day 1/tall.JPG"),
        ("site/yard.mp4 from frame 0", "site/yard.mp4"),
        ("site/yard.mp4 from frame 22", "site/yard.mp4"),
        ("wide.png", "wide.png"),
    ]
    clips = [example.load()[0] for example in data]
    assert [(clip.num_frames, clip.height, clip.width) for clip in clips] == [(1, 64, 32), (8, 64, 96), (8, 64, 96), (1, 32, 64)]
    assert clips[2].digest == read_clip(root / "site/yard.mp4", frames=8, start=22, stride=3).digest
    assert clips[2].fps == Fraction(25, 3)
    other = build_dataset("folder", root / "site", frames=4, stride=1, per_video=2)
    assert [example.name for example in other][1:] == ["yard.mp4 from frame 0", "yard.mp4 from frame 44"]


def test_one_file_is_a_data_set(root):
    assert [example.name for example in build_dataset("folder", root / "wide.png")] == ["wide.png"]
    assert len(build_dataset("folder", root / "site/yard.mp4", per_video=1, shots=True)) == 1


def test_a_video_is_cut_in_its_stored_planes(root):
    example = build_dataset("folder", root)[1]
    whole, cut = example.load()[0], example.load(Protocol(crop=(32, 48)))[0]
    assert np.array_equal(cut.y, whole.y[:, 16:48, 24:72]) and np.array_equal(cut.u, whole.u[:, 8:24, 12:36])
    odd = example.load(Protocol(crop=(34, 50)))[0]  # begins at row 15, where 4:2:0 has no chroma of its own
    assert (odd.num_frames, odd.height, odd.width, odd.fps) == (8, 34, 50, whole.fps)
    assert np.abs(odd.y.astype(int) - whole.y[:, 15:49, 23:73]).mean() < 4


def test_what_cannot_be_read_waits_until_it_is_loaded(root):
    """The other examples are there, and the bad ones have their places among them."""
    (root / "broken.mp4").write_bytes(b"nothing")
    (root / "broken.png").write_bytes(b"nothing")
    paint(root / "dot.png", size=(1, 1))
    for options in ({"frames": 40}, {"frames": 40, "shots": True}):
        outcomes = {}
        for example in build_dataset("folder", root, **options):
            try:
                outcomes[example.name] = example.load()[0].num_frames
            except VideoError as error:
                outcomes[example.name] = str(error).removeprefix(str(root) + "/").split(" (")[0].split(": ")[0]
        assert outcomes == {
            "broken.mp4 from frame 0": "broken.mp4 cannot be read as video",
            "broken.png": "broken.png cannot be read as a picture",
            "dot.png": "dot.png is 1x1, smaller than a macroblock",
            "site/day 1/tall.JPG": 1,
            "site/yard.mp4 from frame 0": "site/yard.mp4 has only 16 of the 40 frames asked for from 0 in steps of 3",
            "wide.png": 1,
        }


def test_names_can_be_printed(tmp_path):
    paint(tmp_path / "a\nb é.png")
    assert build_dataset("folder", tmp_path)[0].name == "a\\nb é.png"


def test_folders_without_anything_to_code_are_answered(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    for root in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(
            ConfigError, match=rf"{root} has nothing to code; expected: pictures \(\.bmp, .*\) or videos \(\.264, "
        ):
            build_dataset("folder", root)
    for wrong in ({"frames": 0}, {"stride": 0}, {"per_video": 0}):
        with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} must be at least 1, got 0"):
            build_dataset("folder", tmp_path, **wrong)
