"""Boxes become offsets as the rule says, between looks as well, and nothing is moved where nothing can be gained."""

from dataclasses import replace

import numpy as np
import pytest

from dvcc import ABR, X264, Clip, ConfigError
from dvcc.control.eyes.base import shown_size
from dvcc.control.eyes.painting import between, load_rule, matched, needed_by, offsets_of, paint, speeds, sure_of, turned
from dvcc.media.format import ClipSource
from dvcc.networks.detectors.base import Boxes
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.objects import OWN_STRENGTH, Objects, ObjectStream, load_objects
from dvcc.rate_control.offsets import ObjectOffsets

RULE = load_rule()
OBJECT, GROUND = round(RULE.background - RULE.strength), round(RULE.background)


def boxes(*rows):
    """Of (left, top, right, bottom, label, score)."""
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Boxes(array[:, :4], array[:, 4].astype(np.int64), array[:, 5])


NONE = boxes()


class Answers:
    """A detector whose answers are known: those of its n-th look."""

    def __init__(self, answer):
        self.answer, self.pictures = answer, []

    def detect(self, rgb, *, least_score):
        self.pictures.append(rgb)
        return [self.answer(len(self.pictures) - 1) if callable(self.answer) else self.answer]


class SeesBrightness:
    """A detector that finds the bright part of a picture."""

    def detect(self, rgb, *, least_score):
        bright = rgb.mean(2) > 128
        if not bright.any():
            return [NONE]
        rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
        height, width = bright.shape
        return [boxes((columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height, 0, 0.9))]


def stream_of(detector, height=64, width=96, labels=None, **how):
    return ObjectStream(Objects(detector, RULE, labels), height=height, width=width, matrix="bt601", full_range=False, **how)


