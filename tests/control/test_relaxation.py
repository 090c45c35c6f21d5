"""Samples are hard QPs of the right distribution; the gradient is the relaxation's."""

import torch
from torch.nn import functional as F

from dvcc.control import gaussian_logits, sample_qp


def test_samples_are_one_hot_with_the_softmaxs_frequencies():
    logits = gaussian_logits(torch.full((20000,), 30.4), spread=0.7)
    samples = sample_qp(logits, temperature=0.7, generator=torch.Generator().manual_seed(0))
    assert ((samples - samples.round()).abs() < 1e-6).all() and torch.allclose(samples.sum(-1), torch.ones(20000))
    assert (samples.mean(0) - F.softmax(logits[0], -1)).abs().max() < 0.015


def test_the_peak_is_where_it_was_put():
    assert gaussian_logits(torch.tensor([0.0, 12.6, 51.0]), spread=0.7).argmax(-1).tolist() == [0, 13, 51]


def test_the_gradient_is_that_of_the_relaxed_sample():
    """Exactly: straight-through must add nothing to the Gumbel-softmax gradient, checked by finite differences."""
    logits = torch.randn(5, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(52, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (sample_qp(logits, temperature=0.8, generator=torch.Generator().manual_seed(2)) @ weight).sum().backward()

    def relaxed(at: torch.Tensor) -> torch.Tensor:
        uniform = torch.rand(at.shape, generator=torch.Generator().manual_seed(2), dtype=at.dtype)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
        return (F.softmax((at + gumbel) / 0.8, -1) @ weight).sum()

    step, numeric = 1e-6, torch.zeros_like(logits)
    for i in range(5):
        for j in range(52):
            shift = torch.zeros_like(logits)
            shift[i, j] = step
            numeric[i, j] = (relaxed(logits.detach() + shift) - relaxed(logits.detach() - shift)) / (2 * step)
    torch.testing.assert_close(logits.grad, numeric, rtol=1e-4, atol=1e-8)


def test_raising_the_mean_raises_the_sampled_qp_on_average():
    mean = torch.full((4000,), 30.3, requires_grad=True)
    samples = sample_qp(gaussian_logits(mean, spread=0.7), temperature=0.7, generator=torch.Generator().manual_seed(0))
    (samples @ torch.arange(52.0)).mean().backward()
    assert 0.5 < float(mean.grad.sum()) < 1.5  # one QP more asked for is about one QP more sampled
