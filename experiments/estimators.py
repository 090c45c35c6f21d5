"""Unbiased gradients of E[f(QPs)] with the real codec inside f: REINFORCE, and LAX and RELAX with a control variate.

f is only ever evaluated, so it may be an encoder and a vision model. What these functions return is the gradient with
respect to the parameters of the distribution that the QPs are drawn from (logits, or a mean). The rest of the way, to
the weights of the control network, is the caller's `logits.backward(estimate.gradient.detach())`.

The randomness lives in a low-dimensional basis: K coefficients per clip, such as the QP of a region, of a level, or of a
few smooth map components: a handful. `objective` turns them into the macroblock map. It cannot live in the
macroblocks: the score term multiplies one number, the value of the whole clip, by the score of every coefficient, so its
variance grows with K while what one coefficient does to the value shrinks. With thousands of macroblocks it is hopeless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F

# Samples to (B,): row b of the result depends on row b of the samples only.
Values = Callable[[torch.Tensor], torch.Tensor]


class GradientEstimate(NamedTuple):
    """One draw per row.

    gradient: of E[f] with respect to the logits (B, K, C) or the mean (B, K). Its graph leads to the parameters phi of
        the control variate, never to the logits: the variance loss cannot train the control network.
    sample: what the objective was given, one-hot (B, K, C) or real (B, K).
    value: f(sample), (B,).
    """

    gradient: torch.Tensor
    sample: torch.Tensor
    value: torch.Tensor


def reinforce_gradient(logits: torch.Tensor, *, objective: Values, generator: torch.Generator | None = None) -> GradientEstimate:
    """g = f(q) d log p(q)/d logits (Williams 1992), q one-hot (B, K, C) from softmax(logits): the yardstick."""
    log_p = logits.detach().log_softmax(-1)
    sample = _one_hot_of_max(log_p + _gumbel_like(log_p, generator))
    value = _evaluate(objective, sample)
    return GradientEstimate(_per_row(value, sample) * (sample - log_p.exp()), sample, value)


def relax_gradient(
    logits: torch.Tensor,
    *,
    objective: Values,
    control_variate: Values,
    temperature: float,
    generator: torch.Generator | None = None,
) -> GradientEstimate:
    """RELAX (Grathwohl et al., ICLR 2018), one-hot QPs (B, K, C) from softmax(logits).

    g = [f(q) - c(z~)] d log p(q)/d logits + d c(z)/d logits - d c(z~)/d logits,
    q = H(z), z ~ p(z), z~ ~ p(z | q).

    control_variate: c of a soft one-hot (B, K, C), softmax(z / temperature), to (B,). Twice differentiable, and it is
        called twice. Any c leaves g unbiased, but not every c helps: near temperature 0 even c = f is worse than
        REINFORCE, because the slope of c(z) blows up. Start near 1.

    Raises `ValueError` unless `temperature` is above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}: start near 1")
    # A leaf of its own, so that the graph which d/d logits needs ends here and not in the control network.
    leaf = logits.detach().requires_grad_()
    log_p = leaf.log_softmax(-1)
    z = log_p + _gumbel_like(log_p, generator)
    sample = _one_hot_of_max(z)
    z_given_q = conditional_gumbel(log_p, sample=sample, generator=generator)

    value = _evaluate(objective, sample)
    free = _checked(control_variate((z / temperature).softmax(-1)), sample)
    conditioned = _checked(control_variate((z_given_q / temperature).softmax(-1)), sample)
    # Zeros where c ignores the sample: then it is a plain baseline, which is a control variate too.
    (path,) = torch.autograd.grad((free - conditioned).sum(), leaf, create_graph=True, materialize_grads=True)
    score = sample - log_p.detach().exp()
    return GradientEstimate(_per_row(value - conditioned, sample) * score + path, sample, value)


def gaussian_reinforce_gradient(
    mean: torch.Tensor, *, std: float | torch.Tensor, objective: Values, generator: torch.Generator | None = None
) -> GradientEstimate:
    """g = f(q) d log p(q)/d mean with q (B, K) ~ N(mean, std^2); see `lax_gradient` for the arguments."""
    sample, score = _gaussian(mean, std, generator)
    value = _evaluate(objective, sample)
    return GradientEstimate(_per_row(value, sample) * score, sample, value)


