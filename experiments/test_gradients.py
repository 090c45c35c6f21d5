"""Gradients with the real codec in the loop: unbiased where they claim to be, and real in value."""

from __future__ import annotations

import math

import pytest
import torch

from dvcc.codecs import X264
from dvcc.control.objective import Baseline, objective
from dvcc.tasks import build_task
from experiments import gradients
from experiments.gradients import WAYS, RealCodec, in_the_loop, lax_response, straight_through_response
from tests.conftest import make_scene


@pytest.fixture
def slopes() -> torch.Tensor:
    return torch.linspace(-1, 1, 8, dtype=torch.float64).view(2, 4)


def wavy(qp, slopes):
    """A codec that is not linear: (M,), of maps (M, 1, 2, 4)."""
    return (slopes * torch.sin(qp / 3) + 0.01 * qp.square()).sum((1, 2, 3))


def test_lax_is_unbiased_whatever_the_control_variate(slopes):
    """The mean over many draws against the derivative of E[f] by quadrature, in float64, with a variate that is wrong in sign."""
    torch.manual_seed(0)
    draws = 50_000
    start = torch.linspace(26, 40, 8, dtype=torch.float64).view(1, 2, 4)
    qp = start.expand(draws, 1, 2, 4).clone().requires_grad_()

    def real(moved):
        value = wavy(moved, slopes)
        return value, 2 * value

    def predicted(moved):
        return (-0.2 * moved * slopes).sum((1, 2, 3)), 0 * moved.sum((1, 2, 3))

    loss, log_bits = lax_response(qp, predicted=predicted, real=real)
    gradients_of = [torch.autograd.grad(value.sum(), qp, retain_graph=True)[0].mean((0, 1)) for value in (loss, log_bits)]
    nodes, weights = torch.linspace(-6, 6, 4001, dtype=torch.float64), None
    weights = torch.exp(-nodes.square() / 2)
    weights = weights / weights.sum()
    at = start[..., None] + gradients._STD * nodes
    expected = ((slopes[..., None] * torch.cos(at / 3) / 3 + 0.02 * at) * weights).sum(-1)[0]
    torch.testing.assert_close(gradients_of[0], expected, atol=0.06, rtol=0)
    torch.testing.assert_close(gradients_of[1], 2 * expected, atol=0.12, rtol=0)


def test_a_variate_that_is_the_codec_leaves_no_noise(slopes):
    """Then g is the derivative of c itself, at the same noise: within a region, too."""
    qp = torch.full((3, 2, 4, 8), 30.0, dtype=torch.float64, requires_grad=True)
    wide = slopes.repeat_interleave(2, 0).repeat_interleave(2, 1)

    def same(moved):
        return wavy(moved, wide), moved.mean((1, 2, 3))

    torch.manual_seed(1)
    loss, _ = lax_response(qp, predicted=same, real=same)
    (gradient,) = torch.autograd.grad(loss.sum(), qp)
    torch.manual_seed(1)
    noise = gradients._STD * torch.randn(3, 8, dtype=torch.float64)
    moved = noise.view(3, 1, 2, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    at = [(qp + sign * moved).detach().requires_grad_() for sign in (1, -1)]
    values = [wavy(x, wide) for x in at]
    torch.testing.assert_close(loss, (values[0] + values[1]) / 2)
    expected = sum(torch.autograd.grad(value.sum(), x)[0] for value, x in zip(values, at, strict=True)) / 2
    torch.testing.assert_close(gradient, expected)


def test_straight_through_has_real_values_and_the_proxys_slope():
    """For the squared error the slope is known: 20 log10(2) / 6 dB per QP, whatever the picture."""
    clip, task = make_scene(), build_task("reconstruction", model="psnr")
    real = RealCodec(X264(), task)
    qp = torch.full((2, 8, 4, 6), 34.0)
    qp[1] = 40
    qp.requires_grad_()
    loss, log_bits = straight_through_response(qp, clip=clip, real=real)
    torch.testing.assert_close((loss, log_bits), real.respond(clip, qp))
    (of_loss,) = torch.autograd.grad(loss.sum(), qp, retain_graph=True)
    (of_bits,) = torch.autograd.grad(log_bits.sum(), qp)
    torch.testing.assert_close(of_loss.sum((1, 2, 3)), torch.full((2,), 2 * math.log10(2) / 6), rtol=0.05, atol=0)
    torch.testing.assert_close(of_bits.sum((1, 2, 3)), torch.full((2,), -math.log(2) / 6))
    assert (of_loss >= 0).all() and (of_bits < 0).all()
    changed = [real.respond(clip, qp + step)[1] for step in (-6, 6)]
    assert (changed[0] > log_bits).all() and (changed[1] < log_bits).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_control_learns_with_the_real_codec_in_the_loop(way):
    """One step of the objective: Newton asks the prediction, and only what is learned from is coded."""
    clip, task = make_scene(frames=4), build_task("reconstruction", model="psnr")
    real = CountedCodec(X264(), task)
    qp = torch.full((2, 4, 4, 6), 32.0)
    base = Baseline(qp, torch.zeros(2), *proxy(qp))
    delta = torch.zeros_like(qp, requires_grad=True)
    terms = objective(delta, base, in_the_loop(way, clip=clip, real=real, predicted=proxy))
    terms.total.sum().backward()
    assert real.encodes == 2 * (2 if way == "lax" else 1)
    assert torch.isfinite(delta.grad).all() and delta.grad.abs().sum() > 0


class CountedCodec(RealCodec):
    encodes = 0

    def encode(self, clip, qp):
        self.encodes += len(qp)
        return super().encode(clip, qp)


def proxy(qp):
    """Task loss and log bits that a surrogate might predict."""
    return 1 + 0.1 * qp.mean((1, 2, 3)), 10 - 0.115 * qp.mean((1, 2, 3))
