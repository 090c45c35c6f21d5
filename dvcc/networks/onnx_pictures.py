"""Networks of ONNX files that answer about whole pictures: what a classifier and an embedding share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions
from dvcc.networks.onnx_file import PROBE, OnnxFile, probe_pictures, shape_words


class OnnxPictureNet(nn.Module):
    """The network of an ONNX file, fed as ImageNet's networks are unless the options say otherwise.

    A member checks its answers to pictures of noise, and makes its `net` by them.
    """

    net: nn.Module

    def __init__(self, file: OnnxFile, *, options: NetworkOptions) -> None:
        super().__init__()
        self._file, self._options = file, options
        self._feed = file.feed(Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD, padding=0.0)).changed(options)
        self._canvas = file.canvas(PROBE, options, multiple=1)

    def probe_canvases(self) -> np.ndarray:
        """Return pictures of noise as the network takes them."""
        canvas = self._canvas
        return self._feed.place(probe_pictures(canvas), canvas, self._feed.placement(canvas, canvas), np)

    def what_it_gives(self, answers: list[np.ndarray]) -> str:
        """Return the beginning of an error about its answers to pictures of noise."""
        shapes = " and ".join(shape_words(value.shape[1:]) for value in answers)
        return f"{self._file.path} gives {shapes} for a picture of {self._canvas[0]}x{self._canvas[1]}"

    @property
    def words(self) -> str:
        """Return how it is fed, for a report."""
        return self._feed.words()

    def answers(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return all answers to RGB 0..1 (N, 3, H, W)."""
        size = images.shape[-2], images.shape[-1]
        canvas = self._file.canvas(size, self._options, multiple=1)
        answers: list[torch.Tensor] = self.net(self._feed.place(images, canvas, self._feed.placement(size, canvas), torch))
        return answers
