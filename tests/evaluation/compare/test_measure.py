"""Judging in parts is judging the whole."""

import numpy as np
import pytest
import torch

from dvcc.codecs import CRF, X264
from dvcc.evaluation.compare.measure import Measured, judge_all
from dvcc.tasks import build_task
from dvcc.tasks.judging import judge, predict_frames
from tests.conftest import make_scene


@pytest.mark.parametrize("name, model", [("segmentation", "student"), ("optical_flow", "ours")])
def test_parts_and_blocks_give_the_figure_of_the_whole(name, model):
    clip, task = make_scene(frames=11), build_task(name, model=model).eval()
    coded = X264(gop=4).encode(clip, CRF(36))
    measured = Measured("abr2", 100.0, coded, 0.0)
    shown = judge_all(clip, [measured], task, block=4, shown_target=100.0, num_shown=2, advance=lambda _: None)
    verdict = judge(task, coded.frames, predict_frames(task, clip.frames))
    assert measured.metric == pytest.approx(verdict.metric, rel=1e-4) and len(measured.states) == 3
    error = (coded.frames.double() - clip.frames.double()) / 255
    assert measured.psnr == pytest.approx(float(-10 * torch.log10(error.square().mean())), abs=1e-4)
    for frame in shown:
        torch.testing.assert_close(frame.pictures["abr2"], coded.frames[frame.index])
        torch.testing.assert_close(frame.pictures["uncoded"], clip.frames[frame.index])
        np.testing.assert_array_equal(frame.qp["abr2"], coded.realised_qp().values[frame.index])
        assert frame.bits["abr2"] == coded.bits_per_frame[frame.index] and frame.types["abr2"] in "IPB"
