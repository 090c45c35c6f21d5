"""`dvcc encode` at a constant quality, with a cap and without, under the rule of objects and alone, by both encoders."""

import av
import numpy as np
import pytest
from PIL import Image

from dvcc.cli import main
from dvcc.media.clips import read_clip
from tests.cli.test_encode import packets_of, write_sky
from tests.videos import lively_network, write_control, write_video


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mp4", frames=30)
    pixels = np.full((32, 48), 128, np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save("zones.png")


def encode(out, *words, video="in.mp4"):
    return main(["encode", video, out, "--preset", "veryfast", *words])


def errors(path):
    frames, uncoded = (read_clip(name).y.astype(float) for name in (path, "in.mp4"))
    error = np.square(frames - uncoded).mean((0, 1))
    return error[:32].mean(), error[32:].mean()


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_offsets_are_on_top_of_a_constant_quality(codec, capsys):
    zones, report = ["--zones", "zones.png", "--classes", "toaster"], ["--report", "report"] if codec == "x264" else []
    assert encode("abr.mp4", "--crf", "30", "--codec", codec, "--controller", "abr") == 0
    out, err = capsys.readouterr()
    assert "target   CRF 30\n" in err and "passes   encode\n" in err and "note" not in err
    assert " kbit/s at CRF 30, 30 frames, " in out and ", 1 encode in " in out
    assert encode("moved.mp4", "--crf", "30", "--codec", codec, *zones, *report) == 0
    assert "decided  objects and zones on 30 of 30 frames, 33 % of the picture: offsets on 30\n" in capsys.readouterr().err
    plain, moved = errors("abr.mp4"), errors("moved.mp4")
    assert moved[0] < 0.8 * plain[0] and moved[1] > 1.2 * plain[1]
    assert encode("none.mp4", "--crf", "30", "--codec", codec, *zones, "--strength", "0") == 0
    assert packets_of("none.mp4") == packets_of("abr.mp4")


def test_a_cap_is_kept(capsys):
    alone, capped = ["--crf", "10", "--controller", "abr"], ["--crf", "10", "--max-kbps", "60", "--threads", "1"]
    assert encode("free.mp4", *alone) == 0 and encode("capped.mp4", *capped, "--controller", "objects") == 0
    assert "target   CRF 10, at most 60 kbit/s, 0.3906 bits per pixel\n" in capsys.readouterr().err
    free, under = (sum(map(len, packets_of(name))) for name in ("free.mp4", "capped.mp4"))
    assert 8 * under <= 60e3 * (30 / 25 + 1) < 8 * free  # of the channel in that time, and the buffer of a second
    with av.open("capped.mp4") as container:
        assert b"vbv_maxrate=60 vbv_bufsize=60 crf_max" in bytes(next(container.demux(video=0)))


def test_an_empty_scene_is_the_encoders_own_to_the_byte(tmp_path, capsys):
    write_sky(tmp_path / "sky.mp4", 12, (64, 96))
    assert encode("objects.mkv", "--crf", "28", "--task", "detection", video="sky.mp4") == 0
    assert "decided  no objects seen: x264's own allocation kept\n" in capsys.readouterr().err
    assert encode("abr.mkv", "--crf", "28", "--controller", "abr", video="sky.mp4") == 0
    assert packets_of("objects.mkv") == packets_of("abr.mkv")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--crf", "52", "--controller", "abr"], "--crf goes from 0 to 51, got 52"),
        (
            ["--crf", "0.5", "--controller", "objects"],
            "--crf goes from 1 to 51 for objects, got 0.5: below, x264 codes without loss",
        ),
        (["--crf", "nan", "--controller", "abr"], "--crf goes from 0 to 51, got nan"),
        (["--crf", "23", "--max-kbps", "0", "--controller", "abr"], "--max-kbps must be positive, got 0"),
        (["--crf", "23", "--max-kbps", "1e9", "--controller", "abr"], "out of reach"),
        (["--target-kbps", "90", "--max-kbps", "100", "--controller", "abr"], "--max-kbps is for --crf"),
        (["--crf", "23"], "say either --task TASK (detection, segmentation)"),
        (["--crf", "23", "--checkpoint", "control.onnx"], "a trained control is told a bitrate"),
        (["--crf", "23", "--controller", "objects", "--live"], "--crf is for files: a stream has a channel"),
    ],
)
def test_wrong_words_are_one_sentence(words, match, tmp_path, capsys):
    write_control(tmp_path / "control.onnx", lively_network())
    assert encode("out.mp4", *words) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: ") and match in sentence and not (tmp_path / "out.mp4").exists()
