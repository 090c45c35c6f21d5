"""How many objects of a clip keep their identity under tracking: the metric of detectors that feed a tracker."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from dvcc.networks.detector import Boxes
from dvcc.networks.detectors.base import intersection_over_union
from dvcc.tasks.metric import Metric

_LINKED_AT_IOU = 0.3  # a box continues a track of its class from this overlap on
_FOUND_AT_IOU = 0.5  # a box is a true object of its class from this overlap on
_MEMORY = 3  # frames after which a track that was not seen is forgotten
_MOSTLY = 0.8  # MOT's "mostly tracked": the share of an object's frames in which it has to be found
_BEGIN = -2.0


class IdentitiesKept(Metric):
    """The share of the tracked objects that are mostly tracked under one identity.

    Labels and detections of a clip are each linked to tracks by IoU, frame by frame. An object is a track of the labels with two
    frames or more. Its identity is kept when one track of the detections finds it, with IoU 0.5 or more, in at least 80 % of its
    frames (the share of "mostly tracked" objects of MOT, where identity switches count as losses, too).
    """

    rows: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        # Per true object and frame: its track, and the track of the detection that finds it (-1: none); `_BEGIN` begins a clip.
        self.add_state("rows", [])
        self._trackers: tuple[_Tracker, _Tracker] | None = None

    def reset(self) -> None:
        """Forget everything; the next update begins a clip."""
        super().reset()
        self._trackers = None

    def update(self, predicted: Iterable[Boxes], objects: Iterable[Boxes], *, begins: bool = False) -> None:
        """Take the detections and true objects of the next frames of a clip. begins: they are the first ones of another clip."""
        for detections, truth in zip(predicted, objects, strict=True):
            if self._trackers is None or begins:
                self._trackers, begins = (_Tracker(), _Tracker()), False
                self.rows.append(torch.tensor([[_BEGIN, _BEGIN]], dtype=torch.float64))
            tracks, true_tracks = self._trackers[0].link(detections), self._trackers[1].link(truth)
            finder = torch.full((len(true_tracks),), -1.0, dtype=torch.float64)
            for n, m in _pairs(truth, detections, least_iou=_FOUND_AT_IOU):
                finder[n] = tracks[m]
            self.rows.append(torch.stack([true_tracks, finder], 1))

    def compute(self) -> torch.Tensor:
        """0..1; NaN without an object that is seen twice."""
        if not self.rows:
            return torch.tensor(float("nan"), dtype=torch.float64)
        rows = torch.cat(self.rows)
        begins = rows[:, 0] == _BEGIN
        rows = torch.cat([begins.cumsum(0)[:, None].to(rows), rows], 1)[~begins]
        objects, number, frames = rows[:, :2].unique(dim=0, return_inverse=True, return_counts=True)
        pairs, times = torch.cat([number[:, None].to(rows), rows[:, 2:]], 1).unique(dim=0, return_counts=True)
        pairs, times = pairs[pairs[:, 1] >= 0], times[pairs[:, 1] >= 0]
        longest = frames.new_zeros(len(objects)).scatter_reduce_(0, pairs[:, 0].long(), times, "amax")
        return (longest >= _MOSTLY * frames)[frames > 1].double().mean()


class _Tracker:
    """Links boxes to tracks of their class, frame by frame, the largest overlap first."""

    def __init__(self) -> None:
        self._boxes = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
        self._tracks = torch.zeros(0, dtype=torch.float64)
        self._unseen = torch.zeros(0, dtype=torch.long)
        self._count = 0

    def link(self, boxes: Boxes) -> torch.Tensor:
        """float64 (N,): the numbers of the tracks of the next frame's boxes."""
        boxes = Boxes(*(part.detach().cpu() for part in boxes))
        tracks = torch.full((len(boxes.labels),), -1.0, dtype=torch.float64)
        left = torch.ones(len(self._tracks), dtype=torch.bool)
        for n, m in _pairs(boxes, self._boxes, least_iou=_LINKED_AT_IOU):
            tracks[n], left[m] = self._tracks[m], False
        new = tracks < 0
        tracks[new] = torch.arange(self._count, self._count + int(new.sum()), dtype=torch.float64)
        self._count += int(new.sum())
        left &= self._unseen < _MEMORY
        self._boxes = Boxes(*(torch.cat([now, old[left]]) for now, old in zip(boxes, self._boxes, strict=True)))
        self._unseen = torch.cat([torch.zeros(len(tracks), dtype=torch.long), self._unseen[left] + 1])
        self._tracks = torch.cat([tracks, self._tracks[left]])
        return tracks


def _pairs(first: Boxes, second: Boxes, *, least_iou: float) -> list[tuple[int, int]]:
    """Which box of `first` is which of `second`: of one class, overlapping by `least_iou` or more, the largest overlap first."""
    iou = intersection_over_union(first.corners.cpu().double(), second.corners.cpu().double(), torch)
    iou[first.labels.cpu()[:, None] != second.labels.cpu()[None]] = 0
    pairs = []
    while iou.numel() and float(iou.max()) >= least_iou:
        n, m = divmod(int(iou.argmax()), iou.shape[1])
        pairs.append((n, m))
        iou[n], iou[:, m] = 0, 0
    return pairs
