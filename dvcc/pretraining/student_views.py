"""Training pictures of the student: augmented views of real videos, labelled by the teacher as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from dvcc.clip import Clip
from dvcc.codecs import CQP, JPEG, X264, Quality
from dvcc.media.clips import read_clip
from dvcc.pretraining.distillation import Distillation

VIEW_SIZES = ((288, 512), (256, 448), (224, 512), (224, 384))
"""Height and width of the views: what the codec experiments use, and smaller ones that train faster."""

RUN_FRAMES = 4
"""Consecutive frames kept together, so that a coded view may be an I or a P frame."""

SOURCE_HEIGHT = 432
"""Frames are kept at most this high in memory; a view zooms into them."""

PASTED_SHARE = 0.2
QP_RANGE = (20, 44)
QUALITY_RANGE = (5, 90)


@dataclass(frozen=True)
class Coding:
    """Views that are really coded.

    share: of all views, 0..1. codecs: what codes them, "x264" at a random QP or "jpeg" at a random quality, each equally often.
    robust: the teacher is asked about the view as it was before it was coded, so that the student learns to look past coding
    instead of reacting to it as the teacher does.
    """

    share: float = 1 / 3
    codecs: tuple[str, ...] = ("x264",)
    robust: bool = False


AS_THE_TEACHER = Coding()
"""A third of the views, coded by x264, and the teacher's reaction to them."""


class View(NamedTuple):
    """What the student sees, and what the teacher is asked about: uint8 RGB (3, H, W) each."""

    shown: Tensor
    asked: Tensor


def read_frames(video: Path, *, height: int | None = None, width: int | None = None) -> Tensor:
    """All frames, uint8 RGB (T, 3, H, W); without a size, at most `SOURCE_HEIGHT` high."""
    if height is None or width is None:
        first = read_clip(video, frames=1)
        scale = min(1.0, SOURCE_HEIGHT / first.height)
        height, width = (2 * round(side * scale / 2) for side in (first.height, first.width))
    return read_clip(video, size=(height, width)).frames


