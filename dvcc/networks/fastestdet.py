"""FastestDet, or any ONNX file of its layout: a network that answers on a grid."""

from __future__ import annotations

from pathlib import Path

import torch

from dvcc.networks.detector import DetectionNet
from dvcc.networks.loading import OnnxNet, load_onnx, misfit

OBJECTNESS_POWER, CLASS_POWER = 0.6, 0.4  # FastestDet's score


class FastestDet(DetectionNet):
    """Its candidates are the cells of the grid."""

    def __init__(self, net: OnnxNet, *, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, suppress=True)
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, h w, 4 + num_classes), row by row. The network takes BGR."""
        return decode(self.net(images.flip(1)))


def load_fastestdet(path: str | Path) -> FastestDet:
    """From an ONNX file. Raises `CheckpointError` for another layout."""
    net, answers = load_onnx(path)
    if net.inputs[2] != net.inputs[3] or not net.inputs[2] or len(net.outputs) != 3 or net.outputs[0] < 6:
        raise misfit(path, net, "FastestDet's layout is [5 + classes, h, w] for square pictures of a fixed size")
    scores = answers[:, 0], answers[:, 5:]
    if any(float(part.min()) < 0 or float(part.max()) > 1 for part in scores):
        raise misfit(
            path, net, "its numbers are no FastestDet's: objectness and the classes' probabilities lie within 0..1 there"
        )
    return FastestDet(net, num_classes=net.outputs[0] - 5)


def is_fastestdet(answers: torch.Tensor) -> bool:
    """Whether answers (N, 5 + C, h, w) can be nothing else: after the first five numbers come probabilities that sum to 1."""
    classes = answers[:, 5:]
    return classes.shape[1] > 1 and bool((classes >= 0).all()) and bool(((classes.sum(1) - 1).abs() < 1e-3).all())


def decode(answers: torch.Tensor) -> torch.Tensor:
    """Candidates (N, h w, 4 + C) of the cells of answers (N, 5 + C, h, w); differentiable.

    Every cell gives the objectness, four numbers that place a box, and the class probabilities. FastestDet: centre =
    (cell + tanh) / grid, size = sigmoid, score = objectness^0.6 class^0.4.
    """
    scores = answers[:, :1].flatten(2).mT ** OBJECTNESS_POWER * answers[:, 5:].flatten(2).mT ** CLASS_POWER
    return torch.cat([place(answers[:, 1:5]), scores], -1)


def place(boxes: torch.Tensor) -> torch.Tensor:
    """Corners (N, h w, 4) as shares of the sides, from the four numbers (N, 4, h, w) that place every cell's box."""
    across, down, width, height = boxes.flatten(2).unbind(1)
    rows, columns = boxes.shape[-2:]
    cell = torch.arange(rows * columns, device=boxes.device)
    x, y = (cell % columns + across.tanh()) / columns, (cell // columns + down.tanh()) / rows
    half = width.sigmoid() / 2, height.sigmoid() / 2
    return torch.stack([x - half[0], y - half[1], x + half[0], y + half[1]], -1).clamp(0, 1)
