"""What the loaders of all tasks share: torchvision's models with their own weights, ONNX files, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.sources import from_url

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROBE = (64, 128)
"""Height and width of the pictures that an ONNX file of open size is tried on: networks halve them up to six times."""


class Normalise(nn.Module):
    """RGB 0..1 (N, 3, H, W), less the mean, over the standard deviation of every channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class OnnxNet(nn.Module):
    """A network from an ONNX file with one input (N, 3, H, W); pictures are scaled to the size that it was exported for.

    inputs: the shape that the file declares, 0 where it leaves a side or the count open. outputs: the shape of a real answer to
    one picture of `size`: what a file declares of its output may be missing, and may be wrong.
    """

    outputs: list[int]

    def __init__(self, net: nn.Module, *, inputs: list[int]) -> None:
        super().__init__()
        self.net, self.inputs = net, inputs
        self.size = [fixed or side for fixed, side in zip(inputs[2:], PROBE, strict=True)]

    @torch.inference_mode()
    def probe(self) -> torch.Tensor:
        """What it answers to two pictures of noise."""
        return self(torch.rand(2, 3, *self.size, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = [fixed or side for fixed, side in zip(self.inputs[2:], images.shape[-2:], strict=True)]
        if size != list(images.shape[-2:]):
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        if self.inputs[0] != 1:
            return self.net(images)
        # The file is for one picture: its reshapes say so in numbers.
        return torch.cat([self.net(image[None]) for image in images])

    @property
    def finer(self) -> int:
        """How many times finer the picture is than the grid (h, w) of an answer (.., h, w), 0 if not alike both ways."""
        down, across = (round(side / cells) for side, cells in zip(self.size, self.outputs[-2:], strict=True))
        return down if down == across else 0

    @property
    def gives(self) -> str:
        """In words: what came of what."""
        height, width = self.size
        return f"gives {_shape_words(self.outputs)} for a picture of {height}x{width}"


def load_onnx(path: str | Path) -> tuple[OnnxNet, torch.Tensor]:
    """A frozen network from an ONNX file, and what it answers to two pictures of noise.

    Raises `CheckpointError` for a file that is none or does not map pictures to one answer each, `ConfigError` without the
    packages of the extra.
    """
    check_onnx(path)
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise ConfigError(f"ONNX files need the packages of the extra: pip install 'dvcc[detection]' ({error})") from error
    try:
        graph = onnx.load(path)
        net = convert(graph).eval().requires_grad_(False)
    except Exception as error:  # protobuf, onnx and onnx2torch each raise their own
        raise CheckpointError(f"{path} is no ONNX model that can be read ({_first_line(error)})") from error
    known = {tensor.name for tensor in graph.graph.initializer}
    inputs = [_shape(value) for value in graph.graph.input if value.name not in known]
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][0] > 1 or inputs[0][1] not in (0, 3) or len(graph.graph.output) != 1:
        raise CheckpointError(
            f"{path} takes {' and '.join(map(_shape_words, inputs)) or 'nothing'} and gives {len(graph.graph.output)} output(s): "
            "export it with one input [1 or N, 3, H, W] and one output"
        )
    whole = OnnxNet(net, inputs=inputs[0])
    try:
        answers = whole.probe()
    except Exception as error:  # whatever its operations raise for a shape or a type
        height, width = whole.size
        raise CheckpointError(
            f"{path} cannot be run on float32 pictures of {height}x{width} ({_first_line(error)}): export it for those it takes"
        ) from error
    if not answers.ndim or len(answers) != 2:
        raise CheckpointError(
            f"{path} does not give one answer for each of two pictures: export it for one picture, [1, 3, H, W]"
        )
    whole.outputs = list(answers.shape[1:])
    return whole, answers


def misfit(path: str | Path, net: OnnxNet, needed: str) -> CheckpointError:
    """What to raise for an ONNX file of another task."""
    return CheckpointError(f"{path} {net.gives}, but {needed}")


def is_onnx(model: str) -> bool:
    """Whether the name of a model is the path of an ONNX file."""
    return model.endswith(".onnx")


def check_onnx(path: str | Path) -> None:
    """Raise `CheckpointError` when there is no such file."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no ONNX file at {path}: set task.weights or task.model to its path")


def refuse_random(model: str, random: bool) -> None:
    """Raise `ConfigError` for random weights of a network that only its file describes."""
    if random:
        raise ConfigError(f"{model} is described by its file alone, so it has no random weights: leave random out")


def torchvision_names(family: ModuleType, model: str, *, task: str, also: Sequence[str]) -> None:
    """Raise `ConfigError` unless torchvision has `model` in the `family` (such as torchvision.models.detection)."""
    known = list_models(module=family)
    if model not in known:
        raise ConfigError(f"there is no {task} model {model!r}: choose one of {', '.join([*also, *known])}, or an ONNX file")


def load_pretrained(model: str, weights: WeightsEnum) -> nn.Module:
    """A torchvision model with weights that torchvision knows, downloaded once. Raises `CheckpointError`."""
    from_url(weights.url).fetch(model)
    return get_model(model, weights=weights)


def another_model(path: str | Path, model: str, reason: str) -> CheckpointError:
    """What to raise for a file whose tensors do not fit."""
    reason = " ".join(reason.split())[:200]
    return CheckpointError(f"{path} holds weights of another model than {model} ({reason}): choose its file")


def default_weights(model: str) -> WeightsEnum:
    """What torchvision says of a model's best weights."""
    return get_model_weights(model).DEFAULT


def _shape(value: Any) -> list[int]:
    return [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def _shape_words(shape: Sequence[int]) -> str:
    return f"[{', '.join(str(side) if side else '?' for side in shape)}]"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
