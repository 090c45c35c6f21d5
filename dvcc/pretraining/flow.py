"""Train `FlowNetwork`: exact flow where it is known, photometric consistency where it is not.

A batch mixes three kinds of pairs. Synthetic clips and collages of real frames under random affine motion come with
exact flow; pairs of real frames, from `warm_up` steps on, must look alike after warping wherever both directions agree.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from kornia.geometry import get_affine_matrix2d
from kornia.metrics import ssim
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dvcc._files import write_atomic
from dvcc.config import FlowConfig
from dvcc.datasets.splits import split_videos
from dvcc.datasets.synthetic import SyntheticClips
from dvcc.errors import ConfigError
from dvcc.media.clips import read_clip
from dvcc.networks.flow import FLOW_FILE, FlowNetwork, consistent, load_flow, warp
from dvcc.networks.weights import Weights, save_weights
from dvcc.training.run import check_finite
from dvcc.training.steps import seed_step

SYNTHETIC_SIZE, SYNTHETIC_FRAMES = (256, 352), 4  # room for a crop at scale 1.25; three pairs share the cost of a scene
RUN_FRAMES = 5  # consecutive real frames kept together: pairs at strides 1 to 4
LONG_SIDE = 640  # of real frames: a crop of 256 pixels then shows motion about as a 512x288 clip does
VALIDATION_SIZE, VALIDATION_STRIDE = (288, 512), 3
COLLAGES = 0.5  # share of the supervised pairs; the others are synthetic
LEVEL_WEIGHTS = (0.1, 0.1, 0.2, 0.3, 1.0)  # from 1/32 to 1/4, then full size; errors count in pixels of the picture
DOUBTED = 0.25  # weight of pixels where forward and backward flow disagree
EMA_DECAY = 0.998
LOGGED = ("step", "seconds", "loss", "robust_epe", "epe", "still_epe", "photometric", "roughness", "consistent")

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
    """The same random crop of some frames of a random run, float (len(frames), 3, *size)."""
    video = bank.runs[int(torch.randint(len(bank.runs), ()))]
    run = video[int(torch.randint(len(video), ()))][list(frames)] / 255
    view = random_view(1, size=size, source=(run.shape[-2], run.shape[-1])).expand(len(run), -1, -1)
    return _sample(run, _points(view, size))


def _move(first: Tensor, second: Tensor, flow: Tensor, motion: Tensor, *, view: Tensor, size: tuple[int, int]) -> Pairs:
    """The pair seen through `view`, with `motion` added to the second picture, and its exact flow.

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


def supervised_loss(levels: Sequence[Tensor], flow: Tensor) -> tuple[Tensor, Tensor]:
    """(robust end-point error summed over levels, plain mean end-point error in pixels), of everything, hidden or not."""
    total = flow.new_zeros(())
    for weight, level in zip(LEVEL_WEIGHTS, levels, strict=True):
        scale = flow.shape[-1] / level.shape[-1]
        target = F.adaptive_avg_pool2d(flow, (level.shape[-2], level.shape[-1]))
        squared = (scale * level.float() - target).square().sum(1)
        # A power below 1/2 leaves what cannot be matched to a minority of the gradient.
        total = total + weight * (squared + 0.01).pow(0.4).mean()
    return total, (levels[-1].float() - flow).square().sum(1).sqrt().mean()


def photometric_loss(first: Tensor, second: Tensor, weight: Tensor, *, flow: Tensor) -> tuple[Tensor, Tensor]:
    """(mean difference, SSIM and L1, of `first` from the warped `second` by `weight`, roughness of the flow off edges)."""
    warped = warp(second, flow)
    apart = 0.5 * (0.5 - 0.5 * ssim(first, warped, window_size=3)).clamp(0, 1) + 0.5 * ((first - warped).square() + 1e-6).sqrt()
    difference = (apart * weight).mean() / weight.mean()
    roughness = flow.new_zeros(())
    for axis in (-1, -2):
        edge = first.diff(dim=axis).abs().mean(1, keepdim=True)
        roughness = roughness + ((flow.diff(dim=axis).square() + 1e-4).sqrt() * torch.exp(-30 * edge)).mean()
    return difference, roughness


