"""Optical flow: the error is a distance in pixels, the degradation lies on both frames of a pair."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.utils import flow_to_image

from dvcc.errors import ConfigError
from dvcc.tasks import build_task
from dvcc.tasks.judging import predict_frames
from dvcc.tasks.optical_flow import EndPointError


@pytest.fixture(scope="module")
def task():
    return build_task("optical_flow", model="ours")


def test_the_end_point_error_is_a_mean_distance_over_what_is_known():
    labels = torch.zeros(1, 2, 2, 3)
    labels[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    labels[0, 0, 1, 2] = float("nan")  # one component is enough
    prediction = labels.nan_to_num(100.0)
    prediction[0, :, 1, 0] = torch.tensor([-6.0, 8.0])
    prediction[0, :, 0, 0] = torch.tensor([3.0, 6.0])
    metric = EndPointError()
    metric.update(prediction, labels)
    assert float(metric.compute()) == pytest.approx((10 + 2) / 5)


def test_a_lost_answer_is_that_of_no_motion(task):
    metric, still = task.metric(), task.metric()
    labels = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 5, 6).clone()
    labels[0, :, 0, 0] = float("nan")
    metric.update(labels + 0.3, labels)
    still.update(torch.zeros_like(labels), labels)
    assert task.metric_when_dropped(metric) == pytest.approx(5.0) == float(still.compute())


@pytest.mark.parametrize("dx, dy", [(3, 0), (-2, 4)])
def test_a_known_translation_is_found(task, dx, dy):
    generator = torch.Generator().manual_seed(0)
    texture = F.interpolate(torch.rand(1, 3, 24, 32, generator=generator), (96, 128), mode="bicubic").clamp(0, 1)
    clip = torch.cat([texture.roll((t * dy, t * dx), (2, 3)) for t in range(3)])
    flow = task.predict(clip)
    assert flow.shape == (2, 2, 96, 128)
    labels = torch.full_like(flow, float("nan"))
    labels[..., 16:-16, 16:-16] = torch.tensor([dx, dy]).view(2, 1, 1)  # what is rolled in at the border comes from nowhere
    metric = task.metric()
    metric.update(flow, labels)
    assert float(metric.compute()) < 0.2 * (dx**2 + dy**2) ** 0.5


def test_degradation_is_shared_by_the_frames_of_a_pair(task):
    reference = torch.zeros(1, 3, 2, 8, 8)
    prediction = reference.clone()
    prediction[0, 1, 0, 2, 5] = 2.0
    degradation = task.degradation(prediction, reference)
    assert degradation.shape == (1, 4, 8, 8)
    assert degradation.nonzero().tolist() == [[0, 1, 2, 5], [0, 2, 2, 5]]
    assert float(degradation[0, 1, 2, 5]) == float(degradation[0, 2, 2, 5])
    assert float(task.loss(prediction, reference)) == pytest.approx(torch.tensor(3.0).log().item() / (3 * 64), rel=0.01)


def test_two_small_errors_are_worse_than_one_that_is_as_large(task):
    reference = torch.zeros(1, 1, 2, 4, 4)
    first, second = reference.clone(), reference.clone()
    first[0, 0, 0, 0, 0], second[0, 0, 0, :2, 0] = 8.0, 4.0
    assert float(task.loss(second, reference)) > 1.2 * float(task.loss(first, reference))


def test_loss_gradient_in_float64(task):
    """Also where nothing has changed."""
    generator = torch.Generator().manual_seed(0)
    prediction, reference = (torch.randn(2, 2, 2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    prediction[0, 0, :, 0] = reference[0, 0, :, 0]
    assert torch.autograd.gradcheck(lambda p: task.loss(p, reference), prediction.requires_grad_())


def test_flows_agree_within_a_pixel_or_a_twentieth_of_their_length(task):
    reference = torch.zeros(1, 1, 2, 1, 4)
    reference[0, 0, 0, 0, 2:] = 60.0
    prediction = reference.clone()
    prediction[0, 0, 1, 0] = torch.tensor([0.9, 1.1, 2.9, 3.1])
    assert task.agreement(prediction, reference).tolist() == [0.5]


def test_the_picture_is_in_the_classical_colours(task):
    flow = torch.randn(2, 8, 10)
    assert torch.equal(task.picture(torch.zeros(3, 8, 10), flow), flow_to_image(flow))


def test_a_single_frame_has_no_flow(task):
    for frames in (torch.zeros(1, 3, 64, 96), torch.zeros(2, 1, 3, 64, 96)):
        with pytest.raises(ConfigError, match=r"two frames or more, got \(.*3, 64, 96\)"):
            task.predict(frames)
    with pytest.raises(ConfigError, match="two frames"):
        predict_frames(task, torch.zeros(1, 3, 64, 96))


def test_an_unknown_flow_loses_nothing():
    task = build_task("optical_flow", model="ours")
    prediction = torch.randn(1, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.zeros(1, 1, 2, 4, 4)
    labels[..., 0, :] = float("nan")
    loss = task.loss(prediction, task.reference(labels, prediction))
    loss.sum().backward()
    assert loss > 0 and (prediction.grad[..., 0, :] == 0).all() and (prediction.grad[..., 1:, :] != 0).all()
