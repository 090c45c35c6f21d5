"""`dvcc compare`: the files it writes, what it prints, and what it refuses."""

import json
from types import SimpleNamespace

import pytest

from dvcc import CRF, X264
from dvcc.cli import main
from dvcc.cli.compare import _trained
from dvcc.control.deployed.onnx_export import control_to_onnx
from dvcc.control.network import ControlNetwork, load_network
from dvcc.datasets.clips import video_key
from dvcc.networks.sources import CHECKPOINTS
from tests.conftest import make_scene
from tests.videos import write_control


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    (folder / "a<b.mp4").write_bytes(X264().encode(make_scene(frames=40), CRF(8)).bitstream)
    write_control(folder / "control.onnx", ControlNetwork(width=8), {"run": {"codec": {"gop": 8}}})
    return folder


def refused(capsys, *words, reason: str) -> None:
    assert main(["compare", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and len(printed.err.splitlines()) == 1
    assert reason in printed.err, printed.err


@pytest.mark.parametrize("delivery", ["offsets", "map"])
def test_a_table_a_page_the_figures_and_both_files(delivery, folder, tmp_path, capsys):
    words = ["--target-kbps", "100", "--task", "reconstruction", "--checkpoint", str(folder / "control.onnx")]
    words += ["--start", "0.2", "--seconds", "1.2", "--out", str(tmp_path / "out"), "--delivery", delivery]
    assert main(["compare", str(folder / "a<b.mp4"), *words]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "compare.json").read_text(), parse_constant=pytest.fail)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["abr2.mp4", "compare.json", "control.mp4", "index.html"]
    assert [row["target_kbps"] for row in figures["rows"]] == [target for target in (60, 80, 100, 160) for _ in range(2)]
    for row in figures["rows"]:
        assert f"{row['achieved_kbps']:.1f}" in printed and row["metric"] == pytest.approx(row["psnr"], abs=1e-6)
        assert len(row["bits_per_frame"]) == 30
    assert figures["headline"] in printed and "PSNR (dB): higher is better\n" in printed
    assert "too few GOPs (2)" in figures["headline"]
    encodes = [row["encodes"] for row in figures["rows"] if row["controller"] == "control"]
    assert encodes == [2, 2, 2, 2] if delivery == "offsets" else set(encodes) <= {2, 3}  # a map that misses is coded once more
    assert "frames 5 to 34 (0.20 to 1.40 s) of a<b.mp4: 30 frames of 96x64 at 25 fps" in figures["facts"]["stretch"]
    assert "trained with GOPs of 8 frames" in figures["facts"]["learned control"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "a&lt;b.mp4" in page and "a<b" not in page
    assert main(["inspect", str(tmp_path / "out" / "control.mp4"), "--json"]) == 0
    assert sum(json.loads(capsys.readouterr().out)["bits_per_frame"]) == sum(figures["rows"][5]["bits_per_frame"])


def test_the_stretch_ends_where_the_video_does(folder, tmp_path, capsys):
    words = ["--target-kbps", "100", "--task", "reconstruction", "--checkpoint", str(folder / "control.onnx")]
    assert main(["compare", str(folder / "a<b.mp4"), *words, "--start", "1.4", "--out", str(tmp_path)]) == 0
    assert "5 frames of" in json.loads((tmp_path / "compare.json").read_text())["facts"]["stretch"]
    assert "replaced" not in capsys.readouterr().err
    (tmp_path / "abr2.mp4").unlink(), (tmp_path / "control.mp4").unlink()
    assert main(["compare", str(folder / "a<b.mp4"), *words, "--start", "1.56", "--out", str(tmp_path)]) == 0
    assert "1 frame of" in json.loads((tmp_path / "compare.json").read_text())["facts"]["stretch"]
    note = f"note     {tmp_path / 'index.html'}, {tmp_path / 'compare.json'} exist and will be replaced\n"
    assert note in capsys.readouterr().err


def test_of_an_end_point_error_less_is_better(folder, tmp_path, capsys):
    words = ["--target-kbps", "100", "--task", "optical_flow", "--checkpoint", str(folder / "control.onnx")]
    assert main(["compare", str(folder / "a<b.mp4"), *words, "--seconds", "0.2", "--out", str(tmp_path)]) == 0
    assert "\nEPE (px): lower is better; PSNR (dB): higher is better\n" in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    assert "EPE (px)<br>lower is better<" in page and "PSNR (dB)<br>higher is better<" in page
    assert "EPE (px), lower is better<" in page  # the curve's axis


def test_what_cannot_be_compared_is_refused_in_one_sentence(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = ["--checkpoint", str(folder / "control.onnx")]
    video, words = folder / "a<b.mp4", ["--target-kbps", "100", "--task", "reconstruction", *chosen]
    refused(capsys, tmp_path / "none.mp4", *words, reason="does not exist")
    refused(capsys, folder / "control.onnx", *words, reason="control.onnx")
    refused(capsys, video, *words, "--target-kbps", "0", reason="--target-kbps")
    refused(capsys, video, *words, "--target-kbps", "nan", reason="--target-kbps")
    refused(
        capsys,
        video,
        "--target-kbps",
        "9",
        "--task",
        "classification",
        reason="no control is published for classification",
    )
    refused(capsys, video, *words, "--seconds", "-1", reason="--seconds positive")
    refused(capsys, video, *words, "--seconds", "0", reason="--seconds positive")
    refused(capsys, video, *words, "--target-kbps", "1e9", reason="out of reach")
    refused(
        capsys, video, "--target-kbps", "9", "--task", "optical_flow", *chosen, "--seconds", "0.01", reason="more than 1 frame,"
    )
    refused(capsys, video, *words, "--start", "-1", reason="--start")
    refused(capsys, video, *words, "--start", "100", reason="begin earlier")
    refused(capsys, video, *words, "--out", str(video / "x"), reason="cannot write")
    refused(capsys, video, *words, "--checkpoint", str(video), reason="a<b.mp4")
    monkeypatch.setattr("dvcc.media.output.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    refused(capsys, video, *words, "--seconds", "100000", reason="0 MB are free: free some, or give fewer --seconds")
    assert not list(tmp_path.iterdir())


def test_a_detector_that_finds_nothing_is_refused_before_anything_is_coded(folder, detector, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dvcc.evaluation.compare.encoding.encode_apart", pytest.fail)
    monkeypatch.setattr("dvcc.networks.detectors.fastestdet.FastestDet.object_score", 0.99)
    words = ["--target-kbps", "100", "--task", "detection", "--checkpoint", folder / "control.onnx", "--model", detector]
    refused(capsys, folder / "a<b.mp4", *words, "--out", tmp_path / "out", reason="finds nothing of score 0.99 or more")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chosen", ["learned", "objects"])
def test_before_a_detector(folder, detector, tmp_path, capsys, chosen):
    """The published control is the default, and the network that judges reads for it."""
    words = ["--target-kbps", "100", "--task", "detection", "--model", str(detector), "--seconds", "0.3"]
    words += [] if chosen == "learned" else ["--controller", chosen]
    assert main(["compare", str(folder / "a<b.mp4"), *words, "--out", str(tmp_path)]) == 0
    name = {"learned": "learned control", "objects": "rule of objects"}
    facts = json.loads((tmp_path / "compare.json").read_text())["facts"]
    assert facts.keys() & set(name.values()) == {name[chosen]} and f"\n{name[chosen]} " in capsys.readouterr().out
    if chosen == "objects":
        assert "finer where nanodet_plus_m_416.onnx sees objects" in facts[name[chosen]]
    else:
        said = f"control_segmentation.onnx, delivered as offsets; x264's own encode is read by {detector}, which judges, too"
        assert facts[name[chosen]].startswith(said)


def test_the_network_that_judges_reads_for_a_control_that_was_given_too(folder, detector, tmp_path):
    """As dvcc encode --checkpoint CONTROL --model MINE does, which train.py calibrate prints."""
    network, config = load_network(CHECKPOINTS / "control_segmentation.safetensors")
    network.config["analysis"] = {}
    (tmp_path / "mine.onnx").write_bytes(control_to_onnx(network, config))
    words = ["--target-kbps", "100", "--task", "detection", "--seconds", "0.2", "--checkpoint", str(tmp_path / "mine.onnx")]
    assert main(["compare", str(folder / "a<b.mp4"), *words, "--model", str(detector), "--out", str(tmp_path)]) == 0
    facts = json.loads((tmp_path / "compare.json").read_text())["facts"]
    assert facts["learned control"].startswith(f"mine.onnx, delivered as offsets; x264's own encode is read by {detector}, which")


@pytest.mark.parametrize("analysis", [{}, {"analysis": {"file": "reads.onnx"}}])
@pytest.mark.parametrize("trained", [False, True])
def test_a_video_that_a_control_was_trained_on_flatters_it_and_no_other(folder, tmp_path, trained, analysis):
    video = folder / "a<b.mp4"
    stored = {"trained_on": [video_key(video) if trained else "another.mp4 7"], "control": analysis}
    words = SimpleNamespace(video=str(video), model=None, delivery="offsets")
    facts = _trained(words, tmp_path / "control.onnx", stored, 25)
    assert ("TRAINED ON THIS VIDEO" in facts) == trained and ("read by reads.onnx" in facts) == bool(analysis)


def test_without_a_model_those_read_that_the_control_was_published_with(folder, tmp_path):
    words = ["--target-kbps", "100", "--task", "detection", "--seconds", "0.2"]
    assert main(["compare", str(folder / "a<b.mp4"), *words, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "compare.json").read_text())
    assert "is read by nanodet_plus_m_416.onnx and fastestdet_coco80_352.onnx" in report["facts"]["learned control"]
    assert {row["encodes"] for row in report["rows"] if row["controller"] == "control"} == {4}


def test_a_controller_and_its_words_go_together(folder, capsys):
    video, words = folder / "a<b.mp4", ["--target-kbps", "100", "--controller", "objects"]
    refused(capsys, video, *words, "--task", "reconstruction", reason="objects is for detection, not for reconstruction")
    for more in (["--checkpoint", folder / "control.onnx"], ["--delivery", "map"]):
        refused(capsys, video, *words, "--task", "detection", *more, reason="neither --checkpoint nor --delivery map")


def test_the_video_itself_is_not_replaced(folder, tmp_path, capsys):
    (tmp_path / "abr2.mp4").write_bytes((folder / "a<b.mp4").read_bytes())
    words = ["--target-kbps", "100", "--task", "reconstruction", "--checkpoint", str(folder / "control.onnx")]
    refused(capsys, tmp_path / "abr2.mp4", *words, "--out", tmp_path, reason="would be replaced")
    assert [path.name for path in tmp_path.iterdir()] == ["abr2.mp4"]


def test_unknown_words_are_one_sentence(capsys):
    with pytest.raises(SystemExit) as left:
        main(["compare", "x.mp4", "--target-kbps", "9", "--task", "poetry"])
    assert left.value.code == 2 and "poetry" in capsys.readouterr().err
