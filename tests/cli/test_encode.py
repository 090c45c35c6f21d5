"""`dvcc encode` as a person types it: a plan, a closing line, and one sentence for every wrong word."""

import re

import av
import numpy as np
import pytest
import torch

from dvcc import CRF, X264, Clip
from dvcc.cli import main
from dvcc.control.eyes import make_eyes
from dvcc.control.network import ControlNetwork
from tests.videos import lively_network, write_control, write_video


@pytest.fixture
def words(tmp_path):
    """What is always needed."""
    write_control(tmp_path / "control.onnx", lively_network())
    video = write_video(tmp_path / "in.mp4", frames=30)
    chosen = ["--target-kbps", "200", "--checkpoint", str(tmp_path / "control.onnx"), "--preset", "veryfast"]
    return ["encode", str(video), str(tmp_path / "out.mp4"), *chosen]


def test_it_says_what_it_does_and_what_came_of_it(words, tmp_path, capsys):
    assert main([*words, "--report", str(tmp_path / "report")]) == 0
    out, err = capsys.readouterr()
    closing = r"out\.mp4: [\d.]+ kbit/s of 200 asked, 30 frames, mean QP I [\d.]+, P [\d.]+, B [\d.]+, 2 encodes in [\d.]+ s"
    assert re.search(closing, out.strip()) and "passes   first pass, second pass" in err
    assert (tmp_path / "out.mp4").is_file() and "will be replaced" not in err
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"maps.png", "bitrate.png"}
    assert (tmp_path / "report" / "maps.png").stat().st_size > 20_000


def test_a_dry_run_does_nothing(words, tmp_path, capsys):
    assert main([*words, "--dry-run", "--report", str(tmp_path / "report")]) == 0
    assert "200 kbit/s" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists() and not (tmp_path / "report").exists()
    (tmp_path / "out.mp4").write_bytes(b"precious")
    assert main([*words, "--dry-run"]) == 0
    assert f"note     {tmp_path / 'out.mp4'} exists and will be replaced\n" in capsys.readouterr().err
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_a_control_with_eyes_encodes_and_a_rate_that_it_never_saw_is_said(words, tmp_path, capsys):
    eyes, _ = make_eyes("nanodet_plus_m", features="none", every=4, folder=tmp_path)
    for rates, noted in ([0.001, 1.0], False), ([0.001, 0.01], True):
        network = ControlNetwork(width=8, extra_planes=eyes.num_planes, eyes=eyes.settings, rates=rates)
        torch.nn.init.normal_(network.head.weight, std=0.3)
        write_control(tmp_path / "control.onnx", network)
        for live in ([], ["--live"]):
            assert main([*words, *live]) == 0
            err = capsys.readouterr().err
            assert ("bits per pixel, and the control was trained at 0.001 to 0.01: it decides as at 0.01" in err) == noted
    network.config["eyes"]["sha256"] = "0" * 64
    write_control(tmp_path / "control.onnx", network)
    assert main(words) == 2 and "is another file than the one that" in capsys.readouterr().err


def test_a_live_stream_says_what_it_replaces(words, tmp_path, capsys):
    (tmp_path / "out.mp4").write_bytes(b"old")
    for replaced in (True, False):
        assert main([*words, "--live"]) == 0
        assert ("out.mp4 exists and will be replaced" in capsys.readouterr().err) == replaced
        (tmp_path / "out.mp4").unlink()


def test_one_frame_is_no_frames(words, tmp_path, capsys):
    write_video(tmp_path / "in.mp4", frames=1)
    assert main([*words, "--threads", "1", "--gop", "1"]) == 0
    out, err = capsys.readouterr()
    assert "about 1 frame\n" in err and "1 thread\n" in err and ", 1 frame, " in out
    assert not re.search(r"\b1 (frames|threads|encodes)", out + err)


def test_the_committed_controls_are_found_by_task_and_delivered_both_ways(words, tmp_path, capsys):
    del words[5:7]
    for task, delivery in (("segmentation", "offsets"), ("detection", "map")):
        assert main([*words, "--task", task, "--delivery", delivery]) == 0
        notes = capsys.readouterr().err
        assert f"control  {'offsets on' if delivery == 'offsets' else 'every QP'}" in notes
    assert main([*words, "--task", "optical_flow"]) == 2
    assert "no control is published for optical_flow: choose detection, segmentation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "decided"),
    [
        (
            ["--task", "detection"],
            "no less is lost for nanodet_plus_m_416 and fastestdet_coco80_352 under the control: x264's own encode kept",
        ),
        (["--controller", "objects"], "no objects seen: x264's own allocation kept"),
    ],
)
@pytest.mark.parametrize(
    ("frames", "size", "kbps"), [(1, (64, 96), 200), (3, (64, 96), 200), (30, (160, 90), 200), (12, (16, 24), 50)]
)
def test_an_empty_scene_is_left_alone(tmp_path, capsys, frames, size, kbps, words, decided):
    """The published detectors see no object in a sky that grows light: ABR's encode, packet by packet."""
    video, rate = write_sky(tmp_path / "in.mp4", frames, size), ["--target-kbps", str(kbps), "--preset", "veryfast"]
    report = ["--report", str(tmp_path / "report")] if frames == 3 else []  # nothing was asked of any macroblock
    for out, chosen in (("sky.mkv", words), ("abr.mkv", ["--controller", "abr"])):
        assert main(["encode", str(video), str(tmp_path / out), *rate, *chosen, *report]) == 0
        assert (f"decided  {decided}\n" in capsys.readouterr().err) == (out == "sky.mkv")
    assert packets_of(tmp_path / "sky.mkv") == packets_of(tmp_path / "abr.mkv")


