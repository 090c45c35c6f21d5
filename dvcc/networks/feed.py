"""How pictures are fed to a network: size, colours, range of values, mean and deviation. torch is not imported.

`Feed.place` and everything that decodes answers are written once, in functions that numpy and torch share by name: `xp` is the
one that the arrays belong to. So what judges (numpy) and what a gradient passes through (torch) cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from dvcc.errors import ConfigError

Resize = Literal["stretch", "letterbox", "letterbox_corner"]
Colours = Literal["rgb", "bgr"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPEN_MULTIPLE = 32
"""Sides of pictures for a detector of open size: networks halve them up to five times."""


@dataclass(frozen=True)
class NetworkOptions:
    """What a user says of a network; None: as the layout, the file or the list of networks has it.

    layout: of a detector's answers (`dvcc.networks.detectors`). size: [height, width] of the pictures for a network of open
    size. range: the largest value of a picture, 1 or 255. mean, deviation: of each channel, in that range and in the order of
    `colours`. classes: how many a network tells apart whose answers do not say it. score: from which a detection counts as an
    object. Raises `ConfigError` for a value that cannot be.
    """

    layout: str | None = None
    size: tuple[int, int] | None = None
    resize: Resize | None = None
    colours: Colours | None = None
    range: float | None = None
    mean: tuple[float, float, float] | None = None
    deviation: tuple[float, float, float] | None = None
    classes: int | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        for name, choices in (("resize", get_args(Resize)), ("colours", get_args(Colours)), ("range", (1, 255))):
            if getattr(self, name) not in (None, *choices):
                raise ConfigError(f"task.{name} is {' or '.join(map(str, choices))}, got {getattr(self, name)}")
        for name in ("mean", "deviation"):
            if (values := getattr(self, name)) is not None and len(values) != 3:
                raise ConfigError(f"task.{name} has one number for each of three channels, got {list(values)}")
        if self.deviation is not None and min(self.deviation) <= 0:
            raise ConfigError(f"task.deviation is above 0, got {list(self.deviation)}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ConfigError(f"task.size is [height,width], got {list(self.size)}")
        if self.classes is not None and self.classes < 1:
            raise ConfigError(f"task.classes is at least 1, got {self.classes}")
        if self.score is not None and not 0 < self.score < 1:
            raise ConfigError(f"task.score is between 0 and 1, got {self.score:g}")

    @property
    def given(self) -> list[str]:
        """Names of the options that are set."""
        return [item.name for item in fields(self) if getattr(self, item.name) is not None]

    def over(self, base: NetworkOptions) -> NetworkOptions:
        """Return these options, and those of `base` where they are silent."""
        return replace(base, **{name: getattr(self, name) for name in self.given})


@dataclass(frozen=True)
class Placement:
    """Where a picture lies on the canvas that the network sees: its top left corner and its size there, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def shares(self, corners: Any, xp: Any) -> Any:
        """Corners (.., 4) in pixels of the canvas as shares 0..1 of the picture's sides."""
        origin = xp.asarray(np.array([self.left, self.top] * 2, np.float32), device=corners.device)
        sides = xp.asarray(np.array([self.width, self.height] * 2, np.float32), device=corners.device)
        return xp.clip((corners - origin) / sides, 0.0, 1.0)


