"""The benchmark says what is wrong, and what to do, before long work."""

from __future__ import annotations

import pytest
from PIL import Image

from dvcc.errors import CheckpointError, ConfigError, DvccError, VideoError
from dvcc.evaluation.benchmark import run as benchmark
from tests.evaluation.benchmarks import configure, report_of
from tests.evaluation.test_benchmark import count_calls, write_camvid

WRONG = {
    ("codec=jpeg", "levels=[0]"): (ConfigError, "levels of rate=quality go from 1 to 99, got 0"),
    ("levels=[52]",): (ConfigError, "levels of rate=cqp go from 0 to 51, got 52"),
    ("rate=abr", "levels=[0.5]"): (ConfigError, "levels of rate=abr go from 1"),
    ("levels=[20.5]",): (ConfigError, "whole numbers"),
    ("levels=[20,20]",): (ConfigError, "different numbers"),
    ("rate=vbr",): (ConfigError, "cqp|crf|abr"),
    ("codec=jpeg", "rate=cqp"): (ConfigError, "quality"),
    ("audit_level=23",): (ConfigError, "none of the levels"),
    ("protocol=paper",): (ConfigError, "no protocol for reconstruction"),
    ("protocol=native",): (ConfigError, "none or paper"),
    ("task=segmentation", "protocol=paper", "data.size=[64,64]"): (ConfigError, "leave data.size out"),
    ("weights={vmaf: x.pth}",): (ConfigError, "vmaf"),
    ("networks=[psnr,vmaf]",): (ConfigError, "vmaf"),
    ("networks=[]",): (ConfigError, "one or more different names, got []: leave it out for task.model alone"),
    ("networks=[psnr,psnr]",): (ConfigError, "different names"),
    ("networks=[psnr,[ssim]]",): (ConfigError, "different names"),
    ("task=segmentation", "networks=[a.onnx,./a.onnx]"): (ConfigError, "different names"),
    ("task=segmentation", "networks=[student,a.onnx]"): (CheckpointError, "no ONNX file at a.onnx"),
    ("task=segmentation", "networks=[student,studnt]"): (ConfigError, "no segmentation model 'studnt'"),
    ("task=segmentation", "task.name=depth"): (ConfigError, "no task 'depth'"),
    ("data.root=nowhere",): (ConfigError, "nowhere does not exist: set data.root"),
    ("pixel_format=rgb",): (ConfigError, "pixel_format is yuv420p or paper, got 'rgb'"),
    ("pixel_format=paper", "codec=av1"): (ConfigError, "SVT-AV1 codes 4:2:0 alone"),
    ("pixel_format=paper", "rate=crf"): (ConfigError, "of a constant QP: leave rate=crf out"),
    ("jpeg.optimised=true",): (ConfigError, "options of codec=jpeg, not of x264"),
    ("codec=vp9", "levels=[0]"): (ConfigError, "levels of rate=quantizer go from 1 to 63, got 0"),
    ("codec=[x264]",): (ConfigError, "is not two codecs, one after the other: write codec=[x264,jpeg]"),
    ("codec=[x264,mpeg2]",): (ConfigError, "takes no codec=mpeg2"),
    ("codec=[jpeg,x264]", "first_level=0"): (ConfigError, "first_level of jpeg goes from 1 to 99, got 0"),
    ("first_level=20",): (ConfigError, "is of the first of two codecs"),
    ("codec=[x264,jpeg]", "pixel_format=paper"): (ConfigError, "codes RGB once"),
    ("lose_at_most=0",): (ConfigError, "lose_at_most"),
}


@pytest.mark.parametrize("wrong", WRONG, ids=" ".join)
def test_wrong_words_say_what_and_how_before_a_network_is_loaded(wrong, words, monkeypatch):
    kind, text = WRONG[wrong]
    monkeypatch.setattr("dvcc.evaluation.benchmark.run.build_networks", lambda _: pytest.fail("too late"))
    with pytest.raises(kind) as caught:
        benchmark.run(configure(*words, *wrong))
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["out", "data.cache"])
def test_a_folder_that_cannot_be_written_to_is_named_by_its_setting(key, words, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DvccError, match=rf"cannot write to .*; choose another folder with {key}=DIR"):
        benchmark.run(configure("codec=jpeg", *words, f"{key}={tmp_path / 'file' / 'folder'}"))


def test_unreadable_pictures_are_named_and_left_out_only_when_asked(words, tmp_path):
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"broken\.png.*skip_bad=true"):
        benchmark.run(configure("codec=jpeg", "levels=[90,20]", *words))
    printed = benchmark.run(configure("codec=jpeg", "levels=[90,20]", "skip_bad=true", *words))
    assert "1 left out" in printed and "broken.png" in printed
    assert len(report_of(tmp_path)["skipped"]) == 1 and report_of(tmp_path)["examples"] == 4


def test_labels_that_do_not_fit_are_named_before_anything_is_coded(tmp_path, monkeypatch):
    root = write_camvid(tmp_path / "camvid")
    Image.new("L", (48, 64)).save(root / "valannot" / "1.png")
    words = ["data=camvid", "codec=jpeg", "levels=[95]", f"data.root={root}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}"]
    calls = count_calls(monkeypatch)
    with pytest.raises(VideoError, match=r"valannot/1\.png is 64x48, but its picture is 64x96: get both again \(skip_bad=true"):
        benchmark.run(configure(*words))
    assert calls == {"encode": 0, "predict": 0}
    assert "1 left out" in benchmark.run(configure("skip_bad=true", *words)) and calls["encode"]


def test_nothing_readable_is_an_error_even_then(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    words = [f"data.root={tmp_path / 'pictures'}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}", "skip_bad=true"]
    with pytest.raises(VideoError, match=r"none of the 1.*broken\.png"):
        benchmark.run(configure("codec=jpeg", *words))


def test_a_detector_that_finds_nothing_is_refused_with_the_layouts_that_fit(words, detector, tmp_path):
    settings = ["task=detection", f"task.model={detector}", "codec=jpeg", "levels=[90,20]", *words]
    with pytest.raises(
        ConfigError, match=r"tiny\.onnx finds nothing of score 0\.999 .*taken for layout fastestdet, .*form of fastestdet\)"
    ):
        benchmark.run(configure(*settings, "task.score=0.999"))
    benchmark.run(configure(*settings))


def test_flow_on_still_pictures_asks_for_videos(words):
    with pytest.raises(VideoError, match=r"0\.png is a clip of 1 frame\(s\), and 2 in a row are compared: give videos"):
        benchmark.run(configure("task=optical_flow", "codec=jpeg", *words))
