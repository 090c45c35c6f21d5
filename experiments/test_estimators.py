"""Estimates are right on average, checked against the sum over all outcomes; control variates lower their variance."""

from __future__ import annotations

import pytest
import torch

from experiments.estimators import (
    conditional_gumbel,
    gaussian_reinforce_gradient,
    lax_gradient,
    reinforce_gradient,
    relax_gradient,
    variance_loss,
)

DRAWS = 100_000
LOGITS = torch.tensor([[0.3, -0.6, 0.9], [-0.4, 0.5, 0.2]], dtype=torch.float64)  # K = 2 coefficients, C = 3 choices
# f of the two choices: falls along both, as bits do along the QP, and they interact.
TABLE = torch.tensor([[3.0, 1.8, 2.1], [1.7, -0.4, 0.9], [0.2, -1.5, 0.4]], dtype=torch.float64)
MEAN = torch.tensor([2.3, 3.6], dtype=torch.float64)
STD = torch.tensor([0.8, 1.3], dtype=torch.float64)  # a width for each coefficient, to catch a mix-up of the two
LEVELS = torch.arange(-12.0, 20.0, dtype=torch.float64)  # every QP that a draw can round to


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def looked_up(choices):
    """f of one-hot choices (B, 2, 3), and, as it is multilinear, a control variate near f on soft ones."""
    return torch.einsum("bi,ij,bj->b", choices[:, 0], TABLE, choices[:, 1])


def smooth(qps):
    return (qps[:, 0] - 1.5) ** 2 * (1 + 0.3 * qps[:, 1]) - 0.5 * qps[:, 1] ** 2


def coded(qps):
    """f of real QPs (B, 2): the codec rounds, so autograd has nothing to say about it."""
    return smooth(qps.round())


def layers(inputs: int, gain: float):
    """phi of a control variate that knows nothing of f."""
    shapes = ((inputs, 8), (8,), (8,))
    return [(gain * torch.randn(shape, dtype=torch.float64, generator=seeded(9))).requires_grad_() for shape in shapes]


def perceptron(phi):
    return lambda sample: (sample.flatten(1) @ phi[0] + phi[1]).tanh() @ phi[2]


def rows(parameter, draws: int = DRAWS):
    return parameter.expand(draws, *parameter.shape)


def exact_over_choices():
    logits = LOGITS.clone().requires_grad_()
    first, second = logits.softmax(-1)
    return torch.autograd.grad(first @ TABLE @ second, logits)[0]


def exact_over_roundings():
    """Rounded normal QPs: the probability of a level is the mass within half a QP of it."""
    mean = MEAN.clone().requires_grad_()
    normal = torch.distributions.Normal(mean[:, None], STD[:, None])
    first, second = normal.cdf(LEVELS + 0.5) - normal.cdf(LEVELS - 0.5)
    values = coded(torch.cartesian_prod(LEVELS, LEVELS)).reshape(len(LEVELS), -1)
    return torch.autograd.grad(first @ values @ second, mean)[0]


def relax(*, variate, objective=looked_up, logits=None, temperature=1.0, seed=0):
    logits = rows(LOGITS) if logits is None else logits
    return relax_gradient(logits, objective=objective, control_variate=variate, temperature=temperature, generator=seeded(seed))


def lax(*, variate, objective=coded, mean=None, seed=0):
    mean = rows(MEAN) if mean is None else mean
    return lax_gradient(mean, std=STD, objective=objective, control_variate=variate, generator=seeded(seed))


def assert_unbiased(gradient, exact):
    error = gradient.std(0) / len(gradient) ** 0.5
    assert (error < 0.05).all()  # else the next line could not see a bias
    assert ((gradient.mean(0) - exact).abs() < 4 * error).all(), (gradient.mean(0), exact, error)


def test_reinforce_is_unbiased():
    estimate = reinforce_gradient(rows(LOGITS), objective=looked_up, generator=seeded())
    assert_unbiased(estimate.gradient, exact_over_choices())


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_relax_is_unbiased_with_any_control_variate(temperature):
    """The variate is large and unrelated to f, so every term counts. So does the path of z~ through the logits."""
    variate = perceptron(layers(6, gain=1.5))
    assert_unbiased(relax(variate=variate, temperature=temperature).gradient.detach(), exact_over_choices())


def test_gaussian_reinforce_is_unbiased_under_rounding():
    estimate = gaussian_reinforce_gradient(rows(MEAN), std=STD, objective=coded, generator=seeded())
    assert_unbiased(estimate.gradient, exact_over_roundings())


def test_lax_is_unbiased_under_rounding_with_any_control_variate():
    variate = perceptron(layers(2, gain=1.5))
    assert_unbiased(lax(variate=variate).gradient.detach(), exact_over_roundings())


