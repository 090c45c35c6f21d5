"""Detection: boxes decode as published, damage lies where objects are, AP is COCO's."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from dvcc import read_clip
from dvcc.errors import CheckpointError, ConfigError
from dvcc.tasks import build_task
from dvcc.tasks.average_precision import AveragePrecision
from dvcc.tasks.nets.detector import Boxes, decode, detect
from tests.conftest import write_detector

GRID, CLASSES = 4, 3


@pytest.fixture(scope="module")
def task(detector):
    return build_task("detection", model="fastestdet", weights=detector)


def answer_of(*objects: tuple[int, int, int, float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(8, 4, 4): at cells (row, column) a box a quarter of the picture wide around the cell's corner, of a class and score."""
    answer = torch.full((5 + CLASSES, GRID, GRID), 1e-3, dtype=dtype)
    answer[1:3] = 0.0
    answer[3:5] = torch.logit(torch.tensor(0.25, dtype=dtype))
    for row, column, label, score in objects:
        answer[0, row, column] = score
        answer[5 + label, row, column] = score
    return answer


def test_boxes_decode_as_published():
    answer = answer_of((1, 2, 1, 0.8))
    answer[1, 1, 2], answer[2, 1, 2] = 0.5, -0.3
    corners, scores = decode(answer)
    cell = 1 * GRID + 2
    x, y = (2 + torch.tensor(0.5).tanh()) / GRID, (1 + torch.tensor(-0.3).tanh()) / GRID
    torch.testing.assert_close(corners[cell], torch.stack([x - 0.125, y - 0.125, x + 0.125, y + 0.125]))
    assert scores[cell, 1] == pytest.approx(0.8**0.6 * 0.8**0.4) and scores[cell, 0] == pytest.approx(0.8**0.6 * 1e-3**0.4)


def test_a_box_that_a_better_one_of_its_class_covers_is_dropped():
    answer = answer_of((1, 1, 0, 0.9), (1, 2, 0, 0.8), (3, 3, 2, 0.7))
    answer[1, 1, 1] = torch.atanh(torch.tensor(0.9))  # nearly where its neighbour is
    found = detect(answer, least_score=0.5)
    assert found.labels.tolist() == [0, 2] and found.scores.tolist() == pytest.approx([0.9, 0.7])
    other_class = answer.clone()
    other_class[5:, 1, 2] = torch.tensor([1e-3, 0.8, 1e-3])
    assert detect(other_class, least_score=0.5).labels.tolist() == [0, 1, 2]


def test_a_lost_object_is_damage_on_its_box_and_nowhere_else(task):
    reference = answer_of((1, 1, 0, 0.9), (3, 3, 2, 0.7))
    lost = answer_of((1, 1, 0, 0.9))
    damage = task.damage(lost[None], reference[None])[0]
    assert damage.shape == (16, 16)
    share = float(damage.mean())
    assert 0.45 < share <= 0.5  # one of two, but for the thousandths that are everywhere
    assert float(damage[10:14, 10:14].sum() / damage.sum()) == pytest.approx(1.0)  # around the corner of cell (3, 3)
    assert float(task.loss(reference[None], reference[None])) == 0


def test_a_moved_box_and_a_changed_class_are_damage(task):
    reference = answer_of((1, 1, 0, 0.9))
    moved, renamed, weaker = reference.clone(), answer_of((1, 1, 2, 0.9)), answer_of((1, 1, 0, 0.6))
    moved[1, 1, 1] = 0.5
    losses = [float(task.loss(x[None], reference[None])) for x in (weaker, moved, renamed)]
    assert losses[0] == pytest.approx(1 - 0.6 / 0.9, rel=1e-4) and losses[1] > 0.3 and losses[2] > 0.9


def test_a_false_alarm_is_damage_where_it_is(task):
    reference = answer_of((0, 0, 0, 0.9))
    alarmed = answer_of((0, 0, 0, 0.9), (3, 2, 1, 0.8))
    damage = task.damage(alarmed[None], reference[None])[0]
    assert float(damage.mean()) == pytest.approx(0.5 * (0.8 - 0.4), rel=1e-3)
    assert float(damage[10:14, 6:10].sum() / damage.sum()) == pytest.approx(1.0)
    doubtful = answer_of((0, 0, 0, 0.9), (3, 2, 1, 0.35))
    assert float(task.loss(doubtful[None], reference[None])) == 0