@torch.inference_mode()
def warp_gain(network: FlowNetwork, frames: Tensor, *, stride: int, max_pairs: int = 40) -> dict[str, float]:
    """Mean PSNR in dB of `frames` uint8 (T, 3, H, W) predicted from `stride` frames later, still and warped."""
    every = max(1, (len(frames) - stride) // max_pairs)
    errors = []
    for start in range(0, len(frames) - stride, every):
        first, second = frames[[start, start + stride]][:, None] / 255
        moved = warp(second, network(first, second))
        errors.append(torch.stack([(first - one).square().mean() for one in (second, moved)]))
    still, warped = (-10 * torch.stack(errors).clamp(min=1e-10).log10()).mean(0).tolist()
    return {"still_db": still, "warped_db": warped, "gain_db": warped - still, "pairs": len(errors)}


@torch.inference_mode()
def synthetic_error(network: FlowNetwork, bank: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Mean end-point error in pixels on synthetic clips, of the network and of no motion."""
    clips, flows = bank
    misses = torch.stack([network(clip[:-1], clip[1:]) for clip in clips / 255]) - flows
    own, none = (float(error.square().sum(2).sqrt().mean()) for error in (misses, flows.float()))
    return {"epe": own, "still_epe": none}


def run(config: FlowConfig) -> Path:
    """`train.py flow`: train on all videos of `data.root` but those of `data.test`; weights, log and figures in `out`.

    Raises `ConfigError` unless `data.validation` is one of `data.test`.
    """
    videos, held_out = split_videos(config.data.root, test=config.data.test)
    validation = [video for video in held_out if video.name == config.data.validation]
    if len(validation) != 1 or not videos:
        raise ConfigError(f"data.validation names one video of data.test ({config.data.test}); got {config.data.validation}")
    torch.manual_seed(config.seed)
    torch.set_flush_denormal(True)  # an untrained network is full of them, and they make convolutions slow
    out, start = Path(config.out), time.monotonic()
    runs = [read_runs(video, count=config.runs_per_video) for video in videos]
    bank = Bank(*synthetic_bank(config.synthetic_clips, seed=config.seed), runs)
    unseen = synthetic_bank(16, seed=config.seed + 1)
    probe = read_clip(validation[0], size=VALIDATION_SIZE).frames[::VALIDATION_STRIDE]
    print(f"{len(videos)} videos, {len(bank.clips)} synthetic clips after {time.monotonic() - start:.0f} s", flush=True)

    network = load_flow(config.start).requires_grad_(True).train() if config.start else FlowNetwork()
    network = network.to(memory_format=torch.channels_last)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.05)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.csv").open("w", newline="", buffering=1) as file:
        log = csv.DictWriter(file, LOGGED)
        log.writeheader()
        for step in range(config.steps):
            seed_step(config.seed, step)
            terms = train_step(network, bank, config, real=step >= config.warm_up)
            check_finite(terms["loss"], step=step, terms=terms)
            terms["loss"].backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            averaged.update_parameters(network)
            row = {key: float(term.detach()) for key, term in terms.items()}
            row |= {"step": step + 1, "seconds": time.monotonic() - start}
            log.writerow(row)
            if (step + 1) % config.report_every == 0 or step + 1 == config.steps:
                best = cast(FlowNetwork, averaged.module.eval())
                figures = row | synthetic_error(best, unseen) | warp_gain(best, probe, stride=1)
                print(" ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
                save_weights(out / FLOW_FILE, Weights("optical_flow", {}, dict(best.state_dict())))
                write_atomic(out / "optical_flow.json", json.dumps(figures, indent=1))
    return out / FLOW_FILE


def train_step(network: FlowNetwork, bank: Bank, config: FlowConfig, *, real: bool) -> dict[str, Tensor]:
    """The terms of one step's loss, and `loss`; real pairs, in both directions, take half of the batch."""
    size, batch = (config.size[0], config.size[1]), config.batch_size
    first, second, flow = supervised_pairs(bank, count=batch // 2 if real else batch, size=size)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        levels = network.levels(first, second)
    loss, epe = supervised_loss(levels, flow)
    terms = {"robust_epe": loss, "epe": epe, "still_epe": flow.square().sum(1).sqrt().mean()}
    photometric = roughness = agreeing = torch.zeros(())
    if real:
        one, other = real_pairs(bank, count=batch // 4, size=size)
        one, other = torch.cat([one, other]), torch.cat([other, one])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            levels = network.levels(one, other)
        forward, backward = levels[-1].detach().float().chunk(2)
        mask = torch.cat([consistent(forward, backward), consistent(backward, forward)]).float()
        # What does not come back is hidden, or a failure that only this can mend.
        for share, level in zip(LEVEL_WEIGHTS[1:], levels[1:], strict=True):
            pooled = (F.adaptive_avg_pool2d(x, (level.shape[-2], level.shape[-1])) for x in (one, other, mask.clamp(min=DOUBTED)))
            apart, rough = photometric_loss(*pooled, flow=level.float())
            photometric, roughness = photometric + share * apart, roughness + share * rough
        agreeing = mask.mean()
        loss = loss + config.photometric_weight * photometric + config.roughness_weight * roughness
    return terms | {"loss": loss, "photometric": photometric, "roughness": roughness, "consistent": agreeing}
