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
from dvcc.published import from_url

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    """A network from an ONNX file with one input (N, 3, H, W); pictures are scaled to the size that it was exported for."""

    def __init__(self, net: nn.Module, *, inputs: list[int], outputs: list[int]) -> None:
        super().__init__()
        self.net, self.inputs, self.outputs = net, inputs, outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = [fixed or side for fixed, side in zip(self.inputs[2:], images.shape[-2:], strict=True)]
        if size != list(images.shape[-2:]):
            images = F.interpolate(images, size, mode="bilinear", align_corners=False)
        if self.inputs[0] != 1:
            return self.net(images)
        # The file is for one picture: its reshapes say so in numbers.
        return torch.vmap(lambda image: self.net(image[None])[0])(images)


def load_onnx(path: str | Path) -> OnnxNet:
    """A frozen network from an ONNX file; sides and counts that it leaves open are 0 in `inputs` and `outputs`. Raises
    `CheckpointError` for a file that is none, `ConfigError` without the packages of the extra."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no ONNX file at {path}: set task.weights or task.model to its path")
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise ConfigError(f"ONNX files need the packages of the extra: pip install 'dvcc[detection]' ({error})") from error
    try:
        graph = onnx.load(path)
        net = convert(graph).eval().requires_grad_(False)
    except Exception as error:  # protobuf, onnx and onnx2torch each raise their own
        raise CheckpointError(f"{path} is no ONNX model that can be read ({error})") from error
    known = {tensor.name for tensor in graph.graph.initializer}
    inputs = [_shape(value) for value in graph.graph.input if value.name not in known]
    outputs = [_shape(value) for value in graph.graph.output]
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][1] not in (0, 3) or len(outputs) != 1:
        raise CheckpointError(f"{path} maps {inputs} to {outputs}: one input [N, 3, H, W] and one output are needed")
    return OnnxNet(net, inputs=inputs[0], outputs=outputs[0])


def is_onnx(model: str) -> bool:
    """Whether the name of a model is the path of an ONNX file."""
    return model.endswith(".onnx")


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
