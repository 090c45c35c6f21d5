"""Identities under tracking: kept by objects that are found throughout, lost by gaps, swaps and classes that change."""

import math

import torch

from dvcc.networks.detector import Boxes
from dvcc.tasks.judging import pooled
from dvcc.tasks.tracking import IdentitiesKept

FRAMES = 10


def boxes(*places: tuple[float, int]) -> Boxes:
    """Boxes a tenth of the picture wide, from their left sides and classes."""
    corners = torch.tensor([[left, 0.2, left + 0.1, 0.4] for left, _ in places]).reshape(-1, 4)
    labels = torch.tensor([label for _, label in places], dtype=torch.long)
    return Boxes(corners, labels, torch.ones(len(places)))


TRUTH = [boxes((0.1 + 0.02 * t, 0), (0.8 - 0.02 * t, 1)) for t in range(FRAMES)]
"""Two objects that move towards each other by a fifth of their width a frame."""


def kept(predicted: list[Boxes], truth: list[Boxes] = TRUTH) -> float:
    metric = IdentitiesKept()
    metric.update(predicted, truth)
    return float(metric.compute())


def test_the_labels_themselves_keep_every_identity():
    assert kept(TRUTH) == 1


def test_an_object_that_is_missed_in_more_than_a_fifth_of_its_frames_is_lost():
    def without(frames: int) -> list[Boxes]:
        return [boxes((0.8 - 0.02 * t, 1)) if t < frames else TRUTH[t] for t in range(FRAMES)]

    assert kept(without(2)) == 1
    assert kept(without(3)) == 0.5


def test_a_gap_in_which_the_object_moves_away_breaks_its_identity():
    """Found in 9 of 10 frames, but what is found after the gap no longer overlaps what was found before it."""
    truth = [boxes((0.05 * t, 0)) for t in range(FRAMES)]
    assert kept(truth, truth) == 1
    gap = [boxes() if t == 5 else truth[t] for t in range(FRAMES)]
    assert kept(gap, truth) == 0


def test_a_class_that_changes_for_half_of_the_clip_breaks_the_identity():
    flipped = [boxes((0.1 + 0.02 * t, 0 if t < 5 else 2), (0.8 - 0.02 * t, 1)) for t in range(FRAMES)]
    assert kept(flipped) == 0.5


def test_boxes_that_overlap_their_objects_too_little_find_nothing():
    """A third of the width aside is IoU 0.5; two fifths, 0.43."""
    aside = [boxes((0.14 + 0.02 * t, 0), (0.84 - 0.02 * t, 1)) for t in range(FRAMES)]
    assert kept(aside) == 0


def test_parts_of_a_clip_are_one_clip_and_clips_are_pooled():
    in_parts, second = IdentitiesKept(), IdentitiesKept()
    for a in range(0, FRAMES, 2):
        in_parts.update(TRUTH[a : a + 2], TRUTH[a : a + 2])
    lost = [boxes() for _ in range(FRAMES)]
    second.update(lost, TRUTH)
    assert float(in_parts.compute()) == 1 and float(second.compute()) == 0
    both = IdentitiesKept()
    both.update(TRUTH, TRUTH)
    both.update(lost, TRUTH, begins=True)
    assert pooled(IdentitiesKept(), [in_parts.state, second.state]) == float(both.compute()) == 0.5


def test_single_frames_have_no_identities():
    assert math.isnan(kept(TRUTH[:1], TRUTH[:1])) and math.isnan(kept([boxes()] * 2, [boxes()] * 2))
    assert kept([boxes()] * 2, TRUTH[:2]) == 0