def planes(height=64, width=96, luma=60):
    return (
        np.full((height, width), luma, np.uint8),
        np.full((height // 2, width // 2), 128, np.uint8),
        np.full((height // 2, width // 2), 128, np.uint8),
    )


def painted_by(rule, found, height, width):
    return paint(found, sure_of(found, rule), height, width)


def test_touched_macroblocks_count_whole_and_the_best_box_wins():
    person = boxes((17 / 96, 17 / 64, 40 / 96, 31 / 64, 0, 0.9))
    assert painted_by(RULE, person, 64, 96).tolist() == [[0] * 6, [0, 1, 1, 0, 0, 0], [0] * 6, [0] * 6]
    over = boxes((0, 0, 1, 1, 0, 0.3), (0, 0, 0.5, 0.5, 1, 0.9), (0.4, 0.4, 1, 1, 0, 0.2))
    painted = painted_by(RULE, over, 64, 96)
    assert painted[:2, :3].tolist() == [[1] * 3] * 2 and np.allclose(painted[2:], 0.5) and np.allclose(painted[:, 3:], 0.5)
    corner = boxes((0.99, 0.99, 1, 1, 0, 0.9))
    assert painted_by(RULE, corner, 60, 90)[3, 5] == 1 and not painted_by(RULE, NONE, 64, 96).any()


def test_a_large_object_needs_less():
    """By the fourth root of its share of the picture, when `fall` is 0.25."""
    rule = replace(RULE, whole=1 / 36, fall=0.25)
    found = boxes(
        (0, 0, 1 / 6, 1 / 6, 0, 0.9), (0, 0, 0.1, 0.1, 0, 0.9), (0, 0, 2 / 3, 2 / 3, 0, 0.9), (0.5, 0.5, 0.5, 0.5, 0, 0.9)
    )
    assert np.allclose(needed_by(found, rule), [1, 1, 0.5, 1]) and needed_by(NONE, rule).shape == (0,)
    assert (needed_by(found, replace(rule, fall=0.0)) == 1).all()


def test_a_detector_that_takes_any_size_is_shown_whole_pictures():
    """As it will look at the coded ones; the published rule shows it small ones."""
    path = CHECKPOINTS / "nanodet_plus_m_416.onnx"
    shown = [shown_size(360, 640, side=objects.rule.side) for objects in (load_objects(), load_objects(detector=str(path)))]
    assert shown == [(192, 320), (352, 640)]


def test_another_detector_looks(detector):
    """Its objects count from the score from which a detection does, at its own size; classes are its own numbers."""
    objects = load_objects(["2"], 8, detector=str(detector))
    score = objects.detector.layout.object_score
    assert (objects.rule.unsure, objects.rule.sure) == (0.99 * score, score) and objects.rule.side == 64
    assert needed_by(boxes((0, 0, 0.1, 0.1, 0, 0.9), (0, 0, 0.4, 0.4, 0, 0.9)), objects.rule).tolist() == pytest.approx([1, 0.5])
    filled = np.ones((10, 10), np.float32)
    filled[0, :5] = 0  # 95 % covered: the rule of NanoDet-Plus would leave it alone
    assert set(offsets_of(filled, objects.rule).ravel()) == {4, -4} and not offsets_of(np.ones_like(filled), objects.rule).any()
    assert load_objects(detector=str(detector)).rule.strength == OWN_STRENGTH
    assert objects.labels == (2,) and (objects.rule.strength, objects.rule.detector) == (8, detector.name)
    stream = stream_of(objects.detector)
    stream.objects = objects
    assert stream.look(planes()).corners.shape[1:] == (4,)
    with pytest.raises(ConfigError, match="has 3 classes, which are no names of COCO: give numbers from 0 to 2, got 'person'"):
        load_objects(["person"], detector=str(detector))
    with pytest.raises(ConfigError, match="got '3'"):
        load_objects(["3"], detector=str(detector))


def test_offsets_fade_where_objects_fill_the_picture():
    painted = np.zeros((10, 10), np.float32)
    assert not offsets_of(painted, RULE).any()
    painted[:2] = 1
    assert set(offsets_of(painted, RULE)[:2].ravel()) == {OBJECT} and set(offsets_of(painted, RULE)[2:].ravel()) == {GROUND}
    painted[:5] = 1  # 50 %: two thirds
    assert offsets_of(painted, RULE)[0, 0] == round(OBJECT * 2 / 3) and offsets_of(painted, RULE)[9, 0] == round(GROUND * 2 / 3)
    painted[:7] = 1
    assert not offsets_of(painted, RULE).any()


def test_objects_are_matched_by_class_and_place():
    a = boxes((0.1, 0.1, 0.3, 0.3, 0, 0.9), (0.6, 0.6, 0.8, 0.8, 1, 0.9))
    b = boxes((0.6, 0.6, 0.8, 0.8, 0, 0.9), (0.15, 0.1, 0.35, 0.3, 0, 0.9), (0.65, 0.6, 0.85, 0.8, 1, 0.9))
    assert [pair.tolist() for pair in matched(a, b)] == [[0, 1], [1, 2]] or [p.tolist() for p in matched(a, b)] == [
        [1, 0],
        [2, 1],
    ]
    beside = boxes((0.35, 0.1, 0.55, 0.3, 0, 0.9))  # no overlap, but a neighbour of its size
    assert matched(a, beside)[0].tolist() == [0] and not len(matched(a, NONE)[0])


def test_boxes_move_evenly_between_looks_and_a_lone_one_stays_for_its_half():
    a, b = boxes((0.0, 0.0, 0.2, 0.2, 0, 0.5)), boxes((0.1, 0.0, 0.3, 0.2, 0, 0.9), (0.7, 0.7, 0.9, 0.9, 0, 0.8))
    frames = between(a, b, 4)
    assert [len(frame.scores) for frame in frames] == [1, 1, 2]
    np.testing.assert_allclose([frame.corners[0, 0] for frame in frames], [0.025, 0.05, 0.075], atol=1e-6)
    assert frames[0].scores[0] == pytest.approx(0.9)
    np.testing.assert_allclose(speeds(a, b, 4), [[0.025, 0, 0.025, 0], [0] * 4], atol=1e-6)


@pytest.mark.parametrize("turns", range(4))
def test_the_detector_is_shown_the_picture_upright(turns):
    """And its box comes back to where the bright part is stored."""
    picture = planes()
    picture[0][0:16, 32:96] = 220
    stream = stream_of(SeesBrightness(), quarter_turns=turns)
    values = painted_by(RULE, stream.look(picture), 64, 96)
    assert values[0, 2:].all() and values[1:].sum() == 0 and values[0, 0] == 0
    assert turned(stream.look(picture), 0).corners.shape == (1, 4)


def test_a_gop_is_looked_at_now_and_then_and_at_its_end():
    detector = Answers(boxes((0, 0, 0.25, 0.25, 0, 0.9)))
    stream = stream_of(detector)
    assert len(stream.decide([planes()] * 30)) == 30 and len(detector.pictures) == 4
    assert len(stream.decide([planes()] * 25)) == 25 and len(detector.pictures) == 6  # 2 in 25: about one in 12
    assert len(stream.decide([planes()])) == 1 and len(detector.pictures) == 7
    assert stream.seen.frames == stream.seen.occupied == stream.seen.moved == 56
    assert stream_of(detector, 720, 1280).every == 8 and stream_of(detector, 640, 360).every == 12


def test_what_is_seen_at_the_end_of_a_gop_moves_the_frames_before():
    there = [boxes((0.0, 0.0, 0.15, 0.2, 0, 0.9)), boxes((0.8, 0.0, 0.95, 0.2, 1, 0.9))]
    decided = stream_of(Answers(lambda look: there[look])).decide([planes()] * 8)
    assert decided[0, 0, 0] == decided[3, 0, 0] == OBJECT and decided[4, 0, 0] == GROUND  # another class: half each
    assert decided[7, 0, 5] == OBJECT and decided[0, 0, 5] == GROUND


def test_live_offsets_are_causal_and_boxes_move_on():
    seen = [boxes((x, 0.0, x + 0.16, 0.2, 0, 0.9)) for x in (0.0, 0.2, 0.4)]
    stream = stream_of(Answers(lambda look: seen[look]))
    maps = [stream.decide_next(planes()) for _ in range(30)]
    assert all((m == maps[0]).all() for m in maps[:12]) and maps[0][0, 0] == OBJECT  # not yet known to move
    finest = [np.flatnonzero(m[0] == OBJECT).mean() for m in maps]
    assert finest[12] < finest[23] and len(stream.objects.detector.pictures) == 3
    assert maps[23][0, 2] == OBJECT  # x of 0.38, before the look that sees 0.4


def test_objects_in_few_frames_of_a_gop_leave_it_alone():
    looks = [NONE, NONE, boxes((0, 0, 0.3, 0.3, 0, 0.9))]
    stream = stream_of(Answers(lambda look: looks[look]))
    assert not stream.decide([planes()] * 25).any()
    assert 0 < stream.seen.occupied <= 6
    assert (
        stream.words("x264") == f"objects on {stream.seen.occupied} of 25 frames, 17 % of the picture: x264's own allocation kept"
    )


def test_only_the_classes_that_count_are_painted():
    both = boxes((0, 0, 0.25, 0.25, 0, 0.9), (0.7, 0.7, 1, 1, 2, 0.9))
    decided = stream_of(Answers(both), labels=(2,)).decide([planes()])[0]
    assert decided[0, 0] == GROUND and decided[3, 5] == OBJECT


def test_it_says_in_a_line_what_it_did():
    for box, message in (
        ((0, 0, 0.25, 0.25, 0, 0.9), "objects on 3 of 3 frames, 8 % of the picture: offsets on 3"),
        ((0, 0, 1, 1, 0, 0.9), "objects cover 100 % of the picture: x264's own allocation kept"),
        (None, "no objects seen: x264's own allocation kept"),
    ):
        stream = stream_of(Answers(NONE if box is None else boxes(box)))
        stream.decide([planes()] * 3)
        assert stream.words("x264") == message


@pytest.mark.parametrize("answer", [NONE, boxes((0, 0, 1, 1, 0, 0.9))], ids=["nothing", "everything"])
def test_where_nothing_can_be_gained_it_is_two_pass_abr_to_the_byte(answer, scene):
    control = AverageBitrate(control=Objects(Answers(answer), RULE))
    assert control.encode(scene, 120.0).bitstream == X264().encode(scene, ABR(120.0)).bitstream


def test_bits_go_to_the_object(scene):
    control = AverageBitrate(control=Objects(Answers(boxes((0, 0, 0.33, 1, 0, 0.9))), RULE))
    plain, moved = X264().encode(scene, ABR(150.0)), control.encode(scene, 150.0)
    error = [np.square(c.frames.float().numpy() - scene.frames.float().numpy()).mean((0, 1, 2)) for c in (plain, moved)]
    assert error[1][:32].mean() < 0.7 * error[0][:32].mean() and moved.bits == pytest.approx(plain.bits, rel=0.15)


def test_no_strength_is_no_offset_and_the_background_keeps_its_share():
    assert load_objects(strength=0).rule.background == 0
    half = load_objects(strength=RULE.strength / 2).rule
    assert half.background == RULE.background / 2 and half == replace(RULE, strength=half.strength, background=half.background)
    with pytest.raises(ConfigError, match="0 to 40 QPs, got 50"):
        load_objects(strength=50)


def test_classes_are_names_of_coco():
    assert load_objects(classes=["person", "car"]).labels == (0, 2)
    with pytest.raises(ConfigError, match="no class 'persn': did you mean person"):
        load_objects(classes=["persn"])
    with pytest.raises(ConfigError, match="no class 'qqqq': it knows person, bicycle"):
        load_objects(classes=["qqqq"])


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (160, 90), (90, 160), (2, 64), (2160, 3840)])
def test_the_published_detector_takes_pictures_of_any_size(size):
    """An empty picture is left alone, however small or upright."""
    clip = Clip(*(np.stack([plane] * 3) for plane in planes(*size)), fps=25)
    source = ClipSource(clip)
    decided = list(ObjectOffsets(load_objects(), source, 100.0, X264()).generate(source.frames()))
    assert len(decided) == 3 and not any(values.any() for _, values in decided)


def test_the_published_detector_is_shown_little():
    for height, width, size in ((2160, 3840, (192, 320)), (640, 360, (320, 192)), (360, 640, (192, 320)), (20, 20, (32, 32))):
        detector = Answers(NONE)
        stream_of(detector, height, width).look(planes(height, width))
        assert detector.pictures[0].shape == (*size, 3)


def test_the_published_numbers_are_those_that_were_measured():
    assert RULE.every(360, 640) == 12 and RULE.every(720, 1280) == 8 and (OBJECT, GROUND) == (-6, 10)
    assert (RULE.unsure, RULE.sure, RULE.fade_from, RULE.fade_to, RULE.seldom, RULE.side) == (0.2, 0.4, 0.4, 0.7, 0.25, 320)
