"""Segmentation: the loss cares for rare classes, the metric is mIoU of the set, networks load strictly."""

import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.functional.classification import multiclass_jaccard_index

from dvcc import read_clip
from dvcc.errors import CheckpointError
from dvcc.networks.espnetv2 import ESPNetv2
from dvcc.networks.loading import Normalise
from dvcc.networks.student import StudentSegmenter
from dvcc.networks.weights import Weights, save_weights
from dvcc.tasks import build_task
from dvcc.tasks.segmentation import MeanIoU


def logits_of(labels: torch.Tensor, num_classes: int = 20, confidence: float = 8.0) -> torch.Tensor:
    return confidence * torch.nn.functional.one_hot(labels, num_classes).movedim(-1, -3).float()


@pytest.fixture(scope="module")
def task():
    return build_task("segmentation", model="student")


def test_a_rare_class_weighs_more_than_its_pixels(task):
    """16 of 1024 pixels are a second class: losing all of them costs by the square root of the counts, not by the counts."""
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, :4, :4] = 1
    reference = logits_of(labels, confidence=30.0)
    rare_lost, common_lost = labels.clone(), labels.clone()
    rare_lost[labels == 1] = 2
    common_lost[labels == 0] = 2
    rare, common = (float(task.loss(logits_of(lost, confidence=30.0), reference)[0]) for lost in (rare_lost, common_lost))
    assert rare / common == pytest.approx((16 / 1008) ** 0.5, rel=1e-4)
    assert rare + common == pytest.approx(1.0)  # every pixel is wrong in one of them


def test_a_surer_prediction_of_the_same_label_is_a_change_too(task):
    """The reference's doubt is part of what it says; cross-entropy would reward its loss."""
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    doubtful, sure = logits_of(labels, confidence=2.0), logits_of(labels, confidence=9.0)
    assert float(task.loss(sure, doubtful)) > 0.5 and float(task.loss(doubtful, doubtful)) == 0


def test_loss_gradient_in_float64(task):
    generator = torch.Generator().manual_seed(0)
    prediction, reference = (torch.randn(2, 3, 4, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p: task.loss(p, reference), prediction.requires_grad_())


def test_miou_matches_torchmetrics_where_every_class_is_present():
    generator = torch.Generator().manual_seed(0)
    prediction, reference = (torch.randint(0, 5, (2, 40, 40), generator=generator) for _ in range(2))
    ours = MeanIoU(5)
    ours.update(logits_of(prediction, 5), reference)
    expected = multiclass_jaccard_index(prediction, reference, num_classes=5, average="macro")
    assert float(ours.compute()) == pytest.approx(float(expected), abs=1e-6)


def test_a_class_that_only_the_prediction_has_is_not_averaged():
    reference = torch.zeros(1, 10, 10, dtype=torch.int64)
    prediction = reference.clone()
    prediction[0, 0, 0] = 7
    metric = MeanIoU(20)
    metric.update(logits_of(prediction), reference)
    assert float(metric.compute()) == pytest.approx(0.99)


def test_an_ignored_pixel_is_not_looked_at():
    labels = torch.ones(1, 10, 10, dtype=torch.int64)
    prediction = labels.clone()
    prediction[0, 0], labels[0, 0] = 7, 255
    metric = MeanIoU(20)
    metric.update(logits_of(prediction), labels)
    assert float(metric.compute()) == 1


def test_odd_sizes_are_predicted_at_their_own_size(task):
    assert task.predict(torch.rand(1, 3, 54, 70)).shape[-2:] == (54, 70)


def test_student_is_small():
    net = StudentSegmenter()
    assert sum(parameter.numel() for parameter in net.parameters()) <= 1_500_000


def test_published_espnetv2_weights_load_strictly_and_see_a_road(assets):
    task = build_task("segmentation", model="espnetv2", weights=assets / "models/segmentation/espnetv2_s_1.0_city_1024x512.pth")
    clip = read_clip(assets / "videos/carnd_test_video.mp4", frames=1, size=(288, 512))
    labels = task.predict(clip.frames)[0].argmax(0)
    road, sky, vegetation = 0, 10, 8
    assert (labels[220:, 100:400] == road).float().mean() > 0.6
    assert (labels[:60] == sky).float().mean() + (labels[:60] == vegetation).float().mean() > 0.6


def test_espnetv2_round_trips_through_its_own_state_dict(tmp_path):
    """Without the assets: widths and classes are read from the file."""
    torch.manual_seed(0)
    for scale, classes in ((1.0, 20), (2.0, 21)):
        net = ESPNetv2(num_classes=classes, scale=scale).eval()
        torch.save(net.state_dict(), tmp_path / "net.pth")
        task = build_task("segmentation", model="espnetv2", weights=tmp_path / "net.pth").eval()
        assert task.net.num_classes == classes
        ones = torch.ones(1, 3, 64, 64)
        torch.testing.assert_close(task.net(ones), net(Normalise()(ones)))


def test_any_torchvision_model_takes_its_own_weights_from_a_file(tmp_path):
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(0)
    net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    task = build_task("segmentation", model="lraspp_mobilenet_v3_large", weights=tmp_path / "net.pth")
    assert task.predict(torch.rand(1, 3, 64, 64)).shape == (1, 21, 64, 64)


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickle", "other model"])
def test_bad_weights_are_named(damage, tmp_path):
    path = tmp_path / "net.pth"
    torch.save(StudentSegmenter().state_dict(), path)
    if damage == "missing":
        path = tmp_path / "nowhere.pth"
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "pickle":
        torch.save({"code": _Unpicklable()}, path)
    with pytest.raises(CheckpointError, match=path.name):
        build_task("segmentation", model="espnetv2", weights=path)


class _Unpicklable:
    def __reduce__(self):
        return print, ("pickled code was executed",)


def test_student_weights_of_another_kind_are_refused(tmp_path):
    save_weights(tmp_path / "x.safetensors", Weights("control", {}, {"a": torch.ones(1)}))
    with pytest.raises(CheckpointError, match="'control'.*'student'"):
        build_task("segmentation", model="student", weights=tmp_path / "x.safetensors")


def test_pairs_are_counted_as_torchmetrics_counts_them():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 5, 8, 9, generator=generator), torch.randint(0, 5, (3, 8, 9), generator=generator)
    labels[:, :3] = 255
    theirs, ours = MulticlassConfusionMatrix(5, ignore_index=255), MeanIoU(5)
    for metric, answer in ((theirs, logits.argmax(1)), (ours, logits)):
        metric.update(answer[:2], labels[:2])
        metric.update(answer[2:], labels[2:])
    assert torch.equal(ours.confmat, theirs.confmat) and ours.confmat.sum() == 3 * 5 * 9


def test_the_loss_against_labels_is_what_the_true_class_lacks_and_skips_what_is_ignored(task):
    labels = torch.randint(0, 4, (2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, 1, 20, 6, 6, generator=torch.Generator().manual_seed(1))
    labels[:, :, 0] = 255
    logits.requires_grad_()
    degradation = task.degradation(logits, task.reference(labels, logits))
    lacks = 1 - logits.softmax(2).gather(2, labels.clamp(max=3)[:, :, None]).squeeze(2)
    weights = degradation[:, :, 1:] / lacks[:, :, 1:]
    assert (degradation[:, :, 0] == 0).all()
    for item, of_item in zip(weights, labels[:, :, 1:], strict=True):  # one weight per class and picture
        assert all(item[of_item == label].std() < 1e-4 for label in range(4))
    degradation.sum().backward()
    assert (logits.grad[..., 0, :] == 0).all() and logits.grad[..., 1:, :].abs().sum() > 0
