"""L_cv is what its definition says: the variance left over by the best multiple of the predictor."""

import pytest
import torch

from dvcc.surrogate.control_variates import control_variate_loss, rho_squared


def test_the_loss_is_the_variance_left_by_the_best_multiple():
    generator = torch.Generator().manual_seed(0)
    real, predicted = torch.randn(2, 3, 16, dtype=torch.float64, generator=generator)
    left = []
    for f, c in zip(real, predicted, strict=True):
        multiples = torch.linspace(-3, 3, 6001, dtype=torch.float64)
        left.append(((f - multiples[:, None] * c).var(1, unbiased=False) / f.var(unbiased=False)).min())
    torch.testing.assert_close(control_variate_loss(real, predicted), torch.stack(left).mean(), rtol=1e-6, atol=1e-6)


def test_offset_and_scale_do_not_matter_and_a_perfect_predictor_leaves_nothing():
    real = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rho_squared(real, 5 - 3 * real), torch.ones(2))
    assert float(control_variate_loss(real, 5 - 3 * real)) == pytest.approx(0, abs=1e-6)


def test_maps_that_make_no_difference_explain_nothing_and_have_a_finite_gradient():
    predicted = torch.zeros(1, 16, requires_grad=True)
    real = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    for f, c in ((real, predicted), (torch.ones(1, 16), predicted + real)):
        loss = control_variate_loss(f, c)
        assert float(loss.detach()) == pytest.approx(1)
        (gradient,) = torch.autograd.grad(loss, predicted, allow_unused=True)
        assert gradient is None or torch.isfinite(gradient).all()


def test_the_gradient_is_right():
    real, predicted = torch.randn(2, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda c: control_variate_loss(real, c), predicted.requires_grad_())


def test_two_maps_correlate_always_and_are_refused():
    with pytest.raises(ValueError, match="at least 3 maps"):
        rho_squared(torch.ones(1, 2), torch.ones(1, 2))