def test_a_control_variate_near_the_objective_lowers_the_variance():
    """Below REINFORCE's with the mean taken off, which is all that a baseline could do."""
    level = reinforce_gradient(rows(LOGITS), objective=looked_up, generator=seeded(1)).value.mean()
    plain = reinforce_gradient(rows(LOGITS), objective=lambda q: looked_up(q) - level, generator=seeded())
    assert relax(variate=looked_up).gradient.var(0).sum() < 0.7 * plain.gradient.var(0).sum()

    level = lax(variate=smooth, seed=1).value.mean()
    plain = gaussian_reinforce_gradient(rows(MEAN), std=STD, objective=lambda q: coded(q) - level, generator=seeded())
    assert lax(variate=smooth).gradient.var(0).sum() < 0.7 * plain.gradient.var(0).sum()


@pytest.mark.parametrize(
    "estimator, parameter, name, inputs", [(relax, LOGITS, "logits", 6), (lax, MEAN, "mean", 2)], ids=["relax", "lax"]
)
class TestVarianceLoss:
    def test_lowers_the_variance_within_a_few_steps(self, estimator, parameter, name, inputs):
        phi = layers(inputs, gain=0.3)
        variate = perceptron(phi)
        before = estimator(variate=variate).gradient.var(0).sum()
        optimizer = torch.optim.Adam(phi, lr=0.03)
        for step in range(150):
            optimizer.zero_grad()
            variance_loss(estimator(variate=variate, seed=step + 1, **{name: rows(parameter, 256)})).backward()
            optimizer.step()
        assert estimator(variate=variate).gradient.var(0).sum() < 0.5 * before

    def test_has_its_exact_gradient_along_phi(self, estimator, parameter, name, inputs):
        """By finite differences under the same noise: a term cut off from phi would leave the estimate unbiased."""

        def loss(*phi):
            return variance_loss(estimator(variate=perceptron(phi), **{name: rows(parameter, 3)}))

        assert torch.autograd.gradcheck(loss, layers(inputs, gain=1.0))

    def test_reaches_phi_and_not_the_control_network(self, estimator, parameter, name, inputs):
        control = torch.nn.Linear(1, parameter.numel(), dtype=torch.float64)
        phi = layers(inputs, gain=1.0)
        produced = control(torch.ones(4, 1, dtype=torch.float64)).reshape(4, *parameter.shape)
        estimate = estimator(variate=perceptron(phi), **{name: produced})

        variance_loss(estimate).backward()
        assert all(weight.grad.any() for weight in phi)
        assert control.weight.grad is None and control.bias.grad is None

        before = [weight.grad.clone() for weight in phi]
        produced.backward(estimate.gradient.detach())  # the control's own step, which must leave phi alone
        torch.testing.assert_close(control.bias.grad, estimate.gradient.detach().flatten(1).sum(0))
        assert all(torch.equal(weight.grad, old) for weight, old in zip(phi, before, strict=True))

    def test_is_the_mean_over_the_rows_of_the_squared_norm(self, estimator, parameter, name, inputs):
        estimate = estimator(variate=perceptron(layers(inputs, gain=1.0)), **{name: rows(parameter, 5)})
        norms = torch.stack([gradient.norm() for gradient in estimate.gradient])
        torch.testing.assert_close(variance_loss(estimate), (norms**2).mean())


def test_a_control_variate_that_ignores_the_sample_is_a_baseline():
    baseline = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    plain = reinforce_gradient(rows(LOGITS, 50), objective=lambda q: looked_up(q) - 0.7, generator=seeded())
    estimate = relax(variate=lambda sample: baseline.expand(50), logits=rows(LOGITS, 50))
    torch.testing.assert_close(estimate.gradient.detach(), plain.gradient)


def test_samples_have_the_softmaxs_frequencies():
    for estimate in (
        reinforce_gradient(rows(LOGITS), objective=looked_up, generator=seeded()),
        relax(variate=looked_up),
    ):
        assert (estimate.sample.mean(0) - LOGITS.softmax(-1)).abs().max() < 4 * 0.5 / DRAWS**0.5
        torch.testing.assert_close(estimate.value, looked_up(estimate.sample))


def test_gaussian_samples_have_the_mean_and_the_width():
    sample = lax(variate=smooth).sample
    torch.testing.assert_close(sample.mean(0), MEAN, rtol=0, atol=0.02)
    torch.testing.assert_close(sample.std(0), STD, rtol=0, atol=0.02)


