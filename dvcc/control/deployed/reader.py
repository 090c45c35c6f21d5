"""Networks that read analysis encodes for a control, by onnxruntime: a segmenter beside it, or detectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dvcc.clip import Matrix, frame_to_rgb, planar_frame
from dvcc.control.analysis import Lost, Reader
from dvcc.control.eyes import EYES, Eyes, find_file, load_eyes
from dvcc.control.eyes.base import shown_size, to_grid
from dvcc.media.format import Planes
from dvcc.networks.detectors import Detector, load_detector, select
from dvcc.networks.detectors.lost import GRID, lost_objects
from dvcc.networks.feed import NetworkOptions
from dvcc.units import MACROBLOCK

LONGEST_SIDE, DETECTOR_SIDE = 512, 768
"""Pixels of the longer side of what the network that reads an analysis encode is shown, a segmenter or a control's detectors."""
_LEAST_ERROR = 1e-3


class SegmenterReader:
    """A segmenter that is run by onnxruntime: how much of its class probabilities has moved.

    As `SegmentationTask.degradation` says, at the resolution of its answers and with the classes of one picture.
    """

    frames = 1

    def __init__(self, segmenter: Eyes) -> None:
        self._segmenter = segmenter

    @property
    def name(self) -> str:
        """See `Reader.name`."""
        return self._segmenter.name

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """See `Reader.lost`."""
        height, width = uncoded[0][0].shape
        size = shown_size(height, width, side=LONGEST_SIDE)
        frames = [planar_frame(*planes) for (planes,) in (uncoded, coded)]
        shown = (frame_to_rgb(frame, matrix=matrix, full_range=full_range, size=size) for frame in frames)
        before, after = (self._segmenter.look(np.rot90(rgb, quarter_turns)).maps[0] for rgb in shown)
        moved = np.abs(after - before).sum(0) / 2 * _class_weights(before.argmax(0))
        degradation = to_grid(np.rot90(moved, -quarter_turns)[None], height, width)[0]
        return Lost(degradation, _log_error(*(frame_to_rgb(frame, matrix=matrix, full_range=full_range) for frame in frames)))


class DetectorReader:
    """A detector that is run by onnxruntime: how many of its objects are lost, and how many false alarms there are.

    As `DetectionTask.degradation` says of one picture.

    side: to how many pixels the longer side of a larger picture is scaled down first; None: whole pictures are shown.
    """

    frames = 1

    def __init__(self, detector: Detector, *, side: int | None = None) -> None:
        self._detector, self._side = detector, side
        self._score = detector.options.score or detector.layout.object_score

    @property
    def name(self) -> str:
        """See `Reader.name`."""
        return self._detector.file.path.stem

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """See `Reader.lost`."""
        height, width = uncoded[0][0].shape
        frames = [planar_frame(*planes) for (planes,) in (uncoded, coded)]
        pictures = shown = [frame_to_rgb(frame, matrix=matrix, full_range=full_range) for frame in frames]
        if self._side is not None and max(height, width) > self._side:
            size = shown_size(height, width, side=self._side)
            shown = [frame_to_rgb(frame, matrix=matrix, full_range=full_range, size=size) for frame in frames]
        upright = np.stack([np.rot90(rgb, quarter_turns).transpose(2, 0, 1) for rgb in shown])
        before, after = self._detector.candidates(upright)
        objects = select(before, least_score=self._score, suppress=self._detector.layout.suppress)
        degradation = lost_objects(after, before, objects, np) * (GRID**2 / max(1, len(objects.labels)))
        turned = np.rot90(degradation, -quarter_turns)
        down, across = _cells(height), _cells(width)
        return Lost((down @ turned @ across.T).astype(np.float32), _log_error(*pictures))


