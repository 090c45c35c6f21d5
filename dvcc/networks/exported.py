"""Detectors as torch modules: of an ONNX file, which onnxruntime runs where no gradient is needed, or of a user's own module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dvcc.errors import CheckpointError
from dvcc.networks.detector import DetectionNet
from dvcc.networks.detectors import LAYOUTS, Detector, candidates_of, outputs_of, recognise, shaped_as
from dvcc.networks.detectors.base import Size
from dvcc.networks.feed import OPEN_MULTIPLE, NetworkOptions, Placement, canvas_size
from dvcc.networks.onnx_file import PROBE, first_line, probe_pictures
from dvcc.networks.onnx_torch import OnnxModule


class OnnxDetector(DetectionNet):
    """A `Detector` inside a task: its file judges as it is, and a gradient can pass through it."""

    takes_bytes = True

    def __init__(self, detector: Detector) -> None:
        layout = detector.layout
        score = detector.options.score or layout.object_score
        super().__init__(num_classes=detector.num_classes, suppress=layout.suppress, object_score=score)
        self.detector = detector
        canvas, _ = detector.canvas(PROBE)
        placement = detector.feed.placement(canvas, canvas)
        canvases = detector.feed.place(probe_pictures(canvas), canvas, placement, np)

        def read(answers: Any, xp: Any) -> Any:
            if not layout.batched:
                what = f"{detector.file.path} can be measured but not trained for"
                raise CheckpointError(f"{what}: give torchvision's module itself")
            return candidates_of(layout, answers, canvas, placement, detector.num_classes, xp)

        self.net = OnnxModule(detector.file, canvases=canvases, read=read)

    @property
    def words(self) -> str:
        """For a report."""
        return self.detector.words

    @property
    def fitting(self) -> list[str]:
        """Names of the layouts that its answers could have."""
        return self.detector.fitting

    def answers(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what the file itself says of RGB pictures 0..1 (N, 3, H, W)."""
        canvas, placement = self.detector.canvas((images.shape[-2], images.shape[-1]))
        return self.net(self.detector.feed.place(images, canvas, placement, torch))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, M, 4 + num_classes)."""
        if not (torch.is_grad_enabled() and images.requires_grad):
            return torch.from_numpy(self.detector.candidates(images.detach().cpu().numpy())).to(images.device)
        canvas, placement = self.detector.canvas((images.shape[-2], images.shape[-1]))
        return candidates_of(self.detector.layout, self.answers(images), canvas, placement, self.num_classes, torch)


class OwnDetector(DetectionNet):
    """A user's module of one of the layouts, on pictures of any size.

    net: takes canvases (N, 3, H, W) and gives a tensor, a tuple or a dict of them. options: as for an ONNX file; without `size`,
    pictures are given in multiples of 32. Raises `ConfigError` or `CheckpointError` for answers without a layout.
    """

    def __init__(self, net: nn.Module, *, options: NetworkOptions) -> None:
        canvas = canvas_size((0, 0), PROBE, options, multiple=OPEN_MULTIPLE)
        net = prepared(net)
        answers, names = _probe(net, canvas, options)
        what = type(net).__name__
        outputs = outputs_of(LAYOUTS, answers, canvas, names)
        answers = [answers[i] for i in outputs]
        layout = recognise(LAYOUTS, answers, canvas, options=options, what=what)
        classes = layout.num_classes(answers, options)
        super().__init__(num_classes=classes, suppress=layout.suppress, object_score=options.score or layout.object_score)
        self.net, self.layout, self.options, self.feed = net, layout, options, layout.feed.changed(options)
        self._outputs = outputs
        self.fitting = [fitted.name for fitted in shaped_as(LAYOUTS, answers, canvas)]

    @property
    def words(self) -> str:
        """For a report."""
        at = "{}x{}".format(*self.options.size) if self.options.size else "the pictures' size"
        return f"layout {self.layout.name}, {self.feed.words()}, at {at}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Candidates (N, M, 4 + num_classes)."""
        canvas, placement = self._canvas(images)
        if self.layout.batched:
            return candidates_of(self.layout, self.answers(images), canvas, placement, self.num_classes, torch)
        each = [self.answers(image[None]) for image in images]
        return torch.cat([candidates_of(self.layout, answer, canvas, placement, self.num_classes, torch) for answer in each])

    def answers(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what the module itself says of RGB pictures 0..1 (N, 3, H, W)."""
        answers = as_list(self.net(self.feed.place(images, *self._canvas(images), torch)))
        return [answers[i] for i in self._outputs]

    def _canvas(self, images: torch.Tensor) -> tuple[Size, Placement]:
        picture = images.shape[-2], images.shape[-1]
        canvas = canvas_size((0, 0), picture, self.options, multiple=OPEN_MULTIPLE)
        return canvas, self.feed.placement(picture, canvas, scale=self.options.size is not None)


@torch.no_grad()
def _probe(net: nn.Module, canvas: tuple[int, int], options: NetworkOptions) -> tuple[list[np.ndarray], list[str]]:
    """Answers to two pictures, and their names."""
    pictures = torch.from_numpy(probe_pictures(canvas)) * (options.range or 1)
    named = asked_by_name(net, pictures)
    if any(value.ndim < 2 or len(value) != len(pictures) for _, value in named):
        named = asked_by_name(net, pictures[:1])
    answers = [value.float() if value.is_floating_point() else value for _, value in named]
    if not all(math.isfinite(float(value.sum())) for value in answers):
        raise CheckpointError(f"{type(net).__name__} answers NaN or infinity, so nothing it says can be measured")
    return [value.numpy() for value in answers], [name for name, _ in named]


def as_list(answer: Any) -> list[torch.Tensor]:
    """Return the tensors of what a module gives.

    It gives one, a tuple, a dict, a dataclass, or torchvision's list of one dict per picture. What is no tensor in them, a loss
    of None, is left out.
    """
    return [tensor for _, tensor in _by_name(answer)]


def _by_name(answer: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    """Return the same, each with its key; "" where it has none."""
    if isinstance(answer, torch.Tensor):
        return [(name, answer)]
    if is_dataclass(answer):
        answer = vars(answer)
    if isinstance(answer, Mapping):
        return [pair for key, value in answer.items() for pair in _by_name(value, str(key))]
    if isinstance(answer, str) or not isinstance(answer, Iterable):
        return []
    return [pair for value in answer for pair in _by_name(value)]


def prepared(net: nn.Module) -> nn.Module:
    """Return a user's module as a fixed judge: in evaluation mode, its weights without gradients and in single precision.

    Raises `CheckpointError` for a module that torch.export made, which has no modes.
    """
    try:
        return net.eval().requires_grad_(False).float()
    except NotImplementedError as error:
        raise CheckpointError(
            f"{type(net).__name__} cannot be set to evaluation mode ({first_line(error)}): give the module itself "
            "instead of what torch.export made of it, or an ONNX file"
        ) from error


def asked(net: nn.Module, *pictures: torch.Tensor) -> list[torch.Tensor]:
    """Return what a user's module answers to pictures (N, 3, H, W).

    Raises `CheckpointError` where it raises, or answers no tensor.
    """
    return [tensor for _, tensor in asked_by_name(net, *pictures)]


def asked_by_name(net: nn.Module, *pictures: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Return the same, each with its name."""
    shapes = " and ".join(str(tuple(part.shape)) for part in pictures)
    what = f"{type(net).__name__}, given pictures {shapes},"
    try:
        answer = net(*pictures)
    except Exception as error:  # a module's own code can raise anything
        raise CheckpointError(f"{what} fails ({type(error).__name__}: {first_line(error)}): mend its forward") from error
    answers = _by_name(answer)
    if not answers:
        raise CheckpointError(f"{what} gives a {type(answer).__name__} without a tensor: return a tensor, or several")
    return answers
