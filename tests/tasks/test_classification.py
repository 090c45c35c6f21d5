"""Classification: accuracies count frames, the loss is bounded, the words are on the picture."""

import pytest
import torch

from dvcc.tasks import build_task
from dvcc.tasks.classification import Accuracy


@pytest.fixture
def task(classifier):
    return build_task("classification", model="tiny")


def logits_of(*orders: list[int], num_classes: int = 10) -> torch.Tensor:
    """Classes from the surest on; the others are less sure than they."""
    logits = torch.arange(num_classes, 0, -1).float().neg().repeat(len(orders), 1) - 100
    for row, order in zip(logits, orders, strict=True):
        row[order] = -torch.arange(len(order)).float()
    return logits


def test_accuracies_count_the_surest_and_the_five_surest():
    logits = logits_of([3, 1, 4, 5, 9, 2], [6, 5, 3, 8, 9, 7], [2, 7, 1, 8, 4, 0])
    labels = torch.tensor([3, 9, 0])  # first, fifth, sixth
    losses = []
    for k in (1, 2, 5, 6):
        metric = Accuracy(top_k=k)
        metric.update(logits[None], labels[None])
        losses.append(float(metric.compute()))
    assert losses == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])


def test_the_figures_are_top_1_and_top_5(task):
    losses = []
    for metric in task.metrics().values():
        metric.update(logits_of([3, 1, 4, 5, 9, 2], num_classes=40), torch.tensor([9]))
        losses.append(float(metric.compute()))
    assert dict(zip(task.metrics(), losses, strict=True)) == {"top-1": 0, "top-5": 1}


def test_with_fewer_classes_than_five_every_answer_is_among_them():
    metric = Accuracy(top_k=5)
    metric.update(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    assert float(metric.compute()) == 1


def test_the_loss_is_how_much_of_the_probabilities_has_moved(task):
    sure, other, half = torch.tensor([[[50.0, 0, 0]], [[0, 50.0, 0]], [[50.0, 50.0, 0]]])[:, None].unbind()
    assert float(task.loss(other, sure)) == pytest.approx(1) and float(task.loss(half, sure)) == pytest.approx(0.5)
    assert task.degradation(half, sure).shape == (1, 1, 1, 1)


def test_loss_gradient_in_float64(task):
    generator = torch.Generator().manual_seed(0)
    prediction, reference = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p: task.loss(p, reference), prediction.requires_grad_())


def test_the_picture_names_imagenets_classes(task):
    frame = torch.full((3, 96, 160), 90, dtype=torch.uint8)
    dog, cat = (torch.nn.functional.one_hot(torch.tensor(label), 1000) * 20.0 for label in (207, 281))
    pictures = [task.picture(frame, logits) for logits in (dog, cat)]
    assert not torch.equal(*pictures) and torch.equal(pictures[0][:, 48:], frame[:, 48:])
