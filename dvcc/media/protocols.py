"""How a picture is scaled and cut before it is coded, and its labels with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from dvcc.errors import ConfigError

if TYPE_CHECKING:
    import torch

LabelledTask = Literal["segmentation", "detection", "optical_flow", "classification"]
IGNORED = 255
"""The class of a pixel that no metric counts."""


class Window(NamedTuple):
    """A rectangle of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """First scale (antialiased bilinear), then cut from the centre, then drop an odd last row and column, as 4:2:0 needs.

    resize_smaller: pixels that the smaller side is scaled to; the shape is kept. resize: (H, W) to scale to, whatever the shape.
    cover: (H, W), even, that the scaled picture just covers; the shape is kept but for rounding, and what sticks out is cut.
    crop: (H, W) of the centre. All in pixels, at least 16. `Protocol()` only drops odd rows and columns. interpolation: of the
    scaling. rgb: pictures stay RGB, and odd rows and columns stay.

    Raises `ConfigError` for a number below 16, for two ways to scale, and for a crop that no scaled picture could hold.
    """

    resize_smaller: int | None = None
    resize: tuple[int, int] | None = None
    cover: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    rgb: bool = False

    def __post_init__(self) -> None:
        ways = [f"{name}={value}" for name in ("resize_smaller", "resize", "cover") if (value := getattr(self, name)) is not None]
        if len(ways) > 1:
            raise ConfigError(f"{' and '.join(ways)} are {len(ways)} ways to scale a picture: give one")
        if self.cover is not None:
            if self.crop not in (None, self.cover):
                raise ConfigError(f"cover={self.cover} cuts to that size, so crop={self.crop} is one too many: leave it out")
            object.__setattr__(self, "crop", self.cover)
        if self.resize_smaller is not None and self.resize_smaller < 16:
            raise ConfigError(f"resize_smaller must be at least 16, got {self.resize_smaller}")
        for name in ("resize", "cover", "crop"):
            size = getattr(self, name)
            if size is None:
                continue
            if len(size) != 2 or min(size) < 16:
                raise ConfigError(f"{name} must be (height, width), each at least 16, got {tuple(size)}")
            object.__setattr__(self, name, tuple(size))  # a config gives a list
        if self.resize is not None:
            self.window(*self.resize)
        if self.resize_smaller is not None and self.crop is not None and min(self.crop) > self.resize_smaller:
            raise ConfigError(f"crop={self.crop} does not fit pictures whose smaller side is {self.resize_smaller}")

    def __str__(self) -> str:
        steps = [f"smaller side {self.resize_smaller}, {self.interpolation}"] if self.resize_smaller else []
        steps += ["x".join(map(str, self.resize))] if self.resize else []
        if self.cover:
            return f"scaled to cover {'x'.join(map(str, self.cover))}, then cut"
        steps += [f"crop {'x'.join(map(str, self.crop))}"] if self.crop else []
        if self.resize_smaller and self.crop:
            steps[-1] += f" (crop ratio {self.crop[0] / self.resize_smaller:g})"
        steps += ["RGB"] if self.rgb else []
        return ", ".join(steps) or "as they are"

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) that a picture of (height, width) pixels is scaled to."""
        if self.cover is not None:
            return covering((height, width), self.cover)
        if self.resize_smaller is None:
            return self.resize or (height, width)
        longer = int(self.resize_smaller * max(height, width) / min(height, width))
        return (self.resize_smaller, longer) if height <= width else (longer, self.resize_smaller)

    def window(self, height: int, width: int) -> Window:
        """Return what is kept of the scaled picture of (height, width) pixels.

        Raises `ConfigError` when the crop is larger than it.
        """
        wanted = self.crop or (height, width)
        if wanted[0] > height or wanted[1] > width:
            raise ConfigError(
                f"a crop of {wanted[0]}x{wanted[1]} is larger than the {height}x{width} picture: leave that out, "
                "or take pictures as they are (protocol=none)"
            )
        top, left = round((height - wanted[0]) / 2), round((width - wanted[1]) / 2)
        odd = 0 if self.rgb else 1
        return Window(top, left, wanted[0] - odd * (wanted[0] % 2), wanted[1] - odd * (wanted[1] % 2))


def covering(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the even size (H, W), of the shape of `source`, that just covers `size`."""
    scale = max(size[0] / source[0], size[1] / source[1])
    height, width = (max(wanted, 2 * round(side * scale / 2)) for side, wanted in zip(source, size, strict=True))
    return height, width


