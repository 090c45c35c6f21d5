"""`dvcc encode --task TASK --model MINE`: one's own network reads x264's encode, and the published ten numbers decide."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dvcc import ConfigError
from dvcc.cli import main
from dvcc.codecs import CRF, X264
from dvcc.control.analysis import Lost
from dvcc.control.deployed.onnx_export import control_to_onnx
from dvcc.control.deployed.reader import MeanReader, SegmenterReader, reading
from dvcc.control.deployed.runtime import load_control
from dvcc.control.eyes.painting import load_rule
from dvcc.control.network import ControlNetwork
from dvcc.encoding.file import encode_video
from dvcc.encoding.plan import EncodePlan
from dvcc.encoding.presets import obedient_codec
from dvcc.media.probe import open_video
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.analysed import AnalysedControl
from dvcc.rate_control.learned import LearnedMap
from dvcc.rate_control.objects import load_objects
from dvcc.rate_control.offsets import LearnedOffsets, ObjectOffsets
from dvcc.rate_control.task_reader import TaskReader
from dvcc.tasks import build_task
from tests.conftest import make_scene

RATE = ["--target-kbps", "100", "--preset", "veryfast", "--threads", "1", "--gop", "8"]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(X264("ultrafast").encode(make_scene(frames=10), CRF(8)).bitstream)
    return path


@pytest.mark.parametrize(
    "task, models", [("detection", ["DETECTOR"]), ("optical_flow", ["ours"]), ("reconstruction", ["psnr", "ssim"])]
)
def test_the_networks_that_are_given_read(task, models, video, detector, tmp_path, monkeypatch, capsys):
    """Optical flow reads pairs; the second GOP of two frames is one. A detector's file is run by itself, as its task would."""
    models = [model.replace("DETECTOR", str(detector)) for model in models]
    monkeypatch.setattr(SegmenterReader, "lost", None)
    out = tmp_path / "out.mp4"
    assert main(["encode", str(video), str(out), *RATE, "--task", task, *(f"--model={model}" for model in models)]) == 0
    told = capsys.readouterr()
    assert "less is lost for" in told.err and "4 encodes" in told.out
    codec = obedient_codec("x264", "veryfast", "offsets", gop=8, threads=1)
    reader = reading([TaskReader(build_task(task, model=model).eval()) for model in models])
    published = load_control(CHECKPOINTS / "control_segmentation.onnx")
    again = EncodePlan(open_video(video), tmp_path / "again.mp4", 100.0, AnalysedControl(published, codec, reader))
    encode_video(again)
    assert out.read_bytes() == again.out.read_bytes()


def test_several_networks_read_as_their_mean_and_none_outweighs_the_others():
    found = [Lost(np.array([[1.0, 3.0]]), np.zeros((1, 2))), Lost(np.array([[300.0, 150.0]]), np.zeros((1, 2)))]
    readers = tuple(SimpleNamespace(frames=1, lost=lambda *_, at=at, **__: found[at]) for at in (0, 1))
    lost = MeanReader(readers).lost([], [], matrix="bt709", full_range=False, quarter_turns=0)
    assert lost.degradation.tolist() == pytest.approx(np.array([[11 / 12, 13 / 12]]) * (2 + 225) / 2)
    found[1] = Lost(np.zeros((1, 2)), np.zeros((1, 2)))  # nothing is lost, so the other alone says where
    lost = MeanReader(readers).lost([], [], matrix="bt709", full_range=False, quarter_turns=0)
    assert lost.degradation.tolist() == pytest.approx(np.array([[0.5, 1.5]]))
    assert MeanReader(readers).frames == 1 and isinstance(reading([None, None]), MeanReader)


@pytest.fixture
def zones(tmp_path):
    path, painted = tmp_path / "zones.png", np.full((64, 96), 128, np.uint8)
    painted[:32, :32] = 255  # an object, whatever a detector sees
    Image.fromarray(painted).save(path)
    return path


def test_the_objects_of_a_detector_are_added_to_what_is_read(video, zones, detector, tmp_path, capsys):
    """Of strength 0 they change no byte."""
    out = tmp_path / "out.mp4"
    words = ["encode", str(video), str(out), *RATE, "--delivery", "map", "--task", "reconstruction", "--model", "psnr"]
    objects = ["--detector", str(detector), "--look-every", "1", "--zones", str(zones)]
    coded = []
    for more in ([], objects, [*objects, "--strength", "0"]):
        assert main([*words, *more]) == 0
        coded.append(out.read_bytes())
    assert coded[0] == coded[2] != coded[1]
    assert "plus offsets, by objects looked for in every frame" in capsys.readouterr().err


def test_offsets_are_the_sum_of_both(video, zones, detector, tmp_path):
    codec, published = X264("veryfast", gop=8), load_control(CHECKPOINTS / "control_segmentation.onnx")
    objects = load_objects(detector=str(detector), zones=zones, look_every=1)
    source, planes = open_video(video), np.zeros((10, 3, 4, 6), np.float32)
    planes[:, 0, 2:, 3:] = 2.0  # lost in the other corner

    def offsets_of(generator):
        return np.stack([offsets for _, offsets in generator.generate(source.frames())]).astype(int)

    begin = partial(LearnedOffsets, published, source, 100.0, codec)
    alone, both = offsets_of(begin(analysis=iter(planes))), offsets_of(begin(analysis=iter(planes), objects=objects))
    added = offsets_of(ObjectOffsets(objects, source, 100.0, codec))
    assert alone.any() and added.any() and (both == alone + added).all()


@pytest.mark.parametrize("kind", [AnalysedControl, LearnedMap])
def test_objects_are_added_to_no_control_of_a_rule(kind, detector):
    under = SimpleNamespace(rule=load_rule(), reader=None)
    with pytest.raises(ConfigError, match="adds to the rule of objects already"):
        kind(under, objects=load_objects(detector=str(detector)))


def test_a_folder_is_coded_again_for_another_network(video, detector, tmp_path, capsys):
    words = ["encode", str(video.parent), str(tmp_path.parent / "coded"), *RATE, "--workers", "1", "--task"]
    assert main([*words, "detection", "--model", str(detector)]) == 0 and ": 1 video coded" in capsys.readouterr().out
    assert main([*words, "detection", "--model", str(detector)]) == 0 and "1 there already" in capsys.readouterr().out
    assert main([*words, "reconstruction", "--model", "psnr"]) == 0 and ": 1 video coded" in capsys.readouterr().out


WRONG = {
    "--model psnr": "--model psnr needs --task, which says what it answers",
    "--task reconstruction --weights w.pth": "--weights are those of --model: give both or neither",
    "--task reconstruction --model psnr --model ssim --weights w.pth": "are those of one network, and --model names 2: leave",
    "--task detection --model psnr --controller objects": "--model reads encodes for --controller learned, and this is objects",
    "--task reconstruction --model psnr --checkpoint BLIND": "this control sees none: leave --checkpoint or --model out",
    "--task reconstruction --model psnr --look-every 1": "--look-every is of --detector, which looks beside --model: give both",
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
