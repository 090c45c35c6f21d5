"""The plain rule: a small detector looks at a few frames, and bits go to where it sees objects."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from dvcc._words import counted
from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.eyes.base import shown_size
from dvcc.control.eyes.painting import (
    Rule,
    between,
    load_rule,
    needed_by,
    offsets_of,
    offsets_of_gop,
    paint,
    picked,
    speeds,
    sure_of,
    turned,
)
from dvcc.errors import ConfigError
from dvcc.media.format import Planes
from dvcc.networks.coco import COCO_NAMES
from dvcc.networks.detectors import Detector, load_detector
from dvcc.networks.detectors.base import Boxes
from dvcc.networks.feed import NetworkOptions
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.zones import Zones, load_zones

_MOST_STRENGTH = 40.0
OWN_STRENGTH = 20.0
"""QPs from the background to a small object, where a user's own detector looks."""

_LARGEST_SIDE = 2**14
_SELDOM = 1000


class Looks(Protocol):
    """What the rule needs of a detector."""

    def detect(self, rgb: np.ndarray, *, least_score: float) -> list[Boxes]:
        """Boxes of an RGB picture uint8 (H, W, 3), in a list of one."""


@dataclass(frozen=True)
class Objects:
    """A detector, the rule, the class numbers that count (None: all), and zones that always or never do."""

    detector: Looks
    rule: Rule
    labels: tuple[int, ...] | None = None
    zones: Zones | None = None


def load_objects(
    classes: Sequence[str] | None = None,
    strength: float | None = None,
    *,
    detector: str | None = None,
    layout: str | None = None,
    zones: str | Path | None = None,
    max_background_offset: int | None = None,
    look_every: int | None = None,
) -> Objects:
    """Return the published rule with its detector, or with another one.

    classes: what counts, by COCO's names, or by the number of a class of a detector that has others (None: all). strength: QPs
    between the background and a sure object (None: the rule's), of which the background keeps its share; 0 changes nothing.
    detector: an ONNX file, or a name of `dvcc zoo` whose weights are one. layout: of its answers, where they fit several. zones:
    a PNG picture, see `load_zones`. max_background_offset: largest offset of the background in whole QPs, 0 to 40; a sure object
    keeps its own. look_every: see `looking_every` (None: the rule's). Raises `ConfigError` for an unknown name,
    zones that cannot be read or numbers out of range, `CheckpointError` for a file that is no detector.
    """
    painted = None if zones is None else load_zones(zones)
    rule = load_rule()
    if detector is None:
        looking = load_detector(CHECKPOINTS / rule.detector, options=NetworkOptions(layout="nanodet"), threads=1)
    else:
        looking = load_detector(detector, options=NetworkOptions(layout=layout), threads=1)
        rule = rule_of(looking, rule)
    if strength is not None:
        rule = with_strength(rule, strength)
    if max_background_offset is not None:
        rule = with_background(rule, max_background_offset)
    labels = None if classes is None else tuple(class_number(name, looking.num_classes) for name in classes)
    objects = Objects(looking, rule, labels, painted)
    return objects if look_every is None else looking_every(objects, look_every)


def with_strength(rule: Rule, strength: float) -> Rule:
    """Return `rule` with so many QPs between the background and a sure object; the background keeps its share of them.

    Raises `ConfigError` outside 0..40.
    """
    if not 0 <= strength <= _MOST_STRENGTH:
        raise ConfigError(f"the strength goes from 0 to {_MOST_STRENGTH:g} QPs, got {strength:g}")
    return replace(rule, strength=strength, background=rule.background * strength / rule.strength)


def with_background(rule: Rule, most: int) -> Rule:
    """`rule` with an offset of the background of at most `most` QPs, and the same offset of a sure object.

    Raises `ConfigError` outside 0..40.
    """
    if not 0 <= most <= _MOST_STRENGTH:
        raise ConfigError(f"the largest offset of the background goes from 0 to {_MOST_STRENGTH:g} QPs, got {most}")
    over = max(0.0, rule.background - most)
    return replace(rule, background=rule.background - over, strength=rule.strength - over)