def lax_gradient(
    mean: torch.Tensor,
    *,
    std: float | torch.Tensor,
    objective: Values,
    control_variate: Values,
    generator: torch.Generator | None = None,
) -> GradientEstimate:
    """LAX (Grathwohl et al., ICLR 2018), real QPs (B, K) from N(mean, std^2).

    g = [f(q) - c(q)] d log p(q)/d mean + d c(q)/d mean,   q = mean + std * noise.

    std: width of the exploration, in QPs; broadcasts against (B, K) and gets no gradient. Well below 1 the noise
        no longer smears the codec's rounding, and the gradient is 0 nearly everywhere.
    objective: f of the real-valued q. Rounding and clipping to 0..51 belong in it, so that g is the gradient of what
        is really coded.
    control_variate: c of the same real-valued q, to (B,), twice differentiable; c(round(q)) would have no slope.

    Raises `ValueError` unless `std` is above 0.
    """
    sample, score = _gaussian(mean, std, generator)
    value = _evaluate(objective, sample)
    q = sample.detach().requires_grad_()  # dq/d mean = 1: the derivative along q is the one along the mean
    variate = _checked(control_variate(q), sample)
    (path,) = torch.autograd.grad(variate.sum(), q, create_graph=True, materialize_grads=True)
    return GradientEstimate(_per_row(value - variate, sample) * score + path, sample, value)


def variance_loss(estimate: GradientEstimate) -> torch.Tensor:
    """The scalar to train phi on: E[g^2], summed over the coefficients, averaged over the rows.

    Var[g] = E[g^2] - E[g]^2, and E[g] does not depend on phi, so that both have the same derivative along phi.
    """
    return estimate.gradient.square().flatten(1).sum(1).mean()


def conditional_gumbel(log_p: torch.Tensor, *, sample: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """z~ ~ p(z | H(z) = sample), (B, K, C): as z = log_p + Gumbel noise, given where its maximum is.

    log_p: normalised log probabilities. z~ stays differentiable along them (Tucker et al., NeurIPS 2017): without this
        path RELAX is biased.
    sample: one-hot.

    The maximum is Gumbel(0) wherever it is, as log_p is normalised. The others are Gumbel(log_p) cut off at it:
    -log(-log(v_i) / p_i - log(v_max)), here by logaddexp, because p_i = 0 in floats for a QP far from the mean.
    """
    noise = _gumbel_like(log_p, generator)
    maximum = (noise * sample).sum(-1, keepdim=True)
    return torch.where(sample.bool(), maximum, -torch.logaddexp(-(log_p + noise), -maximum))


def _gumbel_like(like: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    limits = torch.finfo(like.dtype)
    return -torch.log(-torch.log(uniform.clamp(limits.tiny, 1 - limits.eps)))


def _one_hot_of_max(z: torch.Tensor) -> torch.Tensor:
    return F.one_hot(z.detach().argmax(-1), z.shape[-1]).to(z.dtype)


def _gaussian(
    mean: torch.Tensor, std: float | torch.Tensor, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample and its score d log p(q)/d mean = (q - mean) / std^2, both (B, K) and without graph."""
    if not (torch.as_tensor(std) > 0).all():
        raise ValueError(f"std must be above 0 everywhere, got {std}: without exploration there is no score")
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    std = torch.as_tensor(std, device=mean.device, dtype=mean.dtype).detach()
    return mean.detach() + std * noise, noise / std


def _evaluate(objective: Values, sample: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return _checked(objective(sample), sample)


def _checked(values: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """(B,), where the sample is and as precise: an encoder may well answer on the CPU, in another precision."""
    if values.shape != sample.shape[:1]:
        raise ValueError(
            f"values of shape {tuple(values.shape)} for samples of shape {tuple(sample.shape)}: "
            f"objective and control_variate must return one value per row, ({len(sample)},)"
        )
    return values.to(sample)


def _per_row(values: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """(B,) to (B, 1, ..), to weigh the rows of `sample`."""
    return values.reshape(-1, *[1] * (sample.dim() - 1))
