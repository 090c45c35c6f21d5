"""A control that adds to the rule of objects is the rule itself until it has learned something."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from dvcc import X264, Clip
from dvcc.control.deployed.onnx_export import deploy
from dvcc.control.deployed.runtime import Control
from dvcc.control.eyes.base import SCORES, Look
from dvcc.control.eyes.nanodet_plus_m import NanoDetEyes
from dvcc.control.eyes.painting import load_rule
from dvcc.control.network import ControlNetwork
from dvcc.media.format import ClipSource
from dvcc.networks.detectors.base import Boxes
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import LearnedOffsets, ObjectOffsets, RuleUnder

RULE = load_rule()
CODEC = X264(gop=16)


def bright_boxes(rgb: np.ndarray) -> Boxes:
    bright = rgb.mean(2) > 128
    if not bright.any():
        return Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
    (height, width), corner = bright.shape, np.zeros((1, 4), np.float32)
    corner[0] = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return Boxes(corner, np.array([0]), np.array([0.35], np.float32))


class BrightDetector:
    def detect(self, rgb, *, least_score):
        return [bright_boxes(rgb)]


@pytest.fixture
def seeing(monkeypatch) -> list[np.ndarray]:
    """The eyes see one object, the bright part of a picture; their features say how many looks there were."""
    pictures: list[np.ndarray] = []

    def look(self, rgb):
        pictures.append(rgb)
        return Look(bright_boxes(rgb), [np.full((1, 2, 3), len(pictures), np.float32) for _ in range(4)])

    monkeypatch.setattr(NanoDetEyes, "look", look)
    return pictures


@pytest.fixture
def moving() -> Clip:
    """A bright square that crosses a dark picture with some noise."""
    y = np.random.default_rng(0).integers(50, 60, (38, 96, 160), dtype=np.uint8)
    for t in range(len(y)):
        y[t, 20:50, 2 * t : 2 * t + 30] = 220
    grey = np.full((38, 48, 80), 128, np.uint8)
    return Clip(y, grey, grey, 25)


def control_of(head: float, **how) -> Control:
    torch.manual_seed(0)
    eyes = NanoDetEyes((CHECKPOINTS / NanoDetEyes.file).read_bytes(), features="none", every=5)
    network = ControlNetwork(width=8, extra_planes=eyes.num_planes, eyes=eyes.settings, rule=asdict(RULE), **how)
    if head:
        torch.nn.init.normal_(network.head.weight, std=head)
    return deploy(network.eval())


def test_scores_are_painted_as_the_published_rule_does():
    assert (RULE.unsure, RULE.sure) == SCORES


def test_an_untrained_control_is_the_rule_to_the_byte(seeing, moving):
    objects, untrained = Objects(BrightDetector(), RULE), control_of(0)
    source, frames = ClipSource(moving), list(ClipSource(moving).frames())
    rule, ours = (kind(it, source, 50.0, CODEC) for kind, it in ((ObjectOffsets, objects), (LearnedOffsets, untrained)))
    expected = np.stack([offsets for _, offsets in rule.generate(frames)])
    np.testing.assert_array_equal(np.stack([offsets for _, offsets in ours.generate(frames)]), expected)
    assert np.ptp(expected) > 5
    rule, ours = (kind(it, source, 50.0, CODEC) for kind, it in ((ObjectOffsets, objects), (LearnedOffsets, untrained)))
    for frame in frames:
        np.testing.assert_array_equal(ours.generate_next(frame), rule.generate_next(frame))
    coded = [AverageBitrate(CODEC, control=it).encode(moving, 50.0).bitstream for it in (objects, untrained)]
    assert coded[0] == coded[1] != AverageBitrate(CODEC).encode(moving, 50.0).bitstream


def test_what_it_has_learned_is_added_within_its_limit(seeing, moving):
    frames = list(ClipSource(moving).frames())
    decided = {}
    for name, control in (("rule", control_of(0)), ("learned", control_of(2.0, max_delta_qp=3.0))):
        offsets = LearnedOffsets(control, ClipSource(moving), 50.0, CODEC)
        decided[name] = np.stack([values for _, values in offsets.generate(frames)]).astype(int)
    added = decided["learned"] - decided["rule"]
    assert 1 <= np.abs(added).max() <= 6  # of 3 about a mean of at most 3


def test_one_look_tells_the_rule_and_the_network(seeing, moving):
    """Every frame has the boxes that the rule painted in it, and the features of the last look."""
    under = RuleUnder(control_of(0), ClipSource(moving))
    pictures = [frame.planes for frame in ClipSource(moving).frames()]
    planes = np.concatenate([under.decide(pictures[:16]).planes, under.decide(pictures[16:32]).planes])
    looks = len(seeing)
    assert planes[:16, 1, 0, 0].tolist() == [1] * 12 + [2] * 3 + [3] and planes[-1, 1, 0, 0] == looks == 4
    columns = (planes[:, 0] > 0).any(1).argmax(1)  # of the square's left edge, in macroblocks
    assert columns.tolist() == [2 * t // 16 for t in range(32)] and planes[0, 0].max() == pytest.approx(0.75)