def test_loss_gradient_in_float64(task):
    generator = torch.Generator().manual_seed(0)
    reference = torch.stack([answer_of((1, 1, 0, 0.9)), answer_of((2, 2, 2, 0.8))]).double()[None]
    prediction = reference * (0.6 + 0.2 * torch.rand(reference.shape, generator=generator, dtype=torch.float64))
    prediction[:, :, 1:3] += 0.1
    prediction[0, 0, [0, 6], 3, 2] = 0.7  # a false alarm
    assert torch.autograd.gradcheck(lambda p: task.loss(p, reference), prediction.requires_grad_())


def test_a_clip_without_objects_has_no_loss_and_no_metric(task):
    empty = answer_of()[None, None]
    assert float(task.loss(empty, empty)) == 0 and float(task.agreement(empty, empty)) == 1
    metric = task.metric()
    metric.update(empty, empty)
    assert torch.isnan(metric.compute())


def random_boxes(generator: torch.Generator, count: int) -> Boxes:
    centre, size = torch.rand(count, 2, generator=generator), 0.1 + 0.3 * torch.rand(count, 2, generator=generator)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    return Boxes(
        torch.cat([centre - size / 2, centre + size / 2], 1), torch.randint(0, CLASSES, (count,), generator=generator), scores
    )


def test_average_precision_is_cocos():
    """Boxes that miss, hit twice, hit a little, of wrong classes, and pictures with none of either."""
    generator = torch.Generator().manual_seed(0)
    # By itself torchmetrics takes COCO's 101 recalls in float32, and a recall of 0.29 is then one too low.
    ours, theirs = AveragePrecision(CLASSES), MeanAveragePrecision(rec_thresholds=np.linspace(0, 1, 101).tolist())
    for picture in range(25):
        truth = random_boxes(generator, picture % 5)
        guesses = random_boxes(generator, 3)
        corners = torch.cat([truth.corners, truth.corners, guesses.corners])
        corners = corners + 0.03 * torch.randn(corners.shape, generator=generator)
        labels = torch.cat([truth.labels, truth.labels, guesses.labels])
        scores, order = torch.rand(len(labels), generator=generator).sort(descending=True)
        found = Boxes(corners[order], labels[order], scores)
        ours.update([found], [truth])
        scale = 500  # COCO's tools think in pixels
        theirs.update(
            [{"boxes": scale * found.corners, "labels": found.labels, "scores": found.scores}],
            [{"boxes": scale * truth.corners, "labels": truth.labels}],
        )
    expected, found = theirs.compute(), ours.average_precisions()
    assert float(found.mean()) == pytest.approx(float(expected["map"]), abs=1e-6)
    assert float(found[0]) == float(ours.compute()) == pytest.approx(float(expected["map_50"]), abs=1e-6)
    assert float(found[5]) == pytest.approx(float(expected["map_75"]), abs=1e-6)
    assert 0.1 < float(found[0]) < 0.9


@pytest.mark.parametrize("content", ["missing", "not ONNX", "another layout"])
def test_a_file_that_is_no_detector_is_named(content, tmp_path):
    path = tmp_path / "model.onnx"
    if content == "not ONNX":
        path.write_bytes(b"weights")
    elif content == "another layout":
        write_detector(path, num_classes=0)
    with pytest.raises(CheckpointError, match=r"model\.onnx"):
        build_task("detection", model="fastestdet", weights=path)


def test_frames_must_be_rgb(task):
    with pytest.raises(ConfigError, match=r"RGB frames .* got \(2, 1, 64, 96\)"):
        task.predict(torch.zeros(2, 1, 64, 96))


def test_fastestdet_sees_the_person(assets):
    """The published weights, through the published arithmetic: a person alone in a corridor."""
    real = build_task("detection", model="fastestdet", weights=assets / "models/detection/fastestdet_coco80_352.onnx")
    clip = read_clip(assets / "videos/intel_one-by-one-person-detection.mp4", frames=1, start=278, size=(288, 512))
    (objects,) = real.objects(clip.frames)
    assert objects.labels[0] == 0 and objects.scores[0] > 0.8  # class 0 is a person
    assert real.picture(clip.frames[0], real.predict(clip.frames)[0]).shape == (3, 288, 512)
