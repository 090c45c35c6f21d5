"""What cannot be written is known before anything is encoded."""

import shutil
import tempfile
from collections import namedtuple

import pytest

from dvcc import X264
from dvcc.encode.plan import EncodePlan
from dvcc.errors import DvccError
from dvcc.media.output import check_output
from dvcc.media.probe import open_video
from dvcc.rate_control.abr import AverageBitrate

Usage = namedtuple("Usage", "total used free")


def test_a_name_that_the_file_system_refuses(tmp_path):
    with pytest.raises(DvccError, match="File name too long; give a shorter name"):
        check_output(tmp_path / f"{'n' * 249}.mp4", tmp_path / "in.mp4")
    check_output(tmp_path / "12:30:00 %d.mp4", tmp_path / "in.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("full", ["out", "temporary"])
def test_a_folder_without_room_is_named(make_video, tmp_path, monkeypatch, full):
    folders = {"out": tmp_path / "out", "temporary": tmp_path / "temporary"}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders["temporary"]))
    source = open_video(make_video(frames=50))
    free = {str(folder): 1000 if name == full else 10**9 for name, folder in folders.items()}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 0, free[str(folder)]))
    with pytest.raises(DvccError, match=f"in {folders[full]}, where 0 MB are free") as raised:
        EncodePlan(source, folders["out"] / "out.mp4", 150, AverageBitrate(X264("ultrafast")))
    assert ("TMPDIR" in str(raised.value)) == (full == "temporary") and not list(folders[full].iterdir())
    free[str(folders[full])] = 10**9
    EncodePlan(source, folders["out"] / "out.mp4", 150, AverageBitrate(X264("ultrafast")))
