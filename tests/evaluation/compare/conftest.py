"""One small comparison that all tests look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dvcc.clip import Clip
from dvcc.codecs import X264
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.network import ControlNetwork
from dvcc.evaluation.compare.encoding import encode_all
from dvcc.evaluation.compare.measure import judge_all
from dvcc.evaluation.compare.page import Comparison
from dvcc.evaluation.compare.stretch import Stretch
from dvcc.evaluation.compare.verdict import compare, headline, remarks
from dvcc.media.format import ClipSource
from dvcc.rate_control import Means, build_rate_controller
from dvcc.tasks import build_task
from tests.conftest import make_scene

NAMES = {"abr2": "two-pass ABR", "control": "learned control"}
TARGETS = [40.0, 60.0, 80.0, 160.0]


def stretch_of(clip: Clip, folder: Path) -> Stretch:
    """The clip as `copy_stretch` leaves a video."""
    planes = (np.concatenate([plane.ravel() for plane in frame]) for frame in zip(clip.y, clip.u, clip.v, strict=True))
    (folder / "stretch.yuv").write_bytes(b"".join(frame.tobytes() for frame in planes))
    return Stretch(folder / "stretch.yuv", clip.num_frames, ClipSource(clip).picture, clip.matrix)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory) -> Comparison:
    """24 frames in GOPs of 4, judged by PSNR; an untrained control, a title that is HTML."""
    folder = tmp_path_factory.mktemp("comparison")
    clip, codec, task = stretch_of(make_scene(frames=24), folder), X264(gop=4), build_task("reconstruction", model="psnr")
    control = deploy(ControlNetwork(width=8))
    controllers = {
        "abr2": build_rate_controller("abr2", Means(codec)),
        "control": build_rate_controller("learned", Means(codec, control)),
    }
    done = []
    measured = encode_all(clip, TARGETS, controllers, folder, lambda: done.append(1))
    pictured = judge_all(clip, measured, task, block=4, shown_target=80.0, num_shown=3, advance=done.append)
    assert done[:8] == [1] * 8 and sum(done[8:]) == 24
    sides = [[m for m in measured if m.controller == name] for name in NAMES]
    verdict = compare(sides[0], sides[1], task, target_kbps=80.0, block=4)
    return Comparison(
        title="<b>a&b</b>.mp4",
        names=NAMES,
        metric_name=task.metric_name,
        higher_is_better=True,
        target_kbps=80.0,
        measured=measured,
        pictured=pictured,
        videos={m.controller: m.path for m in measured if m.target_kbps == 80.0},
        headline=headline(verdict, task, NAMES),
        remarks=remarks(verdict, measured, task, NAMES, 80.0),
        facts=[("stretch", "<script>alert(1)</script>")],
        first_frame=100,
        fps=25.0,
        size=(clip.height, clip.width),
    )