def test_conditioned_noise_agrees_with_the_choice_and_is_gumbel_without_it():
    """Both together are the conditional law: q is a function of z, so the law of z fixes the law of z given q."""
    log_p = rows(LOGITS).log_softmax(-1)
    sample = reinforce_gradient(log_p, objective=looked_up, generator=seeded(1)).sample
    z = conditional_gumbel(log_p, sample=sample, generator=seeded(2))
    assert torch.equal(z.argmax(-1), sample.argmax(-1))
    uniform = torch.exp(-torch.exp(log_p - z)).flatten(1)  # (DRAWS, K * C), if z - log_p is Gumbel noise
    ranks = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    assert (uniform.sort(0).values - ranks[:, None]).abs().max() < 2 / DRAWS**0.5  # Kolmogorov-Smirnov
    assert (torch.corrcoef(uniform.T) - torch.eye(6)).abs().max() < 5 / DRAWS**0.5


def test_relax_shows_the_control_variate_two_draws_that_agree_with_the_choice():
    """Two unconditioned ones would be unbiased as well, only useless: c(z~) would know nothing of q."""
    seen = []

    def variate(soft):
        seen.append(soft.detach())
        return looked_up(soft)

    sample = relax(variate=variate, logits=rows(LOGITS, 1000)).sample
    free, conditioned = seen
    assert torch.equal(free.argmax(-1), sample.argmax(-1)) and torch.equal(conditioned.argmax(-1), sample.argmax(-1))
    assert (free != conditioned).any(-1).all()  # and are drawn apart


def test_conditioned_noise_has_its_exact_gradient_along_the_logits():
    logits = rows(LOGITS, 4).clone().requires_grad_()
    sample = reinforce_gradient(logits, objective=looked_up, generator=seeded(1)).sample

    def z(logits):
        return conditional_gumbel(logits.log_softmax(-1), sample=sample, generator=seeded(2))

    assert torch.autograd.gradcheck(z, logits)


@pytest.mark.parametrize("uniform", [None, 0.0, 1.0])
def test_hopeless_choices_and_extreme_noise_leave_the_gradient_finite(uniform, monkeypatch):
    """Gaussian logits over 52 QPs: the farthest have probability exp(-2600), 0 in float32."""
    if uniform is not None:
        monkeypatch.setattr(torch, "rand", lambda shape, dtype, **_: torch.full(shape, uniform, dtype=dtype))
    logits = -((torch.arange(52.0) - torch.tensor([[0.0], [30.0]])) / 0.7).square() / 2
    weight = torch.linspace(0, 1, 52, requires_grad=True)
    estimate = relax_gradient(
        rows(logits, 200),
        objective=lambda q: q.sum((1, 2)).double(),  # an encoder need not answer in the precision of the logits
        control_variate=lambda q: (q @ weight).square().sum(1),
        temperature=0.5,
        generator=seeded(),
    )
    variance_loss(estimate).backward()
    assert estimate.gradient.isfinite().all() and weight.grad.isfinite().all()
    assert estimate.gradient.dtype == estimate.value.dtype == torch.float32


@pytest.mark.parametrize("estimator, f", [(relax, looked_up), (lax, coded)], ids=["relax", "lax"])
def test_the_objective_is_called_once_on_hard_samples_without_gradient(estimator, f):
    seen = []

    def objective(sample):
        assert not torch.is_grad_enabled() and not sample.requires_grad
        seen.append(sample)
        return f(sample)

    estimate = estimator(variate=lambda sample: sample.flatten(1).sum(1), objective=objective)
    assert len(seen) == 1 and torch.equal(seen[0], estimate.sample) and not estimate.sample.requires_grad
    if f is looked_up:
        assert set(estimate.sample.unique().tolist()) == {0.0, 1.0} and (estimate.sample.sum(-1) == 1).all()


@pytest.mark.parametrize("wrong", [lambda q: q.sum(), lambda q: q.flatten(1).sum(1, keepdim=True)])
def test_values_that_would_broadcast_are_refused(wrong):
    for options in ({"variate": looked_up, "objective": wrong}, {"variate": wrong}):
        with pytest.raises(ValueError, match="one value per row"):
            relax(logits=rows(LOGITS, 5), **options)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_a_width_or_temperature_that_is_not_positive_is_refused(wrong):
    with pytest.raises(ValueError, match=f"temperature must be above 0, got {wrong}"):
        relax(variate=looked_up, temperature=wrong)
    for std in (wrong, torch.tensor([1.0, wrong])):
        with pytest.raises(ValueError, match="std must be above 0 everywhere"):
            gaussian_reinforce_gradient(rows(MEAN, 3), std=std, objective=coded)
        with pytest.raises(ValueError, match="std must be above 0 everywhere"):
            lax_gradient(rows(MEAN, 3), std=std, objective=coded, control_variate=smooth)
