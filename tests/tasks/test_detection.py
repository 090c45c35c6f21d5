"""Detection: boxes decode as published, degradation lies where objects are, AP is COCO's."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from dvcc import read_clip
from dvcc.errors import CheckpointError
from dvcc.networks.detector import detect
from dvcc.networks.detectors import LAYOUTS, Boxes
from dvcc.tasks import build_task
from dvcc.tasks.average_precision import AveragePrecision
from tests.conftest import write_detector

GRID, CLASSES = 4, 3


def decode(answers: torch.Tensor) -> torch.Tensor:
    """Candidates of FastestDet's answers (N, 8, 4, 4)."""
    return torch.cat(LAYOUTS["fastestdet"].decode([answers], (1, 1), CLASSES, torch), -1)


@pytest.fixture(scope="module")
def task(detector):
    return build_task("detection", model="fastestdet", weights=detector)


def answer_of(*objects: tuple[int, int, int, float]) -> torch.Tensor:
    """(8, 4, 4), of FastestDet's layout: at cells (row, column) a box a quarter of the picture wide around the cell's corner, of
    a class and score."""
    answer = torch.full((5 + CLASSES, GRID, GRID), 1e-3)
    answer[1:3] = 0.0
    answer[3:5] = torch.logit(torch.tensor(0.25))
    for row, column, label, score in objects:
        answer[0, row, column] = score
        answer[5 + label, row, column] = score
    return answer


def candidates_of(*objects: tuple[int, int, int, float]) -> torch.Tensor:
    """(16, 7): the same, decoded."""
    return decode(answer_of(*objects)[None])[0]


def moved(candidates: torch.Tensor, cell: tuple[int, int], right: float) -> torch.Tensor:
    """The box of a cell, a share of the picture's width to the right."""
    result = candidates.clone()
    result[cell[0] * GRID + cell[1], [0, 2]] += right
    return result


