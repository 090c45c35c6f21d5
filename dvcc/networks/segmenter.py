"""What every segmentation network answers, and how answers of other forms become logits."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.exported import as_list, asked, prepared
from dvcc.networks.feed import IMAGENET_MEAN, IMAGENET_STD, Feed, NetworkOptions, canvas_size
from dvcc.networks.onnx_file import OnnxFile, shape_words
from dvcc.networks.onnx_torch import OnnxModule

FEED = Feed(mean=IMAGENET_MEAN, deviation=IMAGENET_STD, padding=0.0)
"""As ImageNet's pictures: what nearly every segmentation network is trained with."""

_SURE = 60.0  # a logit over others of 0 that makes a probability of 1, as far as float32 can tell
_LEAST = 1e-12  # probability, whose logarithm is taken
_MOST_LABELS = 32  # classes of a network that answers labels alone, unless it is said
_ROUNDING = 1e-3

Kind = Literal["logits", "probabilities", "labels"]


class Form(NamedTuple):
    """What answers to two pictures are.

    output: which of them counts. channels: the axis of the classes, None for labels. single: whether there is one channel, for
    the second of two classes.
    """

    output: int
    kind: Kind
    channels: int | None
    num_classes: int
    single: bool = False


class SegmentationNet(nn.Module):
    """A network from RGB 0..1 (N, 3, H, W) of any size to logits (N, num_classes, H, W).

    net: from canvases to answers of the `form`; None: to logits (N, num_classes, h, w). multiple: what the network itself needs
    the sides to be multiples of; other pictures are scaled up, and their logits back. fixed: sides that the network is bound to,
    0 for an open one.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        num_classes: int,
        form: Form | None = None,
        multiple: int = 1,
        feed: Feed = FEED,
        options: NetworkOptions = NetworkOptions(),  # noqa: B008 (frozen)
        fixed: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.net, self.num_classes, self._multiple, self._fixed = net, num_classes, multiple, fixed
        self._form = form or Form(0, "logits", 1, num_classes)
        self._feed, self._options = feed, options

    @property
    def words(self) -> str:
        """For a report."""
        form = self._form.kind if self._form.channels in (None, 1) else f"{self._form.kind} with the classes last"
        form += " of one class and the rest, in one channel" if self._form.single else ""
        size = self._fixed if all(self._fixed) else self._options.size
        return f"{form}, {self._feed.words()}, at {f'{size[0]}x{size[1]}' if size else 'the pictures' + chr(39) + ' size'}"

    differentiable = True
    """Whether a gradient passes through the network."""

    def check_trainable(self) -> None:
        """Raise `ConfigError` for a network that answers labels, or through which no gradient passes."""
        if self._form.kind == "labels":
            raise ConfigError(
                "the network answers labels (arg-max), so it can be measured but not trained for: export it with its logits"
            )
        if not self.differentiable:
            raise ConfigError(
                f"no gradient passes through {type(self.net).__name__}, so it can be measured but not trained for: take no_grad, "
                "detach and rounding out of its forward"
            )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of the pictures' size."""
        size = images.shape[-2], images.shape[-1]
        canvas = canvas_size(self._fixed, size, self._options, multiple=self._multiple)
        placement = self._feed.placement(size, canvas, scale=bool(any(self._fixed) or self._options.size))
        answer = as_list(self.net(self._feed.place(images, canvas, placement, torch)))[self._form.output]
        if self._form.kind == "labels":
            answer = _one_hot(answer, self.num_classes)
        elif self._form.channels == 3:
            answer = answer.permute(0, 3, 1, 2)
        if self._form.single:
            rest = torch.zeros_like(answer) if self._form.kind == "logits" else 1 - answer
            answer = torch.cat([rest, answer], 1)
        mode = "nearest" if self._form.kind == "labels" else "bilinear"
        if (placement.height, placement.width) != canvas:  # a letterbox: without its bars
            answer = _resize(answer, canvas, mode)
            below, right = placement.top + placement.height, placement.left + placement.width
            answer = answer[..., placement.top : below, placement.left : right]
        answer = _resize(answer, size, mode)
        return answer.clamp(min=_LEAST).log() if self._form.kind == "probabilities" else answer


def onnx_segmenter(file: OnnxFile, *, options: NetworkOptions) -> SegmentationNet:
    """Return the network of an ONNX file that answers logits, probabilities or labels on any grid, the classes first or last.

    Raises `CheckpointError` for other answers.
    """
    from dvcc.networks.onnx_file import PROBE, probe_pictures

    feed = file.feed(FEED).changed(options)
    canvas = file.canvas(PROBE, options, multiple=1)
    canvases = feed.place(probe_pictures(canvas), canvas, feed.placement(canvas, canvas), np)
    file.lone = file.one_by_one
    form = form_of(file.probe(canvases), canvas, options, what=str(file.path))
    net = OnnxModule(file, canvases=canvases, read=lambda answers, _: answers[form.output])
    return SegmentationNet(net, num_classes=form.num_classes, form=form, feed=feed, options=options, fixed=file.fixed)