def within(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the even size (H, W), of the shape of `source`, that lies within `size`.

    It is the source's own, made even, if that does.
    """
    scale = min(1.0, *(wanted / side for side, wanted in zip(source, size, strict=True)))
    height, width = (max(16, int(side * scale) // 2 * 2) for side in source)
    return height, width


AS_IT_IS = Protocol()

# Segmentation: the paper says 769x769 and not how. Its networks were trained on crops of that size at the pictures' own shape,
# and MMSegmentation tests them by sliding such a window over the picture. So a crop of the centre: scaling 1024x2048 to a
# square would halve every object's width, a shape that no network has learned. What is coded is 768x768, since 4:2:0 has no
# odd sizes.
PAPER: dict[LabelledTask, Protocol] = {
    "segmentation": Protocol(crop=(769, 769)),
    "detection": Protocol(resize=(480, 640)),
    "classification": Protocol(resize_smaller=256, crop=(224, 224), interpolation="bicubic"),  # as timm says of all nine
    "optical_flow": Protocol(crop=(512, 512)),
}
"""The input protocols of Reich et al., "A Perspective on Deep Vision Performance with Standard Image and Video Codecs" (2024)."""


def fit_frames(frames: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    """uint8 RGB (T, 3, H, W) as the protocol wants them, uint8 (T, 3, H', W') with H' and W' even.

    Raises `ConfigError` when the crop is larger than the picture.
    """
    height, width = frames.shape[-2:]
    size = protocol.scaled(height, width)
    window = protocol.window(*size)
    if size != (height, width):
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional

        frames = functional.resize(frames, list(size), InterpolationMode(protocol.interpolation), antialias=True)
    return _cut(frames, window)


def fit_labels(labels: torch.Tensor, protocol: Protocol, *, task: LabelledTask, size: tuple[int, int]) -> torch.Tensor:
    """Labels that stay true to frames of `size` (H, W) that the protocol is applied to.

    Segmentation: integers (T, H, W), scaled to the nearest pixel. Detection: (T, O, 5), left, top, right, bottom as shares 0..1
    of the sides and the class number, -1 where there is no box; cut at the window, and left out when nothing remains, so O may
    shrink. Optical flow: (T-1, 2, H, W) in pixels, x then y, scaled to the nearest pixel and by the scale. Classification: as
    they are.
    """
    scaled = protocol.scaled(*size)
    return _FITTERS[task](labels, size, scaled, protocol.window(*scaled))


def _cut(tensor: torch.Tensor, window: Window) -> torch.Tensor:
    return tensor[..., window.top : window.top + window.height, window.left : window.left + window.width]


def _nearest(tensor: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, C, H, W) scaled to the nearest pixel: class numbers have no averages, and NaN would spread in one."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    return functional.resize(tensor, list(size), InterpolationMode.NEAREST_EXACT)


def _fit_label_map(labels: torch.Tensor, size: tuple[int, int], scaled: tuple[int, int], window: Window) -> torch.Tensor:
    return _cut(labels if scaled == size else _nearest(labels[:, None], scaled)[:, 0], window)


def _fit_boxes(boxes: torch.Tensor, size: tuple[int, int], scaled: tuple[int, int], window: Window) -> torch.Tensor:
    """Scaling leaves shares as they are."""
    sides = boxes.new_tensor([scaled[1], scaled[0]]).repeat(2)
    offset = boxes.new_tensor([window.left, window.top]).repeat(2)
    window_sides = boxes.new_tensor([window.width, window.height]).repeat(2)
    corners = ((boxes[..., :4] * sides - offset) / window_sides).clamp(0, 1)
    kept = (corners[..., 2:] > corners[..., :2]).all(-1) & (boxes[..., 4] >= 0)
    no_box = boxes.new_tensor([0, 0, 0, 0, -1])
    fitted = boxes.new_empty(boxes.shape)
    fitted[..., :4], fitted[..., 4] = corners, boxes[..., 4]
    fitted = fitted.where(kept[..., None], no_box)
    order = kept.int().argsort(dim=-1, descending=True, stable=True)
    most = int(kept.sum(-1).max()) if kept.numel() else 0
    return fitted.gather(-2, order[..., None].expand_as(fitted))[..., :most, :]


def _fit_flow(flow: torch.Tensor, size: tuple[int, int], scaled: tuple[int, int], window: Window) -> torch.Tensor:
    if scaled != size:
        scale = flow.new_tensor([scaled[1] / size[1], scaled[0] / size[0]])
        flow = _nearest(flow, scaled) * scale[:, None, None]
    return _cut(flow, window)


_FITTERS: dict[LabelledTask, Callable[[torch.Tensor, tuple[int, int], tuple[int, int], Window], torch.Tensor]] = {
    "segmentation": _fit_label_map,
    "detection": _fit_boxes,
    "optical_flow": _fit_flow,
    "classification": lambda labels, *_: labels,
}
