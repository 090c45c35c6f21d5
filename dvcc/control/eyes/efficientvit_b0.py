"""EfficientViT-B0 for segmentation: how probable each class is in every macroblock, and its features."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from dvcc._files import write_atomic
from dvcc.control.eyes.base import Eyes, Look
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, softmax

_FEED = Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD)
CLASSES = 19  # of Cityscapes


class EfficientViTEyes(Eyes):
    """Planes: probabilities of Cityscapes' classes, then the features of the backbone at strides 8, 16 and 32."""

    name = "efficientvit_b0"
    file = "efficientvit_b0.onnx"
    segments = True
    answers = ("logits",)
    answer_planes = CLASSES
    choices: ClassVar = {"backbone": ("stride_8", "stride_16", "stride_32"), "none": ()}
    channels: ClassVar = {"backbone": 32 + 64 + 128, "none": 0}
    gains: ClassVar = {"backbone": 0.3, "none": 1.0}

    @classmethod
    def make_file(cls, folder: Path) -> Path:
        """See `Eyes.make_file`: the published weights, as a graph."""
        from dvcc.control.eyes.efficientvit_graph import to_onnx  # needs torch, which a deployed control does without
        from dvcc.networks.segmentation import load_segmentation_net

        path = folder / cls.file
        write_atomic(path, to_onnx(load_segmentation_net(cls.name).net))
        return path

    def normalised(self, pictures: np.ndarray) -> np.ndarray:
        """See `Eyes.normalised`."""
        return _FEED.normalised(pictures * np.float32(1 / 255), np)

    def read(self, answers: list[np.ndarray], size: tuple[int, int]) -> Look:
        """See `Eyes.read`."""
        probabilities = softmax(np.moveaxis(answers[0][0], 0, -1), np)
        return Look(None, [np.moveaxis(probabilities, -1, 0)])