def read_runs(video: Path, *, count: int) -> list[Tensor]:
    """At most `count` evenly spread runs of consecutive frames, each uint8 (RUN_FRAMES, 3, H, W)."""
    frames = read_frames(video)
    every = max(RUN_FRAMES, -(-len(frames) // count))
    return [frames[start : start + RUN_FRAMES].clone() for start in range(0, len(frames) - RUN_FRAMES + 1, every)]


def recode(frames: Tensor, *, qp: int) -> Tensor:
    """Really code uint8 RGB frames (T, 3, H, W) at constant `qp`."""
    return X264(preset="veryfast", bframes=0).encode(Clip.from_rgb(frames, 25), CQP(qp)).frames


def recode_jpeg(frames: Tensor, *, quality: int) -> Tensor:
    """Really code uint8 RGB frames (T, 3, H, W) as JPEG of a quality of 1..99, in 4:2:0."""
    return JPEG().encode(Clip.from_rgb(frames, 25), Quality(quality)).frames


def subsample_chroma(frames: Tensor) -> Tensor:
    """uint8 RGB (T, 3, H, W) to 4:2:0 and back, which alone moves a segmentation network's labels."""
    return Clip.from_rgb(frames, 25).frames


def render_view(
    runs: list[list[Tensor]],
    *,
    chances: Tensor,
    size: tuple[int, int],
    mosaic_share: float = 0.0,
    coding: Coding = AS_THE_TEACHER,
) -> View:
    """One augmented picture, uint8 RGB (3, *size): a random run of a video drawn by `chances`.

    The share of `coding` is coded for real, half of the rest goes through 4:2:0, a fifth carries a piece of another view, and
    `mosaic_share` shows four views, each in a corner.
    """
    # From plain pictures, which are what is to be imitated, to odd ones, which make few videos go further.
    strength = float(torch.rand(()))
    coded = bool(torch.rand(()) < coding.share)
    codec = coding.codecs[_randint(len(coding.codecs)) if len(coding.codecs) > 1 else 0]
    frames = RUN_FRAMES if coded and codec == "x264" else 1
    jitter = v2.ColorJitter(*(strength * limit for limit in (0.4, 0.4, 0.4, 0.05)))

    def random_clip(height: int = size[0], width: int = size[1]) -> Tensor:
        video = runs[int(torch.multinomial(chances, 1))]
        augment = v2.Compose(
            [
                v2.RandomResizedCrop((height, width), scale=(1 - 0.85 * strength, 1.0), ratio=(1.2, 2.8), antialias=True),
                v2.RandomHorizontalFlip(),
                jitter,
                v2.RandomGrayscale(p=0.05 * strength),
                v2.RandomApply([v2.GaussianBlur(11, sigma=(0.5, 3.0))], p=0.2 * strength),
            ]
        )
        # A clone, because augment may return a view (of the source, or of one grey channel).
        return augment(video[_randint(len(video))][:frames]).clone(memory_format=torch.contiguous_format)

    def mosaic() -> Tensor:
        top, left = (side // 4 + _randint(side // 2) for side in size)
        rows = [
            torch.cat([random_clip(height, width) for width in (left, size[1] - left)], -1) for height in (top, size[0] - top)
        ]
        return torch.cat(rows, -2)

    clip = mosaic() if torch.rand(()) < mosaic_share else random_clip()
    if torch.rand(()) < 2 * PASTED_SHARE * strength:
        height, width = size[0] // 4 + _randint(size[0] // 2), size[1] // 4 + _randint(size[1] // 2)
        top, left = _randint(size[0] - height), _randint(size[1] - width)
        box = (..., slice(top, top + height), slice(left, left + width))
        clip[box] = random_clip()[box]
    if coded:
        after = recode(clip, qp=_within(QP_RANGE)) if codec == "x264" else recode_jpeg(clip, quality=_within(QUALITY_RANGE))
        place = _randint(frames) if frames > 1 else 0
        return View(after[place], (clip if coding.robust else after)[place])
    view = (subsample_chroma(clip) if torch.rand(()) < 0.5 else clip)[0]
    return View(view, view)


class LabelledViews(Dataset[tuple[Tensor, Tensor]]):
    """Views with the teacher's answers, all in memory: (uint8 (3, H, W), float16).

    Nothing but `robust` coding changes a view after labelling: on street pictures ESPNetv2 agrees with its own mirror image on
    only 88 % of the pixels, so mirrored answers would teach something else. `groups` are indices of equally large views.
    """

    def __init__(
        self,
        distillation: Distillation,
        runs: list[list[Tensor]],
        *,
        chances: Tensor,
        count: int,
        coding: Coding = AS_THE_TEACHER,
    ) -> None:
        self.images: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.groups: list[list[int]] = []
        batch_size, start, share = 8, time.monotonic(), distillation.mosaic_share
        for size in VIEW_SIZES:
            first = len(self.images)
            while len(self.images) - first < count // len(VIEW_SIZES):
                views = [
                    render_view(runs, chances=chances, size=size, mosaic_share=share, coding=coding) for _ in range(batch_size)
                ]
                with torch.inference_mode():
                    labels = distillation.label(torch.stack([view.asked for view in views]))
                self.images += [view.shown for view in views]
                # Copies, because inference tensors cannot be collated for training.
                self.labels += [torch.from_numpy(array) for array in labels.numpy()]
                if len(self.images) % 400 == 0:
                    seconds = time.monotonic() - start
                    print(f"labelled {len(self.images)} of {count} views, {seconds:.0f} s", flush=True)
            self.groups.append(list(range(first, len(self.images))))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]


class EqualSizeBatches(Sampler[list[int]]):
    """Endless shuffled batches, each from one group of indices."""

    def __init__(self, groups: list[list[int]], *, batch_size: int) -> None:
        self.groups = groups
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            batches = []
            for group in self.groups:
                order = torch.tensor(group)[torch.randperm(len(group))].split(self.batch_size)
                batches += [batch.tolist() for batch in order if len(batch) == self.batch_size]
            for index in torch.randperm(len(batches)).tolist():
                yield batches[index]


def _randint(limit: int) -> int:
    return int(torch.randint(limit, ()))


def _within(bounds: tuple[int, int]) -> int:
    """Return a random number, both bounds included."""
    return bounds[0] + _randint(bounds[1] - bounds[0] + 1)