def rule_of(detector: Detector, rule: Rule) -> Rule:
    """Return `rule` for a user's own detector, the network that will look at the coded video.

    What it finds, by the score from which a detection of it counts, is what it can lose. So nearly every object counts by its
    size alone, and offsets fade only where objects fill the whole picture. The numbers were chosen on the corpus' train split
    (docs/results.md, "One's own network looks"). A network of a fixed size is shown pictures of that size, one of any size whole
    ones: that is how it will look.
    """
    score = detector.options.score or detector.layout.object_score
    side = max(detector.file.fixed) or _LARGEST_SIDE
    seen = replace(rule, detector=detector.file.path.name, side=side, unsure=0.99 * score, sure=score)
    return replace(seen, strength=OWN_STRENGTH, fade_from=0.99, fade_to=1.0, whole=0.01, fall=0.25)


def class_number(name: str, count: int = len(COCO_NAMES)) -> int:
    """Return the number of a class among `count`: COCO's by its name, of others by the number itself.

    Raises `ConfigError` with names that are close.
    """
    if count != len(COCO_NAMES):
        if name.isdecimal() and int(name) < count:
            return int(name)
        raise ConfigError(
            f"the detector has {count} classes, which are no names of COCO: give numbers from 0 to {count - 1}, got {name!r}"
        )
    if name in COCO_NAMES:
        return COCO_NAMES.index(name)
    close = difflib.get_close_matches(name, COCO_NAMES, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"it knows {', '.join(COCO_NAMES[:4])}, .. (COCO's 80)"
    raise ConfigError(f"the detector knows no class {name!r}: {hint}")


@dataclass
class Seen:
    """What came of it so far.

    frames: all; occupied: with an object; moved: whose offsets are not all zero. covered: shares of the picture, added up over
    the occupied frames.
    """

    frames: int = 0
    occupied: int = 0
    moved: int = 0
    covered: float = 0.0

    def add(self, painted: np.ndarray, offsets: np.ndarray) -> None:
        """Count one frame."""
        self.frames += 1
        self.occupied += bool(painted.any())
        self.moved += bool(offsets.any())
        self.covered += float((painted > 0).mean())


class ObjectStream:
    """Offsets for the pictures of a video, in order.

    Either GOP by GOP with what follows within the GOP known (`decide`), or each picture as it comes (`decide_next`). Memory does
    not grow with the video.

    quarter_turns: by which a player turns the picture anticlockwise; the detector is shown it upright. mirrored: whether a player
    then mirrors it, for the zones. painted: values (h, w) of
    the pictures that were decided last.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        height: int,
        width: int,
        matrix: Matrix,
        full_range: bool,
        quarter_turns: int = 0,
        mirrored: bool = False,
    ) -> None:
        self.objects, self.height, self.width = objects, height, width
        self.matrix, self.full_range, self.quarter_turns = matrix, full_range, quarter_turns
        self.every = objects.rule.every(height, width)
        self.seen, self.painted = Seen(), list[np.ndarray]()
        self._size = shown_size(height, width, side=objects.rule.side)
        self._zones = None
        if objects.zones is not None:
            self._zones = objects.zones.on_grid(height, width, quarter_turns=quarter_turns, mirrored=mirrored)
        self._last: Boxes | None = None
        self._speeds = np.zeros((0, 4), np.float32)
        self._number = 0

    def look(self, planes: Planes) -> Boxes:
        """Return the objects in a picture, 4:2:0 planes; corners in the picture as it is coded."""
        frame = planar_frame(*planes)
        rgb = frame_to_rgb(frame, matrix=self.matrix, full_range=self.full_range, size=self._size)
        upright = np.ascontiguousarray(np.rot90(rgb, self.quarter_turns))
        boxes = self.objects.detector.detect(upright, least_score=self.objects.rule.unsure)[0]
        if self.objects.labels is not None:
            boxes = picked(boxes, np.isin(boxes.labels, self.objects.labels))
        return turned(boxes, self.quarter_turns)

    def paint(self, boxes: Boxes) -> np.ndarray:
        """float32 (h, w), 0..1: how much every macroblock of a picture with these objects counts."""
        rule = self.objects.rule
        values = paint(boxes, sure_of(boxes, rule) * needed_by(boxes, rule), self.height, self.width)
        if self._zones is not None:
            always, never = self._zones
            values[always], values[never] = 1, 0
        return values

    def decide(self, pictures: Sequence[Planes]) -> np.ndarray:
        """int8 (T, h, w): offsets for the T pictures of a whole GOP, or of a piece of a long one."""
        moments = self.moments(len(pictures))
        looks = {moment: self.look(pictures[moment]) for moment in moments}
        if self._last is not None:
            moments, looks[-1] = [-1, *moments], self._last
        boxes = [looks[moments[0]]]
        for start, stop in pairwise(moments):
            boxes += [*between(looks[start], looks[stop], stop - start), looks[stop]]
        self._last = boxes[-1]
        self.painted = [self.paint(frame_boxes) for frame_boxes in boxes[-len(pictures) :]]
        offsets = offsets_of_gop(self.painted, self.objects.rule)
        for values, decided in zip(self.painted, offsets, strict=True):
            self.seen.add(values, decided)
        return offsets

    def decide_next(self, planes: Planes) -> np.ndarray:
        """Return offsets int8 (h, w) for the next picture, by what was seen up to it.

        Boxes move on as they moved between the last two looks.
        """
        since = self._number % self.every
        if since == 0:
            boxes = self.look(planes)
            self._speeds = np.zeros_like(boxes.corners) if self._last is None else speeds(self._last, boxes, self.every)
            self._last = boxes
        assert self._last is not None
        moved = self._last._replace(corners=np.clip(self._last.corners + self._speeds * since, 0, 1))
        painted = self.paint(moved)
        offsets = offsets_of(painted, self.objects.rule)
        self._number += 1
        self.painted = [painted]
        self.seen.add(painted, offsets)
        return offsets

    def words(self, encoder: str) -> str:
        """Return what was done so far, in a line."""
        seen, kept = self.seen, f"{encoder}'s own allocation kept"
        if not seen.occupied:
            return f"no objects seen: {kept}"
        what = "objects and zones" if self._zones is not None and self._zones[0].any() else "objects"
        covered = seen.covered / seen.occupied
        share = f"{100 * covered:.0f} % of the picture"
        if not seen.moved and covered > self.objects.rule.fade_from:
            return f"{what} cover {share}: {kept}"
        done = f"offsets on {seen.moved}" if seen.moved else kept
        return f"{what} on {seen.occupied} of {counted(seen.frames, 'frame')}, {share}: {done}"

    def moments(self, num_frames: int) -> list[int]:
        """Which pictures of a GOP are looked at, its last among them.

        After another GOP, whose last one was, about one in `every`: a look more for the rest of each GOP would cost too much.
        """
        if self._last is None:
            return sorted({*range(0, num_frames, self.every), num_frames - 1})
        steps = max(1, math.ceil(num_frames / self.every - 0.5))
        return [(step + 1) * num_frames // steps - 1 for step in range(steps)]


def looking_every(objects: Objects, frames: int) -> Objects:
    """Return the same rule with so many frames from one look to the next, 1 to 1000. Raises `ConfigError` for others."""
    if not 1 <= frames <= _SELDOM:
        raise ConfigError(f"frames from one look to the next go from 1 to {_SELDOM}, got {frames}")
    return replace(objects, rule=replace(objects.rule, every_small=frames, every_large=frames))


def at_every_frame(objects: Objects) -> Objects:
    """Return the same rule with a look at every frame, at the picture's own size.

    It tells what looking seldom and small costs.
    """
    return replace(objects, rule=replace(objects.rule, every_small=1, every_large=1, side=_LARGEST_SIDE))
