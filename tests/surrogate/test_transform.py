"""The estimate of a residual's bits: an orthonormal transform, finer steps cost more, and real encodes rank alike."""

import numpy as np
import pytest
import torch

from dvcc import X264, QPMap, read_clip
from dvcc.surrogate.transform import _cosines, error_bits, quantizer_step, transform_bits


def test_the_transform_is_orthonormal():
    torch.testing.assert_close(_cosines() @ _cosines().T, torch.eye(8, dtype=torch.float64))


def test_the_step_doubles_every_six_qps():
    steps = quantizer_step(torch.tensor([4.0, 10.0, 16.0])) * 255
    torch.testing.assert_close(steps, torch.tensor([1.0, 2.0, 4.0]))


def test_a_single_cosine_costs_what_its_one_coefficient_costs():
    """In float64 against the formula, written down by hand: amplitude 12 steps in one of the four blocks of a macroblock."""
    qps = torch.tensor([28.0], dtype=torch.float64)
    step = float(quantizer_step(qps))
    picture = torch.zeros(1, 16, 16, dtype=torch.float64)
    picture[0, 8:, :8] = 12 * step * torch.outer(_cosines()[3], _cosines()[5])
    bits = transform_bits(picture, qps)
    assert bits.shape == (1, 1, 1, 1)
    assert float(bits) == pytest.approx(np.log2(1 + 12**2) / 2)


def test_a_flat_picture_costs_nothing_in_itself_and_something_as_a_residual():
    grey = torch.full((1, 20, 36), 0.3)  # not whole macroblocks
    qps = torch.tensor([10.0, 30.0])
    assert transform_bits(grey, qps).shape == (1, 2, 2, 3)
    assert transform_bits(grey, qps, intra=True).max() < 1e-6 < transform_bits(grey, qps).min()


def test_finer_steps_cost_more():
    residual = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0)) / 20
    assert (transform_bits(residual, torch.arange(10.0, 50, 5)).diff(dim=1) < 0).all()


def test_noise_costs_about_what_its_transform_costs():
    """Gaussian noise of a few steps, whose coefficients are as large as its pixels."""
    noise = 0.05 * torch.randn(1, 160, 160, generator=torch.Generator().manual_seed(0))
    for qp in torch.tensor([20.0, 26.0, 32.0]):
        mean = transform_bits(noise, qp[None]).mean()
        assert float(error_bits(noise.abs().mean(), qp)) == pytest.approx(float(mean), rel=0.3)


def test_regions_of_a_real_i_frame_rank_as_their_real_bits(bikes):
    """Each of eight regions once at QP 24 in a picture of QP 51: what that adds to the I frame, against the estimate."""
    clip = read_clip(bikes, frames=1, size=(128, 256))
    coarse = X264().encode(clip, QPMap.uniform(51, like=clip)).bits
    estimate = transform_bits(clip.frames.float().mean(1) / 255, torch.tensor([24.0]), intra=True)[0, 0]
    real, ours = [], []
    for row in (0, 4):
        for column in range(0, 16, 4):
            values = np.full((1, 8, 16), 51)
            values[:, row : row + 4, column : column + 4] = 24
            real.append(X264().encode(clip, QPMap(values)).bits - coarse)
            ours.append(float(estimate[row : row + 4, column : column + 4].sum()))
    assert np.corrcoef(real, ours)[0, 1] > 0.9
