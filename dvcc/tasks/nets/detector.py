"""Detection networks: FastestDet, or any ONNX file of its layout."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import batched_nms

from dvcc.errors import CheckpointError, ConfigError
from dvcc.tasks.nets.loading import assets_folder

FASTESTDET_FILE = "models/detection/fastestdet_coco80_352.onnx"
_OBJECTNESS_POWER, _CLASS_POWER = 0.6, 0.4  # FastestDet's score
_SUPPRESSED_AT_IOU = 0.45


class Boxes(NamedTuple):
    """N boxes of one picture. corners: (N, 4), left, top, right, bottom as shares 0..1 of the picture's sides; labels: int64
    (N,), class numbers; scores: (N,), 0..1."""

    corners: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor


class DetectionNet(nn.Module):
    """A network from RGB 0..1 (N, 3, H, W) of any size to candidates (N, M, 4 + num_classes): the corners of a box, left, top,
    right, bottom as shares 0..1 of the picture's sides, then the class scores 0..1.

    suppress: candidates of one object overlap, so all but the best must be dropped.
    """

    suppress = True

    def __init__(self, net: nn.Module, *, side: int, num_classes: int) -> None:
        super().__init__()
        self.net, self.side, self.num_classes = net, side, num_classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures are scaled to the square that the network was exported for; it takes BGR."""
        square = F.interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False).flip(1)
        # The file is for one picture: its reshapes say so in numbers.
        return decode(torch.vmap(lambda image: self.net(image[None])[0])(square))


def load_detection_net(model: str, *, weights: str | Path | None = None) -> DetectionNet:
    """ "fastestdet", from the ONNX file `weights` (None: the one of the assets). Raises `ConfigError`, `CheckpointError`."""
    if model != "fastestdet":
        raise ConfigError(f"there is no detection model {model!r}: choose fastestdet (task.weights: an ONNX file of its layout)")
    path = Path(weights or assets_folder() / FASTESTDET_FILE)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: set task.weights to FastestDet's ONNX file, or DVCC_ASSETS to their folder")
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise ConfigError(f"detection needs the packages of the extra: pip install 'dvcc[detection]' ({error})") from error
    try:
        graph = onnx.load(path)
        net = convert(graph).eval()
    except Exception as error:  # protobuf, onnx and onnx2torch each raise their own
        raise CheckpointError(f"{path} is no ONNX model that can be read ({error})") from error
    shapes = [[d.dim_value for d in x.type.tensor_type.shape.dim] for x in (graph.graph.input[0], graph.graph.output[0])]
    if [len(shape) for shape in shapes] != [4, 4] or shapes[0][1] != 3 or shapes[0][2] != shapes[0][3] or shapes[1][1] < 6:
        raise CheckpointError(
            f"{path} maps {shapes[0]} to {shapes[1]}: FastestDet's layout is [1, 3, S, S] to [1, 5 + classes, h, w]"
        )
    return DetectionNet(net, side=shapes[0][2], num_classes=shapes[1][1] - 5)


def decode(answers: torch.Tensor) -> torch.Tensor:
    """Candidates (N, h w, 4 + C) of answers (N, 5 + C, h, w) on a grid; differentiable.

    FastestDet answers, in every cell, objectness, place and size of a box, and class probabilities: centre = (cell + tanh) /
    grid, size = sigmoid, score = objectness^0.6 class^0.4.
    """
    objectness, across, down, width, height = answers[:, :5].flatten(2).unbind(1)
    rows, columns = answers.shape[-2:]
    cell = torch.arange(rows * columns, device=answers.device)
    x, y = (cell % columns + across.tanh()) / columns, (cell // columns + down.tanh()) / rows
    half = width.sigmoid() / 2, height.sigmoid() / 2
    corners = torch.stack([x - half[0], y - half[1], x + half[0], y + half[1]], -1).clamp(0, 1)
    scores = objectness[..., None] ** _OBJECTNESS_POWER * answers[:, 5:].flatten(2).mT ** _CLASS_POWER
    return torch.cat([corners, scores], -1)


@torch.no_grad()
def detect(candidates: torch.Tensor, *, least_score: float, suppress: bool) -> Boxes:
    """The boxes of one picture's candidates (M, 4 + K), best first: each candidate's best class at `least_score` or more. With
    `suppress`, less those that a better box of the class covers (non-maximum suppression at IoU 0.45)."""
    corners, (best, labels) = candidates[:, :4].float(), candidates[:, 4:].float().max(1)
    sure = (best >= least_score) & (corners[:, 2:] > corners[:, :2]).all(1)  # what lies outside the picture is clamped to nothing
    corners, best, labels = corners[sure], best[sure], labels[sure]
    kept = batched_nms(corners, best, labels, _SUPPRESSED_AT_IOU) if suppress else best.argsort(descending=True, stable=True)
    return Boxes(corners[kept], labels[kept], best[kept])
