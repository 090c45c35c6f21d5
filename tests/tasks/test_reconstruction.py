"""PSNR and SSIM, against other people's."""

import time

import pytest
import torch
from torchmetrics.image import StructuralSimilarityIndexMeasure

from dvcc.tasks import ReconstructionTask
from tests.conftest import make_scene


def test_ssim_is_torchmetrics_ssim_over_any_cut_of_a_set():
    frames = make_scene(frames=4).frames.float() / 255
    noisy = (frames + 0.1 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    expected = StructuralSimilarityIndexMeasure(data_range=1.0)(noisy, frames)
    whole, first, rest = (ReconstructionTask(metric="ssim").metric() for _ in range(3))
    whole.update(noisy, frames)
    first.update(noisy[:1], frames[:1])
    rest.update(noisy[1:], frames[1:])
    assert 0.3 < float(expected) < 0.95
    assert float(whole.compute()) == pytest.approx(float(expected), abs=1e-5)
    first.set_states([first.state, rest.state])
    assert float(first.compute()) == pytest.approx(float(expected), abs=1e-5)


def test_psnr_is_summed_by_one_thread():
    frames = torch.zeros(1, 3, 1080, 1920, dtype=torch.uint8)
    before = [time.process_time(), time.thread_time()]
    ReconstructionTask().metric().update(frames, frames)
    every_thread, this_one = time.process_time() - before[0], time.thread_time() - before[1]
    assert every_thread < 1.5 * this_one