def share_of_cells(degradation: torch.Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> float:
    """How much of a map lies between these sixteenths of the picture."""
    scale = degradation.shape[0] / 16
    inside = degradation[int(rows[0] * scale) : int(rows[1] * scale), int(columns[0] * scale) : int(columns[1] * scale)]
    return float(inside.sum() / degradation.sum())


def test_boxes_decode_as_published():
    answer = answer_of((1, 2, 1, 0.8))
    answer[1, 1, 2], answer[2, 1, 2] = 0.5, -0.3
    candidates = decode(torch.stack([answer_of(), answer]))
    assert candidates.shape == (2, GRID * GRID, 4 + CLASSES)
    corners, scores = candidates[1, :, :4], candidates[1, :, 4:]
    cell = 1 * GRID + 2
    x, y = (2 + torch.tensor(0.5).tanh()) / GRID, (1 + torch.tensor(-0.3).tanh()) / GRID
    torch.testing.assert_close(corners[cell], torch.stack([x - 0.125, y - 0.125, x + 0.125, y + 0.125]))
    assert scores[cell, 1] == pytest.approx(0.8**0.6 * 0.8**0.4) and scores[cell, 0] == pytest.approx(0.8**0.6 * 1e-3**0.4)


def test_a_box_that_a_better_one_of_its_class_covers_is_dropped():
    # Nearly where its neighbour is.
    candidates = moved(candidates_of((1, 1, 0, 0.9), (1, 2, 0, 0.8), (3, 3, 2, 0.7)), (1, 1), right=0.9 / GRID)
    boxes = detect(candidates, least_score=0.5, suppress=True)
    assert boxes.labels.tolist() == [0, 2] and boxes.scores.tolist() == pytest.approx([0.9, 0.7])
    other_class = candidates.clone()
    other_class[1 * GRID + 2, 4:] = torch.tensor([1e-3, 0.8, 1e-3])
    assert detect(other_class, least_score=0.5, suppress=True).labels.tolist() == [0, 1, 2]
    # A network that has chosen for itself is not chosen for.
    kept = detect(candidates.flip(0), least_score=0.5, suppress=False)
    assert kept.labels.tolist() == [0, 0, 2] and kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_boxes_outside_the_picture_are_none():
    """Clamped to the border they have no area; nor have the rows that fill up a network's list."""
    candidates = torch.zeros(3, 4 + CLASSES)
    candidates[:, 4], candidates[0, :4] = 0.9, torch.tensor([0.1, 0.1, 0.3, 0.3])
    candidates[1, :4] = torch.tensor([1.0, 0.1, 1.0, 0.3])
    assert len(detect(candidates, least_score=0.5, suppress=True).labels) == 1


def test_labels_are_the_sure_objects(task):
    labels = task.labels(torch.stack([candidates_of((1, 1, 0, 0.9), (3, 3, 2, 0.7), (0, 2, 1, 0.5)), candidates_of()])[None])
    assert labels.shape == (1, 2, 16, 5)
    assert labels[0, 0, :, 4].tolist() == [0, 2] + 14 * [-1] and (labels[0, 1, :, 4] == -1).all()
    torch.testing.assert_close(labels[0, 0, 0, :4], torch.tensor([0.125, 0.125, 0.375, 0.375]))


def test_a_lost_object_is_degradation_on_its_box_and_nowhere_else(task):
    reference = candidates_of((1, 1, 0, 0.9), (3, 3, 2, 0.7))
    lost = candidates_of((1, 1, 0, 0.9))
    degradation = task.degradation(lost[None], reference[None])[0]
    share = float(degradation.mean())
    assert 0.45 < share <= 0.5  # one of two, but for the thousandths that are everywhere
    assert share_of_cells(degradation, (10, 14), (10, 14)) == pytest.approx(1.0)  # around the corner of cell (3, 3)
    assert float(task.loss(reference[None], reference[None])) == 0


def test_a_moved_box_and_a_changed_class_are_degradation(task):
    reference = candidates_of((1, 1, 0, 0.9))
    aside = moved(reference, (1, 1), right=0.115)
    renamed, weaker = candidates_of((1, 1, 2, 0.9)), candidates_of((1, 1, 0, 0.6))
    losses = [float(task.loss(x[None], reference[None])) for x in (weaker, aside, renamed)]
    assert losses[0] == pytest.approx(1 - 0.6 / 0.9, rel=1e-4) and losses[1] > 0.3 and losses[2] > 0.9


def test_a_false_alarm_is_degradation_where_it_is(task):
    reference = candidates_of((0, 0, 0, 0.9))
    alarmed = candidates_of((0, 0, 0, 0.9), (3, 2, 1, 0.8))
    degradation = task.degradation(alarmed[None], reference[None])[0]
    assert float(degradation.mean()) == pytest.approx(0.5 * (0.8 - 0.4), rel=1e-3)
    assert share_of_cells(degradation, (10, 14), (6, 10)) == pytest.approx(1.0)
    doubtful = candidates_of((0, 0, 0, 0.9), (3, 2, 1, 0.35))
    assert float(task.loss(doubtful[None], reference[None])) == 0


def test_what_the_reference_half_saw_there_is_no_false_alarm(task):
    """In whatever row of the list, and a little aside."""
    reference = candidates_of((0, 0, 0, 0.9), (3, 2, 1, 0.5))
    losses = [
        float(task.loss(moved(candidates_of((0, 0, 0, 0.9), (3, 2, 1, score)), (3, 2), right).roll(5, 0)[None], reference[None]))
        for score, right in ((0.5, 0.05), (0.8, 0.05), (0.5, 0.2))
    ]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[1] == pytest.approx(0.5 * (0.8 - 0.5), rel=1e-3) and losses[2] == pytest.approx(0.5 * (0.5 - 0.4), rel=1e-3)


def test_a_surer_box_half_on_an_object_is_half_a_false_alarm(task):
    reference = candidates_of((1, 1, 0, 0.7))
    # A second box of the object, 0.25 wide, moved by a third of that: IoU 1/2.
    beside = moved(candidates_of((1, 1, 0, 0.7), (1, 2, 0, 0.95)), (1, 2), right=0.25 / 3 - 1 / GRID)
    assert float(task.loss(beside[None], reference[None])) == pytest.approx(0.5 * (0.95 - 0.7) * 0.5, rel=1e-3)


def test_an_object_of_any_class_counts_in_the_metric(task):
    both, single = candidates_of((1, 1, 0, 0.9), (3, 3, 2, 0.9)), candidates_of((3, 3, 2, 0.9))
    for prediction, expected in ((both, 1.0), (single, 51 / 101)):  # of 101 recalls, those up to a half
        metric = task.metric()
        metric.update(prediction, task.labels(both))
        assert float(metric.compute()) == pytest.approx(expected)


def test_loss_gradient_in_float64(task):
    generator = torch.Generator().manual_seed(0)
    reference = torch.stack([candidates_of((1, 1, 0, 0.9)), candidates_of((2, 2, 2, 0.8), (0, 3, 1, 0.45))]).double()[None]
    noise = torch.rand(reference.shape, generator=generator, dtype=torch.float64)
    prediction = reference * (0.6 + 0.2 * noise)
    prediction[..., :4] = reference[..., :4] + 0.02 * noise[..., :4]
    prediction[0, :, 13, 4] = 0.7  # a false alarm
    prediction[0, 1, 3, 5] = 0.6  # half of one
    assert torch.autograd.gradcheck(lambda p: task.loss(p, reference), prediction.requires_grad_())


def test_a_clip_without_objects_has_no_loss_and_no_metric(task):
    empty = candidates_of()[None, None]
    assert float(task.loss(empty, empty)) == 0 and float(task.agreement(empty, empty)) == 1
    metric = task.metric()
    metric.update(empty, task.labels(empty))
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
    ours = {name: AveragePrecision(CLASSES, iou=iou) for name, iou in (("map", None), ("map_50", 0.5), ("map_75", 0.75))}
    theirs = MeanAveragePrecision(rec_thresholds=np.linspace(0, 1, 101).tolist())
    for picture in range(25):
        truth = random_boxes(generator, picture % 5)
        guesses = random_boxes(generator, 3)
        corners = torch.cat([truth.corners, truth.corners, guesses.corners])
        corners = corners + 0.03 * torch.randn(corners.shape, generator=generator)
        labels = torch.cat([truth.labels, truth.labels, guesses.labels])
        scores, order = torch.rand(len(labels), generator=generator).sort(descending=True)
        predicted = Boxes(corners[order], labels[order], scores)
        for metric in ours.values():
            metric.update([predicted], [truth])
        scale = 500  # COCO's tools think in pixels
        theirs.update(
            [{"boxes": scale * predicted.corners, "labels": predicted.labels, "scores": predicted.scores}],
            [{"boxes": scale * truth.corners, "labels": truth.labels}],
        )
    expected, figures = theirs.compute(), {name: float(metric.compute()) for name, metric in ours.items()}
    assert figures == {name: pytest.approx(float(expected[name]), abs=1e-6) for name in ours}
    assert len(set(figures.values())) == 3 and 0.1 < figures["map_50"] < 0.9


@pytest.mark.parametrize("content", ["missing", "not ONNX", "another layout"])
def test_a_file_that_is_no_detector_is_named(content, tmp_path):
    path = tmp_path / "model.onnx"
    if content == "not ONNX":
        path.write_bytes(b"weights")
    elif content == "another layout":
        write_detector(path, num_classes=0)
    with pytest.raises(CheckpointError, match=r"model\.onnx"):
        build_task("detection", model="fastestdet", weights=path)


@pytest.mark.parametrize("model, weights", [("fastestdet", "models/detection/fastestdet_coco80_352.onnx"), ("student", None)])
def test_the_person_is_seen(model, weights, assets):
    """The published weights, through the published arithmetic, and those of the repository: a person alone in a corridor."""
    real = build_task("detection", model=model, weights=assets / weights if weights else None)
    clip = read_clip(assets / "videos/intel_one-by-one-person-detection.mp4", frames=1, start=278, size=(288, 512))
    (objects,) = real.objects(clip.frames)
    assert objects.labels[0] == 0 and objects.scores[0] > 0.8  # class 0 is a person
    assert real.picture(clip.frames[0], real.predict(clip.frames)[0]).shape == (3, 288, 512)


def test_boxes_of_a_data_set_make_a_reference(detector):
    """Two objects and a row of padding: half is lost with one of them, and all without a candidate."""
    task = build_task("detection", model=str(detector))
    labels = torch.tensor([[[[0.1, 0.1, 0.4, 0.4, 0], [0.6, 0.5, 0.9, 0.9, 2], [0, 0, 0, 0, -1]]]])
    candidates = torch.tensor([[[[0.1, 0.1, 0.4, 0.4, 1.0, 0, 0], [0, 0, 1, 1, 0.2, 0, 0]]]])
    reference = task.reference(labels, candidates)
    assert reference.shape == (1, 1, 3, 7) and reference[0, 0, :, 4:].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert float(task.loss(candidates, reference)) == pytest.approx(0.5, abs=1e-3)
    assert float(task.loss(reference, reference)) == 0
    nothing = task.reference(labels[:, :, :0], candidates)
    assert float(task.loss(candidates * 0.3, nothing)) == 0 < float(task.loss(candidates, nothing))  # a false alarm