@dataclass(frozen=True)
class MeanReader:
    """Asks several, for who does not know which network is going to look.

    The degradation is the mean of theirs, each relative to its own mean over the picture: none outweighs the others. One that has
    lost nothing says nothing of where.
    """

    readers: tuple[Reader, ...]

    @property
    def name(self) -> str:
        """See `Reader.name`."""
        return " and ".join(reader.name for reader in self.readers)

    @property
    def frames(self) -> int:
        """See `Reader.frames`."""
        return self.readers[0].frames  # of one task, so all take as many

    def lost(
        self, uncoded: Sequence[Planes], coded: Sequence[Planes], *, matrix: Matrix, full_range: bool, quarter_turns: int
    ) -> Lost:
        """See `Reader.lost`."""
        found = [
            reader.lost(uncoded, coded, matrix=matrix, full_range=full_range, quarter_turns=quarter_turns)
            for reader in self.readers
        ]
        means = [float(one.degradation.mean()) for one in found]
        shares = [one.degradation / mean for one, mean in zip(found, means, strict=True) if mean > 0]
        degradation = np.mean(shares, 0) * np.float32(np.mean(means)) if shares else found[0].degradation
        return Lost(degradation, found[0].log_error)


def reading(readers: Sequence[Reader]) -> Reader:
    """Return who reads encodes, one network or several."""
    return readers[0] if len(readers) == 1 else MeanReader(tuple(readers))


def _class_weights(labels: np.ndarray) -> np.ndarray:
    """Return the weight of every pixel, 1 on average: the inverse square root of how many have its label."""
    weights = 1 / np.sqrt(np.bincount(labels.ravel()).clip(1))[labels]
    return weights / weights.mean()


def _log_error(uncoded: np.ndarray, coded: np.ndarray) -> np.ndarray:
    """(h, w): log of every macroblock's mean absolute error, of RGB pictures uint8 (H, W, 3); the last ones repeat the edge."""
    height, width, channels = coded.shape
    error = np.maximum(uncoded, coded) - np.minimum(uncoded, coded)
    error = np.pad(error, ((0, -height % MACROBLOCK), (0, -width % MACROBLOCK), (0, 0)), mode="edge")
    rows, columns = (side // MACROBLOCK for side in error.shape[:2])
    by_row = error.reshape(rows * MACROBLOCK, columns, MACROBLOCK * channels).sum(2, dtype=np.uint32)  # in line, so it is quick
    mean = by_row.reshape(rows, MACROBLOCK, columns).sum(1) / (255 * MACROBLOCK**2 * channels)
    return np.log(mean + _LEAST_ERROR).astype(np.float32)


@lru_cache(maxsize=64)
def _cells(length: int) -> np.ndarray:
    """(macroblocks, 88): the share of each cell of a detector's map in the macroblocks along a side of so many pixels."""
    pixels = np.pad(np.arange(length), (0, -length % MACROBLOCK), mode="edge")
    shares = np.zeros((len(pixels), GRID))
    shares[np.arange(len(pixels)), pixels * GRID // length] = 1
    return shares.reshape(-1, MACROBLOCK, GRID).mean(1)


def has_reader(model: str) -> bool:
    """Whether the network `task.model` can lie beside a control and read analysis encodes there."""
    kind = EYES.get(model)
    return kind is not None and kind.segments


def load_reader(settings: Mapping[str, Any], *, beside: Sequence[Path], control: str) -> Reader | None:
    """Return what reads analysis encodes for a control, by what it stores of it; None: its task does.

    It stores `Eyes.settings` of a segmenter, or `detectors_settings`. Raises what `load_eyes` and `load_detector` do.
    """
    if not settings:
        return None
    if "detectors" not in settings:
        return SegmenterReader(load_eyes(settings, beside=beside, control=control))
    detectors = []
    for stored in settings["detectors"]:
        path = find_file(stored, beside=beside, control=control)
        detectors.append(load_detector(path, options=NetworkOptions(**stored["options"]), threads=1))
    return reading([DetectorReader(detector, side=settings["side"]) for detector in detectors])


def detectors_settings(detectors: Sequence[Detector]) -> dict[str, Any]:
    """Return what a control stores of the detectors that read for it, for `load_reader`."""
    stored = []
    for detector in detectors:
        path, options = detector.file.path, replace(detector.options, layout=detector.layout.name)
        given = {name: getattr(options, name) for name in options.given}
        stored.append({"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "options": given})
    return {"detectors": stored, "side": DETECTOR_SIDE}
