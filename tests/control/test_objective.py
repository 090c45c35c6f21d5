"""The Lagrangian's signs and the dual ascent's direction."""

import pytest
import torch

from dvcc.control import DualAscent, lagrangian


def terms(log_bits, log_target, *, multiplier=0.5, weight=1.0, margin=0.0):
    log_bits = torch.tensor([log_bits], dtype=torch.float64, requires_grad=True)
    result = lagrangian(
        torch.tensor([2.0], dtype=torch.float64),
        log_bits,
        torch.tensor([log_target], dtype=torch.float64),
        multiplier=torch.tensor([multiplier]),
        deviation_weight=weight,
        margin=margin,
    )
    result.total.sum().backward()
    return float(result.total.detach()), float(log_bits.grad)


def test_spending_over_the_target_costs_and_is_pushed_down():
    total, gradient = terms(11.0, 10.0)
    assert total == pytest.approx(2 + 0.5 * 1 + 1.0 * 1) and gradient == pytest.approx(1.5)


def test_spending_under_the_target_is_pushed_up_to_it():
    total, gradient = terms(9.0, 10.0)
    assert total == pytest.approx(2 - 0.5 + 1.0) and gradient == pytest.approx(0.5 - 1.0)


def test_without_the_deviation_term_fewer_bits_are_always_better():
    assert terms(9.0, 10.0, weight=0.0)[1] > 0


def test_the_margin_asks_for_that_much_less():
    assert terms(10.0, 10.0, margin=0.1)[0] == pytest.approx(2 + 0.15)


def test_dual_ascent_moves_only_the_band_and_against_the_excess():
    dual = DualAscent(bounds=(-3.0, -2.0), start=0.5, step=0.1)
    log_bpp = torch.tensor([-4.0, -2.5])
    dual.ascend(log_bpp, torch.tensor([1.0, -2.0]))
    assert dual.multipliers.tolist() == pytest.approx([0.6, 0.3, 0.5])
    assert dual(log_bpp).tolist() == pytest.approx([0.6, 0.3])
    for _ in range(10):
        dual.ascend(log_bpp, torch.tensor([0.0, -2.0]))
    assert dual.multipliers[1] == 0  # never negative: saving bits is not a goal of its own


def test_a_fixed_multiplier_is_the_published_form_and_is_stored():
    dual = DualAscent(bounds=(-3.0,), start=0.5, step=0.0)
    dual.ascend(torch.tensor([-4.0]), torch.tensor([5.0]))
    assert dual.state_dict()["multipliers"].tolist() == [0.5, 0.5]


def test_minimising_it_meets_the_rate_and_spends_where_the_task_needs_it():
    """A toy codec with 2 regions: bits fall by 12 % a QP, and the task sees region 0 only. A flipped sign cannot pass."""
    qp = torch.tensor([30.0, 30.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([qp], lr=0.2)
    target = torch.log(torch.exp(-0.12 * torch.tensor([30.0, 30.0], dtype=torch.float64)).sum())
    for _ in range(600):
        log_bits = torch.logsumexp(-0.12 * qp, 0)
        task = 0.2 * torch.exp(0.06 * (qp[0] - 30))
        total = lagrangian(task[None], log_bits[None], target[None], multiplier=torch.tensor([0.3]), deviation_weight=1.0).total
        optimizer.zero_grad()
        total.sum().backward()
        optimizer.step()
    assert torch.logsumexp(-0.12 * qp, 0).item() == pytest.approx(float(target), abs=0.05)
    assert qp[0] < 28 and qp[1] > 32