@dataclass(frozen=True)
class Feed:
    """Pictures as a network takes them.

    resize: "stretch" both sides to the canvas; "letterbox": keep the shape, in the middle of the canvas; "letterbox_corner":
    in its top left corner. padding: grey 0..1 of the rest of the canvas. The other fields are as in `NetworkOptions`.
    """

    resize: Resize = "stretch"
    colours: Colours = "rgb"
    range: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding: float = 114 / 255

    def changed(self, options: NetworkOptions) -> Feed:
        """With what a user says of it."""
        names = [name for name in ("resize", "colours", "range", "mean", "deviation") if name in options.given]
        return replace(self, **{name: getattr(options, name) for name in names})

    def words(self) -> str:
        """For a report."""
        resize = {"stretch": "stretched", "letterbox": "letterboxed", "letterbox_corner": "letterboxed in the corner"}
        text = f"{resize[self.resize]}, {self.colours.upper()} 0..{self.range:g}"
        if any(self.mean) or set(self.deviation) != {1.0}:
            mean, deviation = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.deviation))
            text += f", mean {mean}, deviation {deviation}"
        return text

    def placement(self, picture: tuple[int, int], canvas: tuple[int, int], *, scale: bool = True) -> Placement:
        """Where a picture (height, width) lies on a canvas (height, width). scale: False for a letterbox that only pads."""
        if self.resize == "stretch":
            return Placement(0, 0, canvas[1], canvas[0])
        ratio = min(canvas[0] / picture[0], canvas[1] / picture[1]) if scale else 1.0
        height, width = (max(1, min(round(side * ratio), room)) for side, room in zip(picture, canvas, strict=True))
        if self.resize == "letterbox_corner":
            return Placement(0, 0, width, height)
        # The odd pixel of padding lies below and to the right, as in Ultralytics' letterbox.
        return Placement((canvas[1] - width) // 2, (canvas[0] - height) // 2, width, height)

    def place(self, images: Any, canvas: tuple[int, int], placement: Placement, xp: Any) -> Any:
        """Canvases float32 (N, 3, *canvas) of RGB pictures (N, 3, H, W), uint8 or float 0..1."""
        pixels = resized(images, (placement.height, placement.width), xp)
        if (placement.height, placement.width) != tuple(canvas):
            whole = xp.full((len(images), 3, *canvas), self.padding, dtype=xp.float32, device=images.device)
            whole[:, :, placement.top : placement.top + placement.height, placement.left : placement.left + placement.width] = (
                pixels
            )
            pixels = whole
        return self.normalised(pixels, xp)

    def normalised(self, pixels: Any, xp: Any) -> Any:
        """RGB 0..1 (N, 3, H, W) in the network's colours and range, less the mean, over the deviation."""
        if self.colours == "bgr":
            pixels = pixels[:, [2, 1, 0]]
        if any(self.mean) or set(self.deviation) != {1.0} or self.range != 1:
            mean, deviation = (
                xp.asarray(np.array(v, np.float32)[:, None, None] / np.float32(self.range), device=pixels.device)
                for v in (self.mean, self.deviation)
            )
            pixels = (pixels - mean) / deviation
        return pixels


def resized(images: Any, size: tuple[int, int], xp: Any) -> Any:
    """Pictures (N, C, H, W), uint8 0..255 or float 0..1, as float32 0..1 of another size, bilinear between pixel centres.

    The arithmetic is that of OpenCV's INTER_LINEAR and of torch's `interpolate` without antialiasing: what networks are
    deployed with.
    """
    byte = images.dtype == xp.uint8
    for axis, side in ((2, size[0]), (3, size[1])):
        if images.shape[axis] != side:
            low, high, weight = _neighbours(images.shape[axis], side)
            share = xp.asarray(weight.reshape((-1, 1) if axis == 2 else (-1,)), device=images.device)
            first, second = (_float(images[:, :, at] if axis == 2 else images[:, :, :, at], xp) for at in (low, high))
            images = first + (second - first) * share
    images = _float(images, xp)
    return images * (1 / 255) if byte else images


def _float(x: Any, xp: Any) -> Any:
    return x.astype(np.float32, copy=False) if xp is np else x.float()


def _neighbours(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two source pixels of every target pixel of a line, and the second one's weight."""
    centre = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.floor(centre).astype(np.int64)
    return low, np.minimum(low + 1, before - 1), (centre - low).astype(np.float32)


def canvas_size(fixed: tuple[int, int], picture: tuple[int, int], options: NetworkOptions, *, multiple: int) -> tuple[int, int]:
    """Return the height and width that a network sees of a picture (height, width).

    They are those of its file; else `options.size`; else the picture's own, in multiples of `multiple`. fixed: of the file, 0 for
    an open side.
    """
    wanted = options.size or tuple(-(-side // multiple) * multiple for side in picture)
    height, width = (fixed_side or side for fixed_side, side in zip(fixed, wanted, strict=True))
    return height, width


def sigmoid(x: Any, xp: Any) -> Any:
    """Without an overflow for any x."""
    return 0.5 * (xp.tanh(0.5 * x) + 1)


def softmax(x: Any, xp: Any) -> Any:
    """Over the last axis."""
    powers = xp.exp(x - xp.amax(x, axis=-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
