"""Pairs of pictures that `FlowNetwork` learns from: synthetic clips, collages with exact flow, and pairs of real frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from kornia.geometry import get_affine_matrix2d
from torch import Tensor

from dvcc.datasets.synthetic import SyntheticClips
from dvcc.media.clips import read_clip

SYNTHETIC_SIZE, SYNTHETIC_FRAMES = (256, 352), 4  # room for a crop at scale 1.25; three pairs share the cost of a scene
RUN_FRAMES = 5  # consecutive real frames kept together: pairs at strides 1 to 4
LONG_SIDE = 640  # of real frames: a crop of 256 pixels then shows motion about as a 512x288 clip does
COLLAGES = 0.5  # share of the supervised pairs; the others are synthetic

Pairs = tuple[Tensor, Tensor, Tensor]
"""First and second pictures, float RGB in 0..1 (N, 3, H, W), and the exact flow (N, 2, H, W) in pixels between them."""


@dataclass(frozen=True, eq=False)
class Bank:
    """All sources in memory.

    clips: uint8 (n, T, 3, H, W). flows: float16 (n, T-1, 2, H, W). runs: per video, uint8 (n, RUN_FRAMES, 3, H, W).
    """

    clips: Tensor
    flows: Tensor
    runs: list[Tensor]


def synthetic_bank(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """`count` clips uint8 (n, T, 3, H, W) and their flows float16 (n, T-1, 2, H, W)."""
    source = SyntheticClips(num_clips=count, frames=SYNTHETIC_FRAMES, size=SYNTHETIC_SIZE, seed=seed)
    samples = [(sample.rgb, sample.flow.half()) for sample in (source[index] for index in range(count))]
    return torch.stack([rgb for rgb, _ in samples]), torch.stack([flow for _, flow in samples])


def read_runs(video: Path, *, count: int) -> Tensor:
    """At most `count` evenly spread runs of consecutive frames, uint8 (n, RUN_FRAMES, 3, H, W)."""
    first = read_clip(video, frames=1)
    scale = min(1.0, LONG_SIDE / max(first.height, first.width))
    frames = read_clip(video, size=(2 * round(first.height * scale / 2), 2 * round(first.width * scale / 2))).frames
    every = max(RUN_FRAMES, -(-len(frames) // count))
    return torch.stack([frames[start : start + RUN_FRAMES] for start in range(0, len(frames) - RUN_FRAMES + 1, every)])


def supervised_pairs(bank: Bank, *, count: int, size: tuple[int, int]) -> Pairs:
    """Pairs with exact flow: collages of real frames, then synthetic pairs moved once more by a random affine motion."""
    collages = round(COLLAGES * count)
    frames, others = (torch.cat([_real_view(bank, size=size)[:1] for _ in range(collages)]) for _ in range(2))
    still, whole = frames.new_zeros(collages, 2, *size), torch.eye(3).expand(collages, 3, 3)
    first, second, flow = _move(frames, frames, still, random_motion(collages, size=size), view=whole, size=size)
    # Random blobs, textured by another frame, that move in front on their own.
    blobs = F.interpolate(torch.randn(collages, 1, 4, 5), size=size, mode="bicubic")
    alpha = ((blobs - 0.35) * 60).clamp(0, 1)
    layer = torch.cat([others, alpha], 1)
    front, front_second, front_flow = _move(layer, layer, still, random_motion(collages, size=size), view=whole, size=size)
    first, second = first.lerp(front[:, :3], front[:, 3:]), second.lerp(front_second[:, :3], front_second[:, 3:])
    collage = first, second, torch.where(front[:, 3:] > 0.5, front_flow, flow)
    synthetic = _synthetic_pairs(bank, count=count - collages, size=size)
    first, second, flow = map(torch.cat, zip(collage, synthetic, strict=True))
    return *_recolour(first, second), flow


def real_pairs(bank: Bank, *, count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pairs of real frames 1 to 4 apart, in either order, float in 0..1 (count, 3, *size) each."""
    pairs = [_real_view(bank, size=size, frames=torch.randperm(RUN_FRAMES)[:2].tolist()) for _ in range(count)]
    return _recolour(*torch.stack(pairs, 1).unbind())


def _synthetic_pairs(bank: Bank, *, count: int, size: tuple[int, int]) -> Pairs:
    clip = torch.randint(len(bank.clips), (count,))
    time_step = torch.randint(bank.flows.shape[1], (count,))
    first, second = bank.clips[clip, time_step] / 255, bank.clips[clip, time_step + 1] / 255
    motion = torch.where(torch.rand(count, 1, 1) < 0.5, torch.eye(3), random_motion(count, size=size))
    view = random_view(count, size=size, source=SYNTHETIC_SIZE)
    return _move(first, second, bank.flows[clip, time_step].float(), motion, view=view, size=size)


