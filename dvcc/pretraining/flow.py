"""Train `FlowNetwork`: exact flow where it is known, photometric consistency where it is not.

A batch mixes three kinds of pairs. Synthetic clips and collages of real frames under random affine motion come with
exact flow; pairs of real frames, from `warm_up` steps on, must look alike after warping wherever both directions agree.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from kornia.metrics import ssim
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dvcc._files import append_text, write_atomic
from dvcc.config import FlowConfig
from dvcc.datasets.splits import split_videos
from dvcc.errors import ConfigError
from dvcc.media.clips import read_clip
from dvcc.networks.flow import FLOW_FILE, FlowNetwork, consistent, load_flow, warp
from dvcc.networks.weights import Weights, save_weights
from dvcc.pretraining.flow_pairs import Bank, read_runs, real_pairs, supervised_pairs, synthetic_bank
from dvcc.training.run import check_finite
from dvcc.training.steps import seed_step

VALIDATION_SIZE, VALIDATION_STRIDE = (288, 512), 3
LEVEL_WEIGHTS = (0.1, 0.1, 0.2, 0.3, 1.0)  # from 1/32 to 1/4, then full size; errors count in pixels of the picture
DOUBTED = 0.25  # weight of pixels where forward and backward flow disagree
EMA_DECAY = 0.998
LOGGED = ("step", "seconds", "loss", "robust_epe", "epe", "still_epe", "photometric", "roughness", "consistent")


def supervised_loss(levels: Sequence[Tensor], flow: Tensor) -> tuple[Tensor, Tensor]:
    """(robust end-point error summed over levels, plain mean end-point error in pixels), of everything, hidden or not."""
    total = flow.new_zeros(())
    for weight, estimate in zip(LEVEL_WEIGHTS, levels, strict=True):
        scale = flow.shape[-1] / estimate.shape[-1]
        target = F.adaptive_avg_pool2d(flow, (estimate.shape[-2], estimate.shape[-1]))
        squared = (scale * estimate.float() - target).square().sum(1)
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
        errors.append(torch.stack([(first - picture).square().mean() for picture in (second, moved)]))
    still, warped = (-10 * torch.stack(errors).clamp(min=1e-10).log10()).mean(0).tolist()
    return {"still_db": still, "warped_db": warped, "gain_db": warped - still, "pairs": len(errors)}


@torch.inference_mode()
def synthetic_error(network: FlowNetwork, bank: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Mean end-point error in pixels on synthetic clips, of the network and of no motion."""
    clips, flows = bank
    misses = torch.stack([network(clip[:-1], clip[1:]) for clip in clips / 255]) - flows
    estimated, unmoved = (float(error.square().sum(2).sqrt().mean()) for error in (misses, flows.float()))
    return {"epe": estimated, "still_epe": unmoved}


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
    log = out / "log.csv"
    write_atomic(log, _csv(LOGGED))
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
        append_text(log, _csv(row[name] for name in LOGGED))
        if (step + 1) % config.report_every == 0 or step + 1 == config.steps:
            best = cast(FlowNetwork, averaged.module.eval())
            figures = row | synthetic_error(best, unseen) | warp_gain(best, probe, stride=1)
            print(" ".join(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
            save_weights(out / FLOW_FILE, Weights("optical_flow", {}, dict(best.state_dict())))
            write_atomic(out / "optical_flow.json", json.dumps(figures, indent=1))
    return out / FLOW_FILE


def _csv(cells: Iterable[object]) -> str:
    return ",".join(map(str, cells)) + "\n"


def train_step(network: FlowNetwork, bank: Bank, config: FlowConfig, *, real: bool) -> dict[str, Tensor]:
    """Return the terms of one step's loss, and `loss`; real pairs, in both directions, take half of the batch."""
    size, batch = (config.size[0], config.size[1]), config.batch_size
    first, second, flow = supervised_pairs(bank, count=batch // 2 if real else batch, size=size)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        levels = network.levels(first, second)
    loss, epe = supervised_loss(levels, flow)
    terms = {"robust_epe": loss, "epe": epe, "still_epe": flow.square().sum(1).sqrt().mean()}
    photometric = roughness = agreeing = torch.zeros(())
    if real:
        first, second = real_pairs(bank, count=batch // 4, size=size)
        first, second = torch.cat([first, second]), torch.cat([second, first])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            levels = network.levels(first, second)
        forward, backward = levels[-1].detach().float().chunk(2)
        mask = torch.cat([consistent(forward, backward), consistent(backward, forward)]).float()
        # What does not come back is hidden, or a failure that only this can correct.
        for share, estimate in zip(LEVEL_WEIGHTS[1:], levels[1:], strict=True):
            size_here = (estimate.shape[-2], estimate.shape[-1])
            pooled = (F.adaptive_avg_pool2d(x, size_here) for x in (first, second, mask.clamp(min=DOUBTED)))
            apart, rough = photometric_loss(*pooled, flow=estimate.float())
            photometric, roughness = photometric + share * apart, roughness + share * rough
        agreeing = mask.mean()
        loss = loss + config.photometric_weight * photometric + config.roughness_weight * roughness
    return terms | {"loss": loss, "photometric": photometric, "roughness": roughness, "consistent": agreeing}
