"""The words of the rule of objects in every command that knows it: what they do, and what they refuse."""

import json
import re

import av
import numpy as np
import pytest
from PIL import Image

from dvcc import CRF, X264
from dvcc.cli import main
from dvcc.media.clips import read_clip
from dvcc.networks.detectors import Detector
from tests.conftest import make_scene
from tests.videos import write_video

RATE = ["--target-kbps", "90"]
ZONES = ["--classes", "toaster", "--zones", "zones.png"]  # and nothing else counts


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A video, and zones: its left third counts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.mp4").write_bytes(X264().encode(make_scene(frames=30), CRF(8)).bitstream)
    pixels = np.full((32, 48), 128, np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save(tmp_path / "zones.png")
    Image.fromarray(pixels.T).save(tmp_path / "upright.png")
    return tmp_path


def errors(path):
    """Squared error left and right of the zone's edge."""
    frames, uncoded = (read_clip(name).y.astype(float) for name in (path, "in.mp4"))
    error = np.square(frames - uncoded).mean((0, 1))
    return np.array([error[:32].mean(), error[32:].mean()])


@pytest.mark.parametrize("live", [[], ["--threads", "1", "--live"]], ids=["file", "live"])  # with threads, a buffer adds chance
def test_bits_go_where_the_zones_say_and_the_background_is_spared(live, place, capsys):
    assert main(["encode", "in.mp4", "abr.mp4", *RATE, *live, "--controller", "abr"]) == 0
    assert main(["encode", "in.mp4", "out.mp4", *RATE, *live, *ZONES]) == 0
    assert "decided  objects and zones on 30 of 30 frames, 33 % of the picture: offsets on 30\n" in capsys.readouterr().err
    assert main(["encode", "in.mp4", "mild.mp4", *RATE, *live, *ZONES, "--max-background-offset", "2"]) == 0
    plain, moved, mild = map(errors, ("abr.mp4", "out.mp4", "mild.mp4"))
    assert moved[0] < mild[0] < plain[0] and plain[1] < mild[1] < moved[1]
    assert main(["encode", "in.mp4", "none.mp4", *RATE, *live, *ZONES, "--strength", "0"]) == 0
    assert packets_of("none.mp4") == packets_of("abr.mp4")


def packets_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_zones_of_another_shape_are_refused_before_anything_is_written(place, detector, capsys):
    video = write_video(place / "turned.mp4", frames=4, rotation=90)
    for words in (
        ["encode", "in.mp4", "out.mp4"],
        ["encode", "in.mp4", "out.mp4", "--live"],
        ["export", "in.mp4", "--format", "nvenc", "--out", "out.bin"],
        ["compare", "in.mp4", "--task", "detection", "--model", str(detector), "--out", "out"],
    ):
        assert main([*words, *RATE, "--zones", "upright.png"]) == 2
        err = capsys.readouterr().err
        assert "error: upright.png is 32x48 and the video 96x64, which is another shape: paint the zones over" in err
        assert not [path for path in place.iterdir() if path.name.startswith("out")]
    assert main(["encode", str(video), "out.mp4", *RATE, "--zones", "upright.png"]) == 0  # which a player turns upright
    assert main(["encode", str(video), "out.mp4", *RATE, "--zones", "zones.png"]) == 2


@pytest.mark.parametrize("command", ["encode", "export", "compare"])
@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        (["--zones", "none.png"], "the zones none.png cannot be read"),
        (["--zones", "in.mp4"], "in.mp4 is no PNG picture"),
        (["--max-background-offset", "41"], "goes from 0 to 40 QPs, got 41"),
        (["--look-every", "0"], "go from 1 to 1000, got 0"),
        (["--strength", "-3"], "0 to 40 QPs, got -3"),
        (["--classes", "persn"], "no class 'persn': did you mean person"),
        (["--detector", "none.onnx"], "none.onnx"),
        (["--layout", "yolox"], "--layout is of the answers of --detector: give both or neither"),
        (["--controller", "learned", "--max-background-offset", "4"], "--max-background-offset is for --controller objects"),
        (["--controller", "objects", "--checkpoint", "c.onnx"], "--checkpoint"),
    ],
)
def test_wrong_words_are_one_sentence_in_every_command(command, chosen, match, place, capsys):
    words = {"encode": ["in.mp4", "out.mp4"], "export": ["in.mp4", "--format", "nvenc"], "compare": ["in.mp4", "--out", "out"]}
    assert main([command, *words[command], *RATE, "--task", "detection", *chosen]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: ") and match in sentence
    assert {path.name for path in place.iterdir()} == {"in.mp4", "zones.png", "upright.png"}


def test_an_export_has_the_offsets_of_the_rule(place, capsys):
    words = ["export", "in.mp4", *RATE, "--format", "nvenc", "--out", "offsets.bin", "--task", "detection"]
    for chosen, extent in ((["--classes", "toaster"], "0 to 0"), (ZONES, "-6 to 10"), (["--controller", "learned"], None)):
        assert main([*words, *chosen]) == 0
        printed = capsys.readouterr()
        assert extent is None or f"offsets.bin: offsets {extent}, 30 frames, GOP 25" in printed.out
        assert ("decided  " in printed.err) == (extent is not None)
    assert main([*words, *ZONES, "--max-background-offset", "3"]) == 0
    offsets = np.fromfile("offsets.bin", np.int8).reshape(30, 4, 6)
    assert (offsets[:, :, :2] == -6).all() and (offsets[:, :, 2:] == 3).all()


def test_the_rule_is_no_map(place, capsys):
    for words in (["--format", "npz", "--controller", "objects"], ["--format", "nvenc", "--delivery", "map", "--classes", "car"]):
        assert main(["export", "in.mp4", *RATE, *words]) == 2
        assert "decides offsets and no map: choose --format among kvazaar, svtav1, nvenc" in capsys.readouterr().err
    assert main(["export", "in.mp4", *RATE, "--controller", "objects", "--task", "segmentation", "--format", "nvenc"]) == 2
    assert "is for detection, not for segmentation" in capsys.readouterr().err


def test_a_comparison_tells_psnr_inside_and_outside(place, detector, capsys):
    """By the pixels of its encodes and of the zones."""
    words = ["--task", "detection", "--model", str(detector), "--seconds", "0.4", "--out", "out"]
    assert main(["compare", "in.mp4", *RATE, *words, *ZONES]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"PSNR \(dB\) +inside +outside +encodes", printed.splitlines()[0])
    figures = json.loads((place / "out" / "compare.json").read_text())
    plain, moved = ([row for row in figures["rows"] if row["controller"] == name] for name in ("abr2", "control"))
    for ours, theirs in zip(moved, plain, strict=True):
        assert ours["psnr_inside"] > theirs["psnr_inside"] and ours["psnr_outside"] < theirs["psnr_outside"]
    (ours,) = [row for row in moved if row["target_kbps"] == 90]
    frames, uncoded = (read_clip(name, frames=10).frames.double() for name in ("out/control.mp4", "in.mp4"))
    error, page = (frames - uncoded).square() / 255**2, (place / "out" / "index.html").read_text()
    for name, part in (("psnr_inside", error[..., :32]), ("psnr_outside", error[..., 32:])):
        assert ours[name] == pytest.approx(float(-10 * part.mean().log10()), abs=1e-4)
        assert f"<td>{ours[name]:.2f}</td>" in page and f" {ours[name]:.2f} " in printed
    assert "PSNR outside<br>the objects" in page and "33 % of the pixels" in page
    assert "sees objects in the uncoded frame, and the zones that always count" in figures["facts"]["PSNR inside, outside"]
    assert "but for --classes toaster --zones zones.png" in figures["facts"]["rule of objects"]


def test_another_network_looks_in_a_comparison(place, detector, capsys):
    words = ["--task", "detection", "--model", str(detector), "--detector", str(detector), "--classes", "2", "--seconds", "0.2"]
    assert main(["compare", "in.mp4", *RATE, *words, "--out", "out"]) == 0
    facts = json.loads((place / "out" / "compare.json").read_text())["facts"]
    said = facts["rule of objects"]
    assert f"finer where {detector.name} sees objects" in said and "but for --classes 2" in said
    assert f"where {detector.name} sees objects" in facts["PSNR inside, outside"]


def test_the_detector_looks_as_often_as_is_asked(place, detector, capsys, monkeypatch):
    """In every command that takes the words, and once for a frame."""
    shown, detect = [], Detector.detect
    monkeypatch.setattr(Detector, "detect", lambda self, rgb, **how: shown.append(rgb.shape) or detect(self, rgb, **how))
    words = [*RATE, "--classes", "toaster", "--look-every", "1"]
    assert main(["encode", "in.mp4", "out.mp4", *words]) == 0
    assert "by objects looked for in every frame," in capsys.readouterr().err
    assert len(shown) == 30
    assert main(["export", "in.mp4", "--format", "nvenc", "--out", "out.bin", *words]) == 0
    assert len(shown) == 60
    assert main(["encode", "in.mp4", "live.mp4", "--live", *words]) == 0
    assert len(shown) == 90 and set(shown) == {(64, 96, 3)}
    compared = ["compare", "in.mp4", "--task", "detection", "--model", str(detector), "--seconds", "0.2", "--out", "out"]
    assert main([*compared, *words]) == 0
    facts = json.loads((place / "out" / "compare.json").read_text())["facts"]
    assert "--classes toaster --look-every 1" in facts["rule of objects"]
    capsys.readouterr()
    assert main(["encode", "in.mp4", "out.mp4", *RATE, "--controller", "abr", "--look-every", "1"]) == 2
    assert "error: --look-every is for --controller objects, and this is abr: leave it out" in capsys.readouterr().err
