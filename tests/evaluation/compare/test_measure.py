"""Judging in parts is judging the whole, and holds a few frames whatever the length."""

import io
import os
import pickle
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dvcc._words import decibels
from dvcc.codecs import CRF, X264
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.eyes.painting import load_rule
from dvcc.control.network import ControlNetwork
from dvcc.errors import ConfigError
from dvcc.evaluation.compare import measure
from dvcc.evaluation.compare.encoding import Measured, encode_all
from dvcc.evaluation.compare.measure import check_reference, judge_all
from dvcc.evaluation.compare.stretch import PART, copy_stretch
from dvcc.evaluation.compare.viewed import ObjectRegions
from dvcc.rate_control import Means, build_rate_controller
from dvcc.rate_control.objects import Objects
from dvcc.tasks import DetectionTask, build_task
from dvcc.tasks.judging import judge, predict_frames
from tests.conftest import make_scene, write_detector
from tests.evaluation.compare.conftest import stretch_of
from tests.rate_control.test_objects import NONE, Answers, boxes


@pytest.mark.parametrize("name, model", [("segmentation", "student"), ("optical_flow", "ours")])
def test_parts_and_blocks_give_the_figure_of_the_whole(name, model, tmp_path):
    clip, task = make_scene(frames=11), build_task(name, model=model).eval()
    coded = X264(gop=4).encode(clip, CRF(36))
    (tmp_path / "coded.mp4").write_bytes(coded.bitstream)
    measured = Measured("abr2", 100.0, tmp_path / "coded.mp4", coded.bits_per_frame, coded.fps, 1, 0.0)
    assert measured.bitrate_kbps == coded.bitrate_kbps
    stretch = stretch_of(clip, tmp_path)
    pictured = judge_all(stretch, [measured], task, block=4, shown_target=100.0, num_shown=2, advance=lambda _: None)
    verdict = judge(task, coded.frames, predict_frames(task, clip.frames))
    assert measured.metric == pytest.approx(verdict.metric, rel=1e-4) and len(measured.states) == 3
    error = (coded.frames.double() - clip.frames.double()) / 255
    assert measured.psnr == pytest.approx(float(-10 * torch.log10(error.square().mean())), abs=1e-4)
    for frame in pictured:
        for picture, frames in ((frame.pictures["abr2"], coded.frames), (frame.pictures["uncoded"], clip.frames)):
            there = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
            distance = [np.abs(there - other.permute(1, 2, 0).numpy()).mean() for other in frames]
            assert int(np.argmin(distance)) == frame.index and min(distance) < 3
        np.testing.assert_array_equal(frame.qp["abr2"], coded.realised_qp().values[frame.index])
        assert frame.bits["abr2"] == coded.bits_per_frame[frame.index] and frame.types["abr2"] in "IPB"


def test_where_nothing_is_seen_all_is_outside(tmp_path):
    clip, task = make_scene(frames=5), build_task("reconstruction", model="psnr")
    coded, stretch = X264(gop=4).encode(clip, CRF(36)), stretch_of(clip, tmp_path)
    (tmp_path / "coded.mp4").write_bytes(coded.bitstream)
    for answer, inside in ((NONE, False), (boxes((0, 0, 1, 1, 0, 0.9)), True)):
        regions = ObjectRegions(Objects(Answers(answer), load_rule()), stretch)
        measured = Measured("abr2", 100.0, tmp_path / "coded.mp4", coded.bits_per_frame, coded.fps, 1, 0.0)
        judge_all(stretch, [measured], task, block=4, shown_target=100.0, num_shown=1, advance=int, regions=regions)
        seen, other = (measured.psnr_inside, measured.psnr_outside)[:: 1 if inside else -1]
        assert seen == pytest.approx(measured.psnr) and decibels(other) == "-"
        assert regions.words().endswith(f"{100 * inside} % of the pixels")


