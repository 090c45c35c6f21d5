"""One suite for every task."""

import pytest
import torch

from dvcc.errors import ConfigError
from dvcc.evaluation.metrics import pooled, state_of
from dvcc.tasks import TASKS, Task, build_task

MODELS = {"detection": ["fastestdet"], "reconstruction": ["psnr", "ssim"], "segmentation": ["student"]}
CASES = [(name, model) for name, models in MODELS.items() for model in models]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case), scope="module")
def task(request, detector) -> Task:
    name, model = request.param
    return build_task(name, model=model, weights=detector if name == "detection" else None).eval()


@pytest.fixture
def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 12, generator=generator), (64, 96), mode="bicubic")
    return smooth.clamp(0, 1).view(2, 3, 3, 64, 96)


def noisy(frames: torch.Tensor, amount: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (frames + amount * torch.randn(frames.shape, generator=generator)).clamp(0, 1)


def test_every_task_is_covered():
    assert set(MODELS) == set(TASKS)


def test_clips_and_single_frames_are_predicted_alike(task, frames):
    clip = task.predict(frames)
    assert clip.shape[:2] == (2, 3)
    torch.testing.assert_close(task.predict(frames[0]), clip[0], rtol=1e-4, atol=1e-4)


def test_uint8_and_float_frames_are_the_same_picture(task, frames):
    as_bytes = (frames * 255).round().to(torch.uint8)
    torch.testing.assert_close(task.predict(as_bytes), task.predict(as_bytes.float() / 255))


def test_loss_is_per_clip_nothing_for_the_reference_itself_and_grows_with_damage(task, frames):
    reference = task.predict(frames)
    losses = [task.loss(task.predict(noisy(frames, amount)), reference) for amount in (0.0, 0.05, 0.4)]
    assert all(loss.shape == (2,) and torch.isfinite(loss).all() for loss in losses)
    assert losses[0].abs().max() < 1e-4 and (losses[0] < losses[2]).all()
    assert (losses[1] < losses[2]).all()


def test_loss_of_a_clip_does_not_depend_on_its_neighbours_in_the_batch(task, frames):
    reference, prediction = task.predict(frames), task.predict(noisy(frames, 0.1))
    alone = task.loss(prediction[1:], reference[1:])
    torch.testing.assert_close(task.loss(prediction, reference)[1:], alone, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_frames_and_not_the_network(task, frames):
    coded = noisy(frames, 0.1).requires_grad_()
    task.train()  # as inside a module that trains
    task.loss(task.predict(coded), task.predict(frames)).sum().backward()
    assert coded.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in task.parameters())


def test_training_mode_changes_no_prediction(task, frames):
    expected = task.eval().predict(frames)
    torch.testing.assert_close(task.train().predict(frames), expected)


def test_metric_falls_with_noise_and_pools_over_clips(task, frames):
    reference = task.predict(frames)
    values = []
    for amount in (0.02, 0.4):
        prediction = task.predict(noisy(frames, amount))
        whole = task.metric()
        whole.update(prediction, reference)
        states = []
        for i in range(2):
            metric = task.metric()
            metric.update(prediction[i], reference[i])
            states.append(state_of(metric))
        assert pooled(task.metric(), states) == pytest.approx(float(whole.compute()), rel=1e-5)
        values.append(float(whole.compute()))
    assert values[0] > values[1]


def test_agreement_is_full_with_itself(task, frames):
    reference = task.predict(frames)
    torch.testing.assert_close(task.agreement(reference, reference), torch.ones(2))


def test_picture_has_the_shape_of_the_frame(task, frames):
    picture = task.picture(frames[0, 0], task.predict(frames)[0, 0])
    assert picture.shape == (3, 64, 96) and picture.dtype == torch.uint8


def test_unknown_names_list_the_choices():
    with pytest.raises(ConfigError, match="detection, reconstruction, segmentation"):
        build_task("segmentatio", model="student")
    with pytest.raises(ConfigError, match="psnr or ssim"):
        build_task("reconstruction", model="vmaf")
    with pytest.raises(ConfigError, match="fcn_resnet50"):
        build_task("segmentation", model="no_such_net")
    with pytest.raises(ConfigError, match="fastestdet"):
        build_task("detection", model="no_such_net")
