"""torchvision's detectors: Faster R-CNN and whatever else answers as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from dvcc.networks.coco import COCO_NUMBERS
from dvcc.networks.detector import DetectionNet
from dvcc.networks.loading import default_weights, load_pretrained, torchvision_model
from dvcc.networks.weights import load_published, load_state

_EXACT = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "retinanet_resnet50_fpn")


class TorchvisionDetector(DetectionNet):
    """It scales the pictures itself (mostly to a smaller side of 800) and suppresses. A candidate has the score of one class."""

    def __init__(self, net: Any, *, classes: list[int]) -> None:
        """classes: the network's own numbers for class 0, 1, .. of the candidates."""
        super().__init__(num_classes=len(classes), suppress=False)
        self.net = net
        heads = net.roi_heads if hasattr(net, "roi_heads") else net
        self._most: int = heads.detections_per_img
        self._places = {number: place for place, number in enumerate(classes)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, M, 4 + num_classes), best first; M is what the network keeps at most of a picture."""
        height, width = images.shape[-2:]
        sides = images.new_tensor([width, height, width, height])
        return torch.stack([self._candidates(detections, sides) for detections in self.net(list(images))])

    def _candidates(self, detections: dict[str, torch.Tensor], sides: torch.Tensor) -> torch.Tensor:
        kept = [n for n, label in enumerate(detections["labels"].tolist()) if label in self._places]
        places = [self._places[label] for label in detections["labels"].tolist() if label in self._places]
        chosen = F.one_hot(torch.tensor(places, dtype=torch.int64, device=sides.device), self.num_classes)
        rows = torch.cat([detections["boxes"][kept] / sides, detections["scores"][kept, None] * chosen], 1)
        return F.pad(rows, (0, 0, 0, self._most - len(rows)))


def load_torchvision_detector(model: str, *, weights: str | Path | None, random: bool) -> TorchvisionDetector:
    """Return a detection model of torchvision; how many classes a file has is read from it. Raises `CheckpointError`."""
    default = default_weights(model)
    count = len(default.meta["categories"])
    if weights is None and not random:
        net = load_pretrained(model, default)
    elif weights is None:
        net = torchvision_model(model, weights=None, weights_backbone=None, num_classes=count)
    else:
        state = load_published(weights, key="task.weights")
        scores = state.get("roi_heads.box_predictor.cls_score.weight")
        count = count if scores is None else len(scores)
        net = torchvision_model(model, weights=None, weights_backbone=None, num_classes=count)
        load_state(net, state, path=weights)
        if model in _EXACT:
            _exact_batch_norm(net)
    return TorchvisionDetector(net, classes=COCO_NUMBERS if count == 91 else list(range(1, count)))


def _exact_batch_norm(net: nn.Module) -> None:
    """Do what torchvision does where it loads these weights itself: they were trained without batch norm's epsilon."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
