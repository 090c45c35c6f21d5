"""Object detection, judged by AP50: against the network's own detections on the uncoded clip, or the boxes of a data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import nn
from torch.nn.functional import one_hot

from dvcc.networks.coco import COCO_NAMES
from dvcc.networks.detection import load_detection_net
from dvcc.networks.detector import DetectionNet, detect
from dvcc.networks.detectors.base import Boxes
from dvcc.networks.detectors.lost import lost_objects
from dvcc.networks.exported import OnnxDetector, OwnDetector
from dvcc.networks.feed import NetworkOptions
from dvcc.pixels import as_float
from dvcc.tasks.average_precision import AveragePrecision
from dvcc.tasks.base import Task, check_rgb
from dvcc.tasks.metric import Metric, State
from dvcc.tasks.tracking import IdentitiesKept

_LEAST_SCORE = 0.05  # of a box that the metric looks at; COCO's curves need the unsure ones too
_MOST_OBJECTS = 40.0  # of a clip that count in a mean over clips
_ORANGE, _BLACK = (255, 165, 0), (0, 0, 0)  # of the boxes in pictures: seen on light and dark, and by colour-blind readers


class DetectionTask(Task):
    """Detection: predictions are the network's candidates (.., M, 4 + K).

    Candidates are corners as shares of the sides, then class scores (see `networks.detector`).

    model: "fastestdet" or "student", both with COCO's 80 classes and without a download, or another of `load_detection_net`.
    weights: a file in place of its own. net: a module of your own in its place, whose answers have one of the layouts of
    `dvcc.networks.detectors`. options: layout and preprocessing of an ONNX file or of `net`, which
    can be given as keywords, too: layout="yolov5", size=(640, 640). Raises `ConfigError` for an unknown
    name, `CheckpointError` for weights or answers that do not fit.
    """

    metric_name = "AP50"
    metric_range = (0.5, 0.97)
    beside = ("mAP50",)

    def __init__(
        self,
        *,
        model: str = "fastestdet",
        weights: str | Path | None = None,
        net: nn.Module | None = None,
        options: NetworkOptions | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        options = NetworkOptions(**settings) if settings else options or NetworkOptions()
        self.net: DetectionNet
        if net is None:
            self.net = load_detection_net(model, weights=weights, options=options)
        else:
            self.net = net if isinstance(net, DetectionNet) else OwnDetector(net, options=options)
        self.net.requires_grad_(False).eval()
        self.model = model if net is None else type(net).__name__

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Candidates (.., M, 4 + K)."""
        check_rgb(frames, task="detection")
        pictures = rearrange(frames if self.net.takes_bytes else as_float(frames), "... c h w -> (...) c h w")
        return self.net(pictures).unflatten(0, frames.shape[:-3])

    def silence(self) -> str | None:
        """Say that a file or a module of the user's may have been read or fed wrongly."""
        if not isinstance(self.net, (OnnxDetector, OwnDetector)):
            return None
        return (
            f"{self.model} finds nothing of score {self.net.object_score:g} or more in any uncoded picture, so it cannot be "
            f"measured on them; it is taken for {self.net.words}. Set what is wrong by task.layout (its answers have the form of "
            f"{', '.join(self.net.fitting)}), task.colours, task.range, task.mean, task.deviation, task.resize or task.score, or "
            "give pictures with objects"
        )

    def objects(self, frames: torch.Tensor) -> list[Boxes]:
        """Return what counts as an object in every one of the frames (T, 3, H, W)."""
        with torch.no_grad():
            return [self._objects(candidates) for candidates in self.predict(frames)]

    def labels(self, prediction: torch.Tensor) -> torch.Tensor:
        """Return corners and class number of every object, (.., M, 5).

        Objects are detections at the network's `object_score` or more; then come rows of class -1.
        """
        flat = rearrange(prediction.detach(), "... m c -> (...) m c")
        labels = flat.new_zeros(*flat.shape[:2], 5)
        labels[..., 4] = -1
        for rows, candidates in zip(labels, flat, strict=True):
            objects = self._objects(candidates)
            rows[: len(objects.labels)] = torch.cat([objects.corners, objects.labels[:, None]], 1)
        return labels.view(*prediction.shape[:-1], 5)

    def reference(self, labels: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Candidates (.., O, 4 + K) of score 1 for boxes (.., O, 5), of which those of class -1 are none.

        Where the network needs non-maximum suppression, two objects of a class whose boxes overlap by more than it allows count
        as one.
        """
        classes = labels[..., 4].long()
        scores = one_hot(classes.clamp(min=0), self.net.num_classes) * (classes >= 0)[..., None]
        return torch.cat([labels[..., :4], scores.to(labels)], -1).to(prediction)

    def _objects(self, candidates: torch.Tensor) -> Boxes:
        return detect(candidates, least_score=self.net.object_score, suppress=self.net.suppress)

    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, .., 88, 88): how much of every object's detection is lost, and every false alarm, each spread over its box.

        Its mean is the share of the objects that is lost. See `lost_objects`.
        """
        frames = math.prod(prediction.shape[1:-2])  # a reference of no box at all does not tell
        items = (candidates.reshape(len(candidates), frames, *candidates.shape[-2:]) for candidates in (prediction, reference))
        maps = torch.stack([self._of_item(*pair) for pair in zip(*items, strict=True)])
        return maps.view(*prediction.shape[:-2], *maps.shape[-2:])

    def _of_item(self, candidates: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """(F, 88, 88) of the frames of an item."""
        objects = [self._objects(reference) for reference in references]
        frames = zip(candidates, references, objects, strict=True)
        maps = torch.stack([lost_objects(*frame, torch) for frame in frames])
        count = max(1, sum(len(boxes.labels) for boxes in objects))
        return maps * (maps.numel() / count)

    def metrics(self) -> dict[str, Metric]:
        """Return average precision, COCO's figures, and the share of objects whose identity survives tracking.

        Average precision has all classes pooled. COCO's figures are over the classes with objects in the labels of everything
        they are updated with. The share is of the objects of clips.
        """
        thresholds = {"AP50": 0.5, "mAP": None, "mAP50": 0.5, "mAP75": 0.75}
        net = self.net
        metrics: dict[str, Metric] = {
            name: DetectionMetric(net.num_classes, suppress=net.suppress, iou=iou, pooled=name == "AP50")
            for name, iou in thresholds.items()
        }
        return metrics | {"identities kept": TrackingMetric(self._objects)}

    def weight(self, state: State) -> float:
        """Return the clip's objects, at most 40 of them: a crowd is not to outvote a street."""
        objects = state["objects"]
        assert isinstance(objects, torch.Tensor)
        return min(_MOST_OBJECTS, float(objects.sum()))

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,): share of the objects of either that the other sees too."""
        lost = (self.loss(prediction, reference) + self.loss(reference, prediction)) / 2
        return (1 - lost).clamp(0, 1)

    def picture(self, frame: torch.Tensor, prediction: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        """Boxes, with class and score, over the frame."""
        pixels = super().picture(frame, prediction)
        boxes = self._objects(prediction)
        image = Image.fromarray(rearrange(pixels, "c h w -> h w c").numpy())
        pen = ImageDraw.Draw(image)
        for corners, label, score in zip(*(part.tolist() for part in boxes), strict=True):
            left, top, right, bottom = (share * side for share, side in zip(corners, image.size * 2, strict=True))
            pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_BLACK, width=4)
            pen.rectangle((left, top, right, bottom), outline=_ORANGE, width=2)
            place, words = (left + 4, top + 3), f"{_name_of(label)} {score:.2f}"
            pen.rectangle(pen.textbbox(place, words), fill=_BLACK)
            pen.text(place, words, fill=_ORANGE)
        return rearrange(torch.from_numpy(np.array(image)), "h w c -> c h w")


class DetectionMetric(AveragePrecision):
    """Average precision of candidates."""

    def __init__(self, num_classes: int, *, suppress: bool, iou: float | None, pooled: bool = False) -> None:
        super().__init__(num_classes, iou=iou, pooled=pooled)
        self._suppress = suppress

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:  # type: ignore[override]
        """prediction: candidates (.., M, 4 + K); labels: corners and class number (.., O, 5), padded with class -1."""
        per_picture, objects = (rearrange(x, "... n c -> (...) n c") for x in (prediction, labels))
        truths = [rows[rows[:, 4] >= 0] for rows in objects]
        super().update(
            [detect(candidates, least_score=_LEAST_SCORE, suppress=self._suppress) for candidates in per_picture],
            [Boxes(rows[:, :4], rows[:, 4].long(), torch.ones_like(rows[:, 4])) for rows in truths],
        )


class TrackingMetric(IdentitiesKept):
    """Identities kept by candidates. objects: what counts as an object among the candidates (M, 4 + K) of a frame."""

    def __init__(self, objects: Callable[[torch.Tensor], Boxes]) -> None:
        super().__init__()
        self._objects = objects

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:  # type: ignore[override]
        """Update the metric with clips, or with the next frames of one.

        prediction: candidates (B, T, M, 4 + K) of clips, or of the next frames of one (T, M, 4 + K); labels: corners and class
        number (.., T, O, 5), padded with class -1.
        """
        clips = [(prediction, labels)] if prediction.ndim == 3 else zip(prediction, labels, strict=True)
        for candidates, objects in clips:
            truths = [rows[rows[:, 4] >= 0] for rows in objects]
            super().update(
                [self._objects(frame) for frame in candidates],
                [Boxes(rows[:, :4], rows[:, 4].long(), torch.ones_like(rows[:, 4])) for rows in truths],
                begins=prediction.ndim > 3,
            )


def _name_of(label: int) -> str:
    return COCO_NAMES[label] if label < len(COCO_NAMES) else str(label)