def own_segmenter(net: nn.Module, *, options: NetworkOptions) -> SegmentationNet:
    """Return the network of a user's module, which may give a tensor, a tuple or a dict of them; the first map counts.

    Raises `CheckpointError` for answers that are no map of classes.
    """
    from dvcc.networks.onnx_file import PROBE, probe_pictures

    feed = FEED.changed(options)
    canvas = canvas_size((0, 0), PROBE, options, multiple=1)
    net = prepared(net)
    pictures = torch.from_numpy(feed.place(probe_pictures(canvas), canvas, feed.placement(canvas, canvas), np))
    answers = asked(net, pictures.requires_grad_())
    values = [(value.float() if value.is_floating_point() else value).detach().numpy() for value in answers]
    form = form_of(values, canvas, options, what=type(net).__name__)
    segmenter = SegmentationNet(net, num_classes=form.num_classes, form=form, feed=feed, options=options)
    segmenter.differentiable = answers[form.output].requires_grad
    return segmenter


def form_of(answers: list[np.ndarray], canvas: tuple[int, int], options: NetworkOptions, *, what: str) -> Form:
    """Return what answers to two pictures are.

    The first that is a map of two classes or more, else the first that is one of labels, else the first of one channel, which is
    a class against the rest.

    Raises `ConfigError` for maps of different numbers of classes (features beside logits) unless `options.classes` is one of
    them, `CheckpointError` where there is no map.
    """
    from dvcc.networks.detectors.fastestdet import is_fastestdet

    given = " and ".join(shape_words(value.shape[1:]) for value in answers)
    needed = "segmentation needs logits, probabilities or labels, [classes, h, w] or [h, w, classes]"
    words = f"{what} gives {given} for a picture of {canvas[0]}x{canvas[1]}"
    labels: list[Form] = []
    maps: list[Form] = []
    single: list[Form] = []
    for output, value in enumerate(answers):
        if (whole := _labels(value)) is not None and _like(whole.shape[1:], canvas):
            classes = options.classes or (2 if value.dtype.kind == "b" else _MOST_LABELS)
            if int(whole.max()) >= classes:
                raise ConfigError(f"{words}, with labels up to {int(whole.max())}: set task.classes to how many there are")
            labels.append(Form(output, "labels", None, classes))
            continue
        if value.ndim != 4 or value.dtype.kind != "f":
            continue
        for axis in (1, 3):
            grid = value.shape[2:] if axis == 1 else value.shape[1:3]
            if not _like(grid, canvas):
                continue
            if value.shape[axis] == 1:
                kind: Kind = "probabilities" if value.min() >= -_ROUNDING and value.max() <= 1 + _ROUNDING else "logits"
                single.append(Form(output, kind, axis, 2, single=True))
                break
            if axis == 1 and value.shape[1] > 6 and is_fastestdet(value):
                raise CheckpointError(
                    f"{words}: that is FastestDet's layout, boxes and probabilities, and {needed}: choose task=detection"
                )
            sums = value.sum(axis)
            probable = value.min() >= -_ROUNDING and bool((abs(sums - 1) < _ROUNDING * 10).all())
            maps.append(Form(output, "probabilities" if probable else "logits", axis, value.shape[axis]))
            break
    counts = sorted({form.num_classes for form in maps})
    if len(counts) > 1:
        maps = [form for form in maps if form.num_classes == options.classes]
        if not maps:
            raise ConfigError(f"{words}: set task.classes to how many classes there are, {' or '.join(map(str, counts))}")
    if not maps and not labels and not single:
        raise CheckpointError(f"{words}, but {needed}")
    return (maps or labels or single)[0]


def _labels(value: np.ndarray) -> np.ndarray | None:
    """(N, h, w) class numbers, where the answer can be nothing else."""
    if value.ndim == 4 and 1 in (value.shape[1], value.shape[3]):
        value = value[:, 0] if value.shape[1] == 1 else value[..., 0]
    if value.ndim != 3:
        return None
    if value.dtype.kind in "biu":
        return value
    # One channel of a network with a sigmoid has no whole numbers beyond 0 and 1.
    return value if value.max() >= 2 and value.min() >= 0 and bool((value == np.rint(value)).all()) else None


def _like(grid: tuple[int, ...], canvas: tuple[int, int]) -> bool:
    """Whether a grid has the shape of a canvas at any scale, but for rounding."""
    down, across = (side / cells for side, cells in zip(canvas, grid, strict=True))
    return max(abs(grid[0] - canvas[0] / across), abs(grid[1] - canvas[1] / down)) <= 1.5


def _one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """(N, K, h, w) logits, sure of labels (N, h, w), (N, 1, h, w) or (N, h, w, 1)."""
    labels = labels.squeeze(1) if labels.ndim == 4 and labels.shape[1] == 1 else labels
    labels = (labels.squeeze(-1) if labels.ndim == 4 else labels).long()
    if (most := int(labels.max())) >= num_classes:
        raise ConfigError(f"the network answers label {most}, and {num_classes} classes were taken for granted: set task.classes")
    return F.one_hot(labels, num_classes).permute(0, 3, 1, 2) * _SURE


def _resize(x: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size, mode=mode, align_corners=None if mode == "nearest" else False)
