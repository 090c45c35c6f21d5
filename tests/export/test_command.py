"""`dvcc export` as a user types it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dvcc import QPMap
from dvcc.cli import main
from dvcc.codecs.bitstream import inspect_bitstream
from dvcc.control.deployed.runtime import load_control
from dvcc.encoding.file import encode_video
from dvcc.encoding.plan import EncodePlan
from dvcc.encoding.presets import default_threads, obedient_codec
from dvcc.errors import VideoError
from dvcc.export import FORMATS
from dvcc.media.probe import open_video
from dvcc.media.source import VideoSource
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.learned import LearnedMap
from tests.conftest import make_scene
from tests.export.conftest import write_video
from tests.videos import lively_network, write_control


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mkv", make_scene(frames=10))
    write_control(tmp_path / "control.onnx", lively_network())
    return tmp_path


def export(*words: str) -> int:
    return main(["export", "in.mkv", "--target-kbps", "300", *words])


@pytest.mark.parametrize("name", FORMATS)
def test_a_published_control_is_exported_in_every_format(name, workplace, capsys):
    assert export("--format", name, "--task", "segmentation", "--gop", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert (workplace / f"in{FORMATS[name].suffix}").stat().st_size > 10
    what = "QPs" if FORMATS[name].takes[0] == "map" else "offsets"
    assert re.fullmatch(rf"in\S*: {what} -?\d+ to \d+, 10 frames, GOP 4, at 300 kbit/s", lines[0])
    assert [line.partition(":")[0] for line in lines[1:]] == ["lost", "use"] and len(lines) == 3


def test_what_is_replaced_is_told(workplace, capsys):
    for told in (False, True):
        assert export("--task", "detection") == 0
        assert ("note     in.npz exists and will be replaced" in capsys.readouterr().err.splitlines()) == told


def test_uneven_times_are_told(workplace, capsys):
    assert export("--task", "detection") == 0
    assert "uneven" not in capsys.readouterr().err
    write_video(workplace / "in.mkv", make_scene(frames=10), times=[0, 1, 2, 3, 4, 5, 6, 7, 8, 55])
    assert export("--task", "detection") == 0
    (note,) = [line for line in capsys.readouterr().err.splitlines() if "uneven" in line]
    assert note == (
        "note     the frames come at uneven times: at a constant 25 a second they take 0.4 s instead of 2.2, "
        "and the bitrate is as much higher"
    )


@pytest.mark.parametrize("delivery", ["offsets", "map"])
def test_maps_are_those_that_dvcc_encode_asks_for(delivery, workplace):
    control = load_control("control.onnx")
    codec = obedient_codec("x264", "medium", delivery, gop=9, threads=default_threads("x264"))
    asked = []
    controller = AverageBitrate(codec, control=control) if delivery == "offsets" else LearnedMap(control, codec, corrected=True)
    plan = EncodePlan(open_video("in.mkv"), Path("out.mp4"), 300, controller)
    encode_video(plan, look=lambda index, frame, values: asked.append(values))
    if delivery == "offsets":
        assert export("--checkpoint", "control.onnx", "--gop", "9", "--format", "nvenc", "--out", "map") == 0
        stored = np.fromfile("map", np.int8).reshape(np.shape(asked))
    else:
        assert export("--checkpoint", "control.onnx", "--gop", "9", "--out", "map.npz") == 0
        stored = QPMap.load("map.npz").values
    np.testing.assert_array_equal(stored, asked[:10])  # of the first encode, whatever a correction changed


def test_frames_that_change_their_size_are_refused(workplace, capsys):
    parts = [write_video(workplace / f"{h}.h264", make_scene(frames=4, height=h), codec="libx264").read_bytes() for h in (64, 96)]
    Path("in.mkv").write_bytes(b"".join(parts))
    before = sorted(workplace.iterdir())
    assert export("--checkpoint", "control.onnx") == 2
    assert "the frames change their size: cut the video there" in capsys.readouterr().err
    assert sorted(workplace.iterdir()) == before


def test_a_second_is_the_usual_gop(workplace, capsys):
    assert export("--checkpoint", "control.onnx") == 0
    assert "GOP 25" in capsys.readouterr().out


def test_the_script_codes_the_video(workplace, ffmpeg, monkeypatch):
    monkeypatch.setenv("FFMPEG", ffmpeg)
    assert export("--format", "ffmpeg", "--task", "detection", "--gop", "5") == 0
    subprocess.run(["bash", "in.ffmpeg.sh"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    report = inspect_bitstream("in.x264.mp4")
    assert len(report.frame_types) == 10 and report.frame_types[5] == "I"
    kbps = report.bits_per_frame.sum() * 25 / 10 / 1000
    assert 200 < kbps < 420  # the map was made for 300


REFUSED = {
    (
        "--task",
        "segmentation",
        "--format",
        "svtav1",
        "--delivery",
        "map",
    ): "svtav1 does not take --delivery map: use --delivery offsets",
    ("--task", "segmentation", "--delivery", "offsets"): "npz does not take --delivery offsets: use --delivery map",
    (): "--task TASK (detection, segmentation)",
    ("--task", "detection", "--checkpoint", "control.onnx"): "either --task",
    ("--task", "optical_flow"): "no control is published for optical_flow",
    ("--task", "../x"): "no control is published for ../x",
    ("--checkpoint", "none.safetensors"): "none.safetensors",
    ("--checkpoint", "in.mkv"): "in.mkv",
    ("--task", "detection", "--gop", "0"): "--gop goes from 1 to 10000 frames, got 0",
    ("--task", "detection", "--out", "in.mkv"): "the video itself",
    ("--task", "detection", "--out", "link.mkv"): "the video itself",
    ("--task", "detection", "--out", "in.mkv/x.npz"): "cannot write in.mkv/x.npz",
    ("--task", "detection", "--out", "."): "is a folder",
    ("--task", "detection", "--format", "kvazaar", "--out", "map.bin"): "ends in .kvazaar.txt",
    ("--task", "detection", "--target-kbps", "nan"): "must be positive",
    ("--task", "detection", "--target-kbps", "inf"): "must be positive",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_bad_words_are_one_sentence_and_leave_no_file(words, workplace, capsys):
    (workplace / "link.mkv").symlink_to("in.mkv")
    before, data = sorted(workplace.iterdir()), (workplace / "in.mkv").read_bytes()
    assert export(*words) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: ") and REFUSED[words] in sentence
    assert sorted(workplace.iterdir()) == before and (workplace / "in.mkv").read_bytes() == data


def test_a_video_that_breaks_off_in_the_middle_leaves_no_file(workplace, capsys, monkeypatch):
    """The old map of the same name stays."""
    whole = VideoSource.frames

    def broken(self, damage=None, **how):
        yield next(whole(self, damage, **how))
        raise VideoError("in.mkv cannot be read as video")

    monkeypatch.setattr(VideoSource, "frames", broken)
    Path("in.npz").write_bytes(b"old")
    before = sorted(workplace.iterdir())
    assert export("--checkpoint", "control.onnx", "--gop", "4") == 2
    assert "cannot be read" in capsys.readouterr().err
    assert sorted(workplace.iterdir()) == before and Path("in.npz").read_bytes() == b"old"