def _real_view(bank: Bank, *, size: tuple[int, int], frames: Sequence[int] = (0,)) -> Tensor:
    """Return the same random crop of some frames of a random run, float (len(frames), 3, *size)."""
    video = bank.runs[int(torch.randint(len(bank.runs), ()))]
    run = video[int(torch.randint(len(video), ()))][list(frames)] / 255
    view = random_view(1, size=size, source=(run.shape[-2], run.shape[-1])).expand(len(run), -1, -1)
    return _sample(run, _points(view, size))


def _move(first: Tensor, second: Tensor, flow: Tensor, motion: Tensor, *, view: Tensor, size: tuple[int, int]) -> Pairs:
    """Return the pair seen through `view`, with `motion` added to the second picture, and its exact flow.

    view (N, 3, 3) takes pixels of the result to pixels of the source; motion (N, 3, 3) pixels of the first result to
    those of the second.
    """
    start = _points(view, size)
    seen = _sample(torch.cat([first, flow], 1), start)
    there = _carry(motion @ view.inverse(), start + seen[:, -2:])
    return seen[:, :-2], _sample(second, _points(view @ motion.inverse(), size)), there - _points(torch.eye(3)[None], size)


def random_view(count: int, *, size: tuple[int, int], source: tuple[int, int]) -> Tensor:
    """Affine matrices (count, 3, 3) from pixels of a crop to those of the source: place, scale, turn, flips."""
    scale = min(1.25, source[0] / size[0], source[1] / size[1]) * torch.exp(torch.rand(count) * math.log(0.5))
    turn = 6 * torch.randn(count) * (torch.rand(count) < 0.5)
    flips = 1 - 2.0 * (torch.rand(count, 2) < torch.tensor([0.5, 0.1]))
    half = scale[:, None] * torch.tensor([size[1] - 1, size[0] - 1]) / 2
    whole, middle = (torch.tensor([width - 1, height - 1]) for height, width in (source, size))
    centre = half + torch.rand(count, 2) * (whole - 2 * half).clamp(min=0)
    return get_affine_matrix2d(centre - middle / 2, (middle / 2).expand(count, 2), scale[:, None] * flips, turn)


def random_motion(count: int, *, size: tuple[int, int], reach: float = 32.0) -> Tensor:
    """Affine matrices (count, 3, 3) from the first picture's pixels to the second's: up to `reach` pixels, mostly few."""
    angle, length = 2 * math.pi * torch.rand(count), reach * torch.rand(count) ** 2.5
    # Images move sideways more than up and down.
    shift = length[:, None] * torch.stack([angle.cos(), 0.6 * angle.sin()], 1)
    strength = torch.rand(count) ** 2
    zoom = 1 + 0.12 * strength[:, None] * (torch.randn(count, 1).clamp(-2, 2) + 0.5 * torch.randn(count, 2).clamp(-2, 2))
    middle = torch.tensor([size[1] - 1, size[0] - 1]).expand(count, 2) / 2
    return get_affine_matrix2d(shift, middle, zoom, 5 * strength * torch.randn(count))


def _points(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Where affine matrices (N, 3, 3) take the pixels of a picture: (N, 2, H, W), x then y."""
    y, x = torch.meshgrid(torch.arange(size[0]).float(), torch.arange(size[1]).float(), indexing="ij")
    return _carry(matrices, torch.stack([x, y])[None].expand(len(matrices), -1, -1, -1))


def _carry(matrices: Tensor, points: Tensor) -> Tensor:
    return (matrices[:, :2, :2] @ points.flatten(2) + matrices[:, :2, 2:]).view_as(points)


def _sample(pictures: Tensor, points: Tensor) -> Tensor:
    """Bilinear, mirrored outside, so that a picture moved by a matrix stays one surface beyond its border."""
    sides = torch.tensor([pictures.shape[-1] - 1, pictures.shape[-2] - 1]).view(1, 2, 1, 1)
    grid = (2 * points / sides - 1).movedim(1, -1)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=True)


def _recolour(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast, brightness and tint of a pair, a little of it for the second picture alone, and noise."""
    count = len(first)
    gain = torch.exp(0.25 * torch.randn(count, 1, 1, 1) + 0.08 * torch.randn(count, 3, 1, 1))
    shift = 0.1 * torch.randn(count, 1, 1, 1)
    other = torch.exp(0.03 * torch.randn(count, 3, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.5))
    noise = 0.06 * torch.rand(count, 1, 1, 1) ** 2

    def change(pictures: Tensor, gain: Tensor) -> Tensor:
        return ((pictures - 0.5) * gain + 0.5 + shift + noise * (torch.rand_like(pictures) - 0.5)).clamp(0, 1)

    return change(first, gain), change(second, gain * other)
