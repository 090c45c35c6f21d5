"""Detection networks that answer on a grid: FastestDet, or any ONNX file of its layout."""

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
    """A network from RGB 0..1 (N, 3, H, W) of any size to answers (N, 5 + num_classes, h, w): for every cell of a grid the
    objectness, four numbers that place a box (see `decode`) and the class probabilities."""

    def __init__(self, net: nn.Module, *, side: int, num_classes: int) -> None:
        super().__init__()
        self.net, self.side, self.num_classes = net, side, num_classes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures are scaled to the square that the network was exported for; it takes BGR."""
        square = F.interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False).flip(1)
        # The file is for one picture: its reshapes say so in numbers.
        return torch.vmap(lambda image: self.net(image[None])[0])(square)


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


def decode(answer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Corners (N, 4), as in `Boxes`, and class scores (N, C) of the N = h w cells of one answer (5 + C, h, w); differentiable.

    FastestDet: centre = (cell + tanh) / grid, size = sigmoid, score = objectness^0.6 class^0.4.
    """
    objectness, across, down, width, height = (channel.flatten() for channel in answer[:5])
    rows, columns = answer.shape[-2:]
    cell = torch.arange(rows * columns, device=answer.device)
    x, y = (cell % columns + across.tanh()) / columns, (cell // columns + down.tanh()) / rows
    half = width.sigmoid() / 2, height.sigmoid() / 2
    corners = torch.stack([x - half[0], y - half[1], x + half[0], y + half[1]], -1).clamp(0, 1)
    scores = objectness[:, None] ** _OBJECTNESS_POWER * answer[5:].flatten(1).T ** _CLASS_POWER
    return corners, scores


@torch.no_grad()
def detect(answer: torch.Tensor, *, least_score: float) -> Boxes:
    """The boxes of one answer (5 + C, h, w), best first: every cell's best class at `least_score` or more, less those that a
    better box of the class covers (non-maximum suppression at IoU 0.45)."""
    corners, scores = decode(answer.float())
    best, labels = scores.max(1)
    sure = best >= least_score
    corners, best, labels = corners[sure], best[sure], labels[sure]
    kept = batched_nms(corners, best, labels, _SUPPRESSED_AT_IOU)
    return Boxes(corners[kept], labels[kept], best[kept])