@pytest.mark.parametrize("words", [["--crf", "30"], ["--target-kbps", "50", "--codec", "x265"]])
def test_what_the_published_control_does_not_do_is_left_to_the_rule(tmp_path, capsys, words):
    video = write_sky(tmp_path / "in.mp4", 3, (64, 96))
    assert main(["encode", str(video), str(tmp_path / "out.mp4"), "--preset", "veryfast", "--task", "detection", *words]) == 0
    assert "no objects seen" in capsys.readouterr().err


def test_a_stream_is_watched_too(tmp_path, capsys):
    video, words = write_sky(tmp_path / "in.mp4", 40, (64, 96)), ["--target-kbps", "50", "--preset", "veryfast", "--live"]
    for out, chosen in (("objects.ts", ["--task", "detection", "--classes", "person, car"]), ("abr.ts", ["--controller", "abr"])):
        assert main(["encode", str(video), str(tmp_path / out), *words, *chosen]) == 0
        assert ("no objects seen" in capsys.readouterr().err) == (out == "objects.ts")
    assert packets_of(tmp_path / "objects.ts") == packets_of(tmp_path / "abr.ts")


def write_sky(path, frames, size):
    """A video of (H, W) of nothing."""
    height, width = size
    luma = 60 + np.arange(height)[None, :, None] * 80 // height + np.arange(frames)[:, None, None] + np.zeros((1, 1, width), int)
    chroma = np.full((frames, height // 2, width // 2), 128, np.uint8)
    path.write_bytes(X264().encode(Clip(luma.astype(np.uint8), chroma, chroma, 25), CRF(10)).bitstream)
    return path


def packets_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        (["--task", "detection", "--classes", "persn"], "no class 'persn': did you mean person"),
        (["--controller", "objects", "--strength", "-3"], "0 to 40 QPs, got -3"),
        (["--controller", "objects", "--task", "segmentation"], "is for detection, not for segmentation"),
        (["--controller", "objects", "--checkpoint", "c.onnx"], "leave one of the two out"),
        (["--controller", "abr", "--delivery", "map"], "--delivery map is for --controller learned"),
        (["--controller", "abr", "--classes", "car"], "--classes is for --controller objects, and this is abr"),
        (["--controller", "learned", "--detector", "d.onnx"], "--detector is for --controller objects"),
        (["--task", "detection", "--layout", "yolox"], "--layout is of the answers of --detector: give both or neither"),
        (["--detector", "missing.onnx"], "missing.onnx"),
        (["--detector", "yolo99"], "yolo99"),
        (["--controller", "learned"], "say either --task"),
        ([], "say either --task"),
    ],
)
def test_words_of_controllers_that_do_not_go_together_are_one_sentence(tmp_path, capsys, chosen, match):
    video = write_video(tmp_path / "in.mp4")
    assert main(["encode", str(video), str(tmp_path / "out.mp4"), "--target-kbps", "200", *chosen]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and re.search(match, err) and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    "change, match",
    [
        ({2: "out.avi"}, "end it in one of"),
        ({2: "/nowhere/out.mp4"}, "no folder /nowhere"),
        ({1: "missing.mp4"}, "missing.mp4 does not exist"),
        ({4: "-5"}, "must be positive"),
        ({4: "nan"}, "must be positive"),
        ({4: "1e9"}, "out of reach"),
        ({6: "missing.safetensors"}, "missing.safetensors"),
        ({8: "fastest"}, "no preset 'fastest'"),
        ({9: "--delivery", 10: "map", 11: "--live"}, "needs an analysis encode"),
        ({9: "--delivery", 10: "map", 11: "--codec", 12: "x265"}, "x265 takes offsets .* or x264"),
        ({9: "--gop", 10: "0"}, "gop"),
        ({9: "--threads", 10: "1000"}, "threads"),
        ({9: "--stream", 10: "7"}, "stream 7 of"),
        ({9: "--live", 10: "--dry-run"}, "leave them out with --live"),
        ({9: "--input-format", 10: "v4l2"}, "is for --live"),
        ({9: "--report", 10: "/dev/null/x"}, "/dev/null"),
        ({1: "-"}, "stdin cannot be: add --live"),
        ({1: "rtsp://camera/x"}, "rtsp://camera/x cannot be: add --live"),
        ({1: "/dev/null"}, "is no file, and can be read only once"),
        ({9: "--live", 10: "--gop=0"}, "--gop goes from 1"),
        ({9: "--live", 10: "--threads=0"}, "--threads goes from 1"),
        ({9: "--live", 10: "--input-format=poetry"}, "reads no format 'poetry'"),
        ({1: "rtsp://127.0.0.1:1/x", 9: "--live"}, r"^error: rtsp://127.0.0.1:1/x cannot .*can be reached and is sending"),
        ({1: "/dev/none", 9: "--live"}, "/dev/none cannot .*check that it is there"),
        ({1: ".", 9: "--live"}, "give a file, a device or a URL"),
    ],
)
def test_every_wrong_word_is_one_sentence(words, tmp_path, capsys, monkeypatch, change, match):
    monkeypatch.chdir(tmp_path)
    changed = dict(enumerate(words)) | change
    assert main(list(changed.values())) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    sentence = err.strip()
    assert sentence.startswith("error: ") and re.search(match, sentence), err
    assert not out and not list(tmp_path.glob("*.part")) and not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    "missing", [["encode"], ["encode", "a.mp4", "b.mp4"], ["encode", "a", "b", "--target-kbps", "9", "--gop", "many"], ["code"]]
)
def test_words_that_argparse_refuses_are_one_sentence_too(capsys, missing):
    with pytest.raises(SystemExit) as ended:
        main(missing)
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: ")
