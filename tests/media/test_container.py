"""Containers are opened for reading in one place, whatever their files are called."""

import re
from pathlib import Path

import pytest

import dvcc
from dvcc import read_clip
from dvcc.codecs.bitstream import CodedStream
from dvcc.datasets.clips import count_frames
from dvcc.inspect.regions import Reference
from dvcc.media.probe import open_video

NAMES = ["cam1:front 2026-05-01T12:30:00.mp4", "-in.mp4", "100%d %03d.mp4", "file:a.mp4", "a'b\"c\\d.mp4", "concat:x|y.mp4"]


def test_no_other_folder_opens_a_container_to_read():
    """Nor any module of this one but `container`; writing says "w"."""
    package = Path(dvcc.__file__).parent
    opening = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for call in re.findall(r"av\.open\([^\n]*", path.read_text())
        if '"w"' not in call
    }
    assert opening == {"media/container.py"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_a_file_whatever_its_name(make_video, tmp_path, monkeypatch, name):
    make_video("plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)  # by its bare name
    assert sum(1 for _ in open_video(name).frames()) == read_clip(name).num_frames == count_frames(Path(name)) == 12
    stream = CodedStream(name)
    assert sum(1 for _ in stream) == 12
    assert Reference(name, size=(64, 96)).name == name
