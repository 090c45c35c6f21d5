"""A detector from an ONNX file, on pictures of any size: numpy and onnxruntime alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dvcc.errors import CheckpointError
from dvcc.networks.detectors.base import Boxes, Layout, Size, select
from dvcc.networks.feed import OPEN_MULTIPLE, Feed, NetworkOptions, Placement
from dvcc.networks.onnx_file import OnnxFile

_SHARES = 2.0
"""Largest corner, in pixels, of boxes that can be no objects."""

_ROUNDING = 0.01
"""How far above 1 a score of half precision may lie."""


class Detector:
    """Pictures to boxes.

    file: the network. layout: of its answers. feed: how pictures are given to it. num_classes: how many it tells apart.
    fitting: names of all layouts whose form the answers have.
    """

    def __init__(
        self,
        file: OnnxFile,
        layout: Layout,
        *,
        feed: Feed,
        options: NetworkOptions,
        num_classes: int,
        fitting: Sequence[str] = (),
    ) -> None:
        self.file, self.layout, self.feed, self.options, self.num_classes = file, layout, feed, options, num_classes
        self.fitting = list(fitting)

    @property
    def words(self) -> str:
        """For a report: what the file is taken for, and how it is fed."""
        size = self.file.fixed if all(self.file.fixed) else self.options.size
        at = f"at {size[0]}x{size[1]}" if size else "at the pictures' size"
        return f"layout {self.layout.name}, {self.feed.words()}, {at}"

    def canvas(self, picture: Size) -> tuple[Size, Placement]:
        """Return what the network sees of a picture (height, width), and where the picture lies on it."""
        canvas = self.file.canvas(picture, self.options, multiple=OPEN_MULTIPLE)
        own_size = not all(self.file.fixed) and self.options.size is None
        return canvas, self.feed.placement(picture, canvas, scale=not own_size)

    def candidates(self, images: np.ndarray) -> np.ndarray:
        """Return candidates float32 (N, M, 4 + num_classes) of RGB pictures (N, 3, H, W), uint8 or float 0..1.

        They are corners as shares of the picture's sides, then scores.
        """
        canvas, placement = self.canvas(images.shape[2:])  # type: ignore[arg-type]
        canvases = self.feed.place(images, canvas, placement, np)
        if self.layout.batched:
            return candidates_of(self.layout, self.file.run(canvases), canvas, placement, self.num_classes, np)
        each = self.file.run_each(canvases)
        return np.concatenate([candidates_of(self.layout, answers, canvas, placement, self.num_classes, np) for answers in each])

    def detect(self, rgb: np.ndarray, *, least_score: float = 0.05) -> list[Boxes]:
        """Boxes of every picture, best first: RGB uint8 (H, W, 3), or a batch (N, H, W, 3)."""
        batch = rgb[None] if rgb.ndim == 3 else rgb
        per_picture = self.candidates(batch.transpose(0, 3, 1, 2))
        return [select(candidates, least_score=least_score, suppress=self.layout.suppress) for candidates in per_picture]


def _end_of_shares(corners: Any, scores: Any, layout: Layout) -> float | None:
    """Return the largest corner where there are objects and all boxes lie in the first two pixels, else None."""
    if not corners.shape[1] or (corners > _SHARES).any() or (corners < 0).any() or not (scores >= layout.object_score).any():
        return None
    return _largest(corners)


def _largest(values: Any) -> float:
    return float((values.detach() if hasattr(values, "detach") else values).max())


def candidates_of(layout: Layout, answers: Any, canvas: Size, placement: Placement, num_classes: int, xp: Any) -> Any:
    """Candidates (N, M, 4 + num_classes) of answers of numpy or torch.

    Raises `CheckpointError` where all objects lie in the first two pixels: such a network answers shares of the sides; and for
    scores above 1.
    """
    corners, scores = layout.decode(answers, canvas, num_classes, xp)
    if scores.shape[1] and (most := _largest(scores)) > 1 + _ROUNDING:
        raise CheckpointError(
            f"the network's scores go up to {most:.3g}, and those of layout {layout.name} lie within 0..1: export it with the "
            "sigmoid or softmax of its scores, or set task.layout"
        )
    if (end := _end_of_shares(corners, scores, layout)) is not None:
        raise CheckpointError(
            f"the network's boxes end at {end:.3g}, as shares of the sides do, but layout {layout.name} is "
            f"{layout.form}: export it with boxes in pixels, or set task.layout"
        )
    return xp.concat([placement.shares(corners, xp), xp.clip(scores, 0.0, 1.0)], axis=-1)
