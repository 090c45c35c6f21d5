"""`dvcc encode --task TASK --model MINE`: one's own network reads x264's encode, and the published ten numbers decide."""

from __future__ import annotations

import pytest

from dvcc.cli import main
from dvcc.codecs import CRF, X264
from dvcc.control.deployed.onnx_export import control_to_onnx
from dvcc.control.deployed.reader import SegmenterReader
from dvcc.control.deployed.runtime import load_control
from dvcc.control.network import ControlNetwork
from dvcc.encoding.file import encode_video
from dvcc.encoding.plan import EncodePlan
from dvcc.encoding.presets import obedient_codec
from dvcc.media.probe import open_video
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.analysed import AnalysedControl
from dvcc.rate_control.task_reader import TaskReader
from dvcc.tasks import build_task
from tests.conftest import make_scene

RATE = ["--target-kbps", "100", "--preset", "veryfast", "--threads", "1", "--gop", "8"]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(X264("ultrafast").encode(make_scene(frames=10), CRF(8)).bitstream)
    return path


@pytest.mark.parametrize("task", ["detection", "optical_flow", "reconstruction"])
def test_the_network_that_is_given_reads(task, video, detector, tmp_path, monkeypatch, capsys):
    """Optical flow reads pairs; the second GOP of two frames is one."""
    model = {"detection": str(detector), "optical_flow": "ours", "reconstruction": "psnr"}[task]
    monkeypatch.setattr(SegmenterReader, "lost", None)
    out = tmp_path / "out.mp4"
    assert main(["encode", str(video), str(out), *RATE, "--task", task, "--model", model]) == 0
    told = capsys.readouterr()
    assert "the network has lost" in told.err and "4 encodes" in told.out
    codec = obedient_codec("x264", "veryfast", "offsets", gop=8, threads=1)
    reader, published = TaskReader(build_task(task, model=model).eval()), load_control(CHECKPOINTS / "control_segmentation.onnx")
    again = EncodePlan(open_video(video), tmp_path / "again.mp4", 100.0, AnalysedControl(published, codec, reader))
    encode_video(again)
    assert out.read_bytes() == again.out.read_bytes()


def test_a_folder_is_coded_again_for_another_network(video, detector, tmp_path, capsys):
    words = ["encode", str(video.parent), str(tmp_path.parent / "coded"), *RATE, "--workers", "1", "--task"]
    assert main([*words, "detection", "--model", str(detector)]) == 0 and ": 1 video coded" in capsys.readouterr().out
    assert main([*words, "detection", "--model", str(detector)]) == 0 and "1 there already" in capsys.readouterr().out
    assert main([*words, "reconstruction", "--model", "psnr"]) == 0 and ": 1 video coded" in capsys.readouterr().out


WRONG = {
    "--model psnr": "--model psnr needs --task, which says what it answers",
    "--task reconstruction --weights w.pth": "--weights are those of --model: give both or neither",
    "--task detection --model psnr --controller objects": "--model reads encodes for --controller learned, and this is objects",
    "--task reconstruction --model psnr --checkpoint BLIND": "this control sees none: leave --checkpoint or --model out",
    "--task optical_flow --model ours --gop 1": "the task compares 2 neighbouring frames, and a GOP has 1: set gop higher",
    "--task reconstruction --model psnr --live": "a stream is coded once",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_are_one_sentence_and_no_output(words, video, tmp_path, capsys):
    blind, out = tmp_path / "blind.onnx", tmp_path / "out.mp4"
    blind.write_bytes(control_to_onnx(ControlNetwork(width=8), {}))
    given = ["encode", str(video), str(out), *RATE, *words.replace("BLIND", str(blind)).split()]
    assert main(given) == 2 and not out.exists()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and WRONG[words] in errors[0]