class Held:
    """Counts items that are alive, and the most that ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def add(self, value, count=1):
        self.now += count
        self.most = max(self.most, self.now)
        weakref.finalize(value, self._less, count)
        return value

    def _less(self, count: int) -> None:
        self.now -= count


def most_held(frames: int, folder, monkeypatch) -> tuple[int, int]:
    """Frames of the stretch before the encoders, and of all videos before the networks, that are held at once in a comparison."""
    frames_read, clips, read, whole = Held(), Held(), np.fromfile, measure.frames_to_rgb
    stretch = stretch_of(make_scene(frames=frames), folder)
    monkeypatch.setattr(np, "fromfile", lambda *given, **how: frames_read.add(read(*given, **how)))
    monkeypatch.setattr(measure, "frames_to_rgb", lambda some: clips.add(whole(some), len(some)))
    part = type(stretch).part
    monkeypatch.setattr(type(stretch), "part", lambda self, *span: clips.add(part(self, *span), span[1] - span[0]))
    control, codec = deploy(ControlNetwork(width=8)), X264(gop=4)
    controllers = {"abr2": build_rate_controller("abr2", Means(codec))}
    controllers["control"] = build_rate_controller("learned", Means(codec, control))
    measured = encode_all(stretch, [60.0, 90.0], controllers, folder, lambda: None)
    task = build_task("reconstruction", model="psnr")
    judge_all(stretch, measured, task, block=4, shown_target=60.0, num_shown=2, advance=lambda _: None)
    monkeypatch.undo()
    return frames_read.most, clips.most


def test_what_is_held_does_not_grow_with_the_stretch(tmp_path, monkeypatch):
    planes_of_long, frames_of_long = most_held(60, tmp_path, monkeypatch)
    assert 1 <= planes_of_long < 20  # frames that are read ahead of the encoder, whatever the length
    assert 4 <= frames_of_long <= 5 * 4  # parts of four frames: the stretch's, one that is judged, and those that are read


def test_a_video_is_copied_a_few_frames_at_a_time(tmp_path, monkeypatch):
    """And the copy is what `read_clip` reads."""
    from dvcc.media import clips

    clip, held, convert = make_scene(frames=30), Held(), clips.convert_frames
    (tmp_path / "a.mp4").write_bytes(X264().encode(clip, CRF(20)).bitstream)
    monkeypatch.setattr(clips, "convert_frames", lambda *given: held.add(converted := convert(*given), converted.num_frames))
    stretch = copy_stretch(tmp_path / "a.mp4", tmp_path, start=3, frames=20)
    assert held.most <= 2 * PART + 1  # the part before it is let go when the next is there; of the first, a frame is kept
    monkeypatch.undo()
    wanted, there = clips.read_clip(tmp_path / "a.mp4", start=3, frames=20), stretch.part(0, 20)
    assert (stretch.num_frames, there.fps, there.digest) == (20, wanted.fps, wanted.digest)
    assert copy_stretch(tmp_path / "a.mp4", tmp_path, start=25, frames=20).num_frames == 5


def test_a_detector_that_finds_nothing_on_the_uncoded_stretch_is_refused(detector, tmp_path):
    stretch = stretch_of(make_scene(frames=4, height=64, width=64), tmp_path)
    with pytest.raises(ConfigError, match=r"finds nothing of score 0\.99 or more .* Set what is wrong by task\.layout"):
        check_reference(stretch, DetectionTask(model=str(detector), score=0.99))
    check_reference(stretch, DetectionTask(model=str(detector), score=0.01))


_JUDGING = """
import pickle, sys
from pathlib import Path
from dvcc.evaluation.compare.measure import judge_all
from dvcc.tasks import build_task

stretch, measured = pickle.loads(Path(sys.argv[1], "work.pickle").read_bytes())
task = build_task("detection", model=str(Path(sys.argv[1], "net.onnx")))
pictured = judge_all(stretch, measured, task, block=3, shown_target=100.0, num_shown=1, advance=int)
print(len(pictured), *sorted({"matplotlib", "scipy", "torchmetrics", "torchvision"} & set(sys.modules)))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 1024)  # ru_maxrss would count the process that started this one
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="tells its memory in no file")
def test_judging_eight_encodes_at_1080p_takes_less_than_a_gigabyte(tmp_path):
    small = make_scene(frames=3, height=108, width=192)
    clip = replace(small, **{name: getattr(small, name).repeat(10, 1).repeat(10, 2) for name in "yuv"})
    coded = X264(preset="ultrafast").encode(clip, CRF(36))
    (tmp_path / "coded.mp4").write_bytes(coded.bitstream)
    write_detector(tmp_path / "net.onnx")
    measured = [Measured("abr2", 100.0, tmp_path / "coded.mp4", coded.bits_per_frame, coded.fps, 1, 0.0) for _ in range(8)]
    (tmp_path / "work.pickle").write_bytes(pickle.dumps((stretch_of(clip, tmp_path), measured)))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-W", "error", "-c", _JUDGING, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr
    shown, megabytes = result.stdout.splitlines()
    assert shown == "1" and float(megabytes) < 1000  # nothing that draws or trains is imported
