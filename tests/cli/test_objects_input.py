"""What the rule of objects makes of unusual videos and detectors, by the command: sane encodes, or one sentence."""

import numpy as np
import pytest
from onnx import load, numpy_helper, save
from PIL import Image

from dvcc._words import counted
from dvcc.cli import main
from tests.cli.test_encode import packets_of
from tests.conftest import write_detector
from tests.videos import write_video

KINDS = [[], ["--threads", "1", "--live"], ["--codec", "x265"]]  # with threads, the buffer of a stream adds chance


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def encode(out, *words):
    return main(["encode", "in.mp4", out, "--target-kbps", "60", "--preset", "ultrafast", *words])


def with_bias(path, value, places):
    """The tiny detector with other biases: objectness is number 0."""
    model = load(write_detector(path))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    values = numpy_helper.to_array(bias).copy()
    values[places] = value
    bias.CopyFrom(numpy_helper.from_array(values, "bias"))
    save(model, path)
    return str(path)


@pytest.mark.parametrize("kind", KINDS, ids=["file", "live", "x265"])
def test_a_detector_that_answers_nothing_leaves_the_encoder_alone(kind, tmp_path, capsys):
    write_video(tmp_path / "in.mp4", frames=30)
    silent = with_bias(tmp_path / "silent.onnx", -30, [0])
    assert encode("objects.mp4", *kind, "--detector", silent, "--layout", "fastestdet") == 0
    name = "x265" if "x265" in kind else "x264"
    assert f"decided  no objects seen: {name}'s own allocation kept\n" in capsys.readouterr().err
    assert encode("abr.mp4", *kind, "--controller", "abr") == 0
    assert packets_of("objects.mp4") == packets_of("abr.mp4")


def test_a_detector_that_answers_no_numbers_is_refused(tmp_path, capsys):
    write_video(tmp_path / "in.mp4")
    broken = with_bias(tmp_path / "broken.onnx", np.nan, slice(None))
    assert encode("objects.mp4", "--detector", broken, "--layout", "fastestdet") == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("error: ") and "broken.onnx" in sentence and not (tmp_path / "objects.mp4").exists()


@pytest.mark.parametrize("kind", KINDS, ids=["file", "live", "x265"])
@pytest.mark.parametrize(("frames", "size"), [(1, (64, 96)), (2, (64, 96)), (3, (64, 96)), (12, (96, 64)), (12, (16, 24))])
def test_short_small_and_upright_videos_follow_their_zones(kind, frames, size, tmp_path, capsys):
    write_video(tmp_path / "in.mp4", frames=frames, size=size)
    pixels = np.full(size, 128, np.uint8)
    pixels[:, :16] = 255
    Image.fromarray(pixels).save("zones.png")
    assert encode("out.mp4", *kind, "--zones", "zones.png", "--classes", "toaster", "--gop", "25") == 0
    covered = round(100 * 16 / (-(-size[1] // 16) * 16))
    expected = f"objects and zones on {frames} of {counted(frames, 'frame')}, {covered} % of the picture: offsets on {frames}\n"
    assert f"decided  {expected}" in capsys.readouterr().err and len(packets_of("out.mp4")) == frames
