"""The control network: frames and a target rate in, a QP offset for every macroblock out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, reduce
from kornia.filters import gaussian_blur2d
from torch import nn
from torch.nn import functional as F

from dvcc.errors import ConfigError
from dvcc.networks.stored import taken_from
from dvcc.networks.weights import Weights, load_state, load_weights, save_weights
from dvcc.pixels import as_float
from dvcc.qp import MAX_QP
from dvcc.units import MACROBLOCK

_PATCH = MACROBLOCK // 4  # of the reduced frames, per macroblock
_DILATIONS = (1, 2, 4)  # a macroblock sees eight to every side
CONTEXTS = (1, 3, 7)  # macroblocks to a side of the squares whose means a network without a picture takes


class RatePrior(nn.Module):
    """The QP of the flat map that meets a target: linear in log bits per pixel and in the clip's log activities.

    Fitted in closed form on the ladders of the training clips.
    """

    coefficients: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.tensor([26.0, 0.0, 0.0, 0.0, 0.0]))

    def forward(self, small: torch.Tensor, log_bpp: torch.Tensor) -> torch.Tensor:
        """(B,): QP, not rounded, for `reduced` frames (B, T, 3, H/4, W/4) and log bits per pixel (B,)."""
        return (_prior_features(log_activity(small), log_bpp) @ self.coefficients).clamp(0, MAX_QP)

    @torch.no_grad()
    def fit(self, clips: Sequence[torch.Tensor], log_bpp: torch.Tensor, qps: torch.Tensor) -> float:
        """Least squares over N clips (T, 3, H, W) at R rungs: log_bpp (N, R), qps (R,). Returns the RMS error in QPs.

        Raises `ConfigError` for fewer pairs than coefficients.
        """
        activity = torch.cat([log_activity(reduced(clip[None])) for clip in clips])
        pairs = [_prior_features(activity, rung) for rung in log_bpp.T]
        features, qp = torch.cat(pairs).double(), qps.double().repeat_interleave(len(clips))
        if len(features) < features.shape[1]:
            raise ConfigError(f"the rate prior needs at least {features.shape[1]} coded clips, got {len(features)}: add data")
        ridge = 1e-3 * torch.eye(features.shape[1], dtype=torch.float64)
        solution = torch.linalg.solve(features.T @ features + ridge, features.T @ qp)
        self.coefficients.copy_(solution)
        return float((features @ solution - qp).square().mean().sqrt())


def reduced(frames: torch.Tensor) -> torch.Tensor:
    """Return frames (B, T, 3, H, W) reduced to float 0..1 (B, T, 3, H/4, W/4), rounded up.

    The mean of two pixels of every 4x4 stands for it: to touch them all would cost more than the network.
    """
    first = as_float(frames[..., ::4, ::4])
    second = as_float(frames[..., 2::4, 2::4])
    missing = (0, first.shape[-1] - second.shape[-1], 0, first.shape[-2] - second.shape[-2])
    second = F.pad(second.flatten(0, 1), missing, mode="replicate").unflatten(0, frames.shape[:2])
    return (first + second) / 2


def log_activity(small: torch.Tensor) -> torch.Tensor:
    """(B, 2): log of the mean absolute luma gradient in space, and in time, of `reduced` frames (B, T, 3, H/4, W/4)."""
    luma = reduce(small, "b t c h w -> b t h w", "mean")
    differences = [luma.diff(dim=dim).abs().flatten(1) for dim in (1, 2, 3)]
    in_time, down, across = (d.mean(1) if d.shape[1] else luma.new_zeros(len(luma)) for d in differences)
    return torch.stack([down + across, in_time], 1).add(1e-3).log()


def _prior_features(activity: torch.Tensor, log_bpp: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.stack([torch.ones_like(log_bpp), log_bpp, log_bpp.square()], 1), activity], 1)


class ControlNetwork(nn.Module):
    """Decides offsets of at most `max_delta_qp` QPs from those that x264's own rate control chooses.

    Offsets are 0 on average in every frame, and the mean over the frames of the GOP so far unless `averaged` is false: they say
    where to spend, and x264 decides when. Causal: a frame's offsets depend on it, on earlier frames of its GOP and on the frame
    before these, apart from the prior, which sees the clip as a first pass does. One network serves the whole range of targets:
    log bits per pixel modulate its features.

    width: channels; 0: it does not look at the picture, and decides by a weighted sum of the extra planes and of their means over
    3x3 and 7x7 macroblocks: few numbers, which few scenes can teach. gop: frames per GOP; the position in it is an input.
    blur_sigma: standard deviation, in macroblocks, of the Gaussian that smooths the offsets: what a macroblock's quality does to
    a task depends on its neighbours', and QPs that change from one to the next have to be signalled; 0 is none. extra_planes:
    numbers per macroblock that it is given besides the picture. eyes: `Eyes.settings` of what sees them; None: whoever calls it
    gives them. rates: least and most bits per pixel that it was trained at: it is told no others. rule: numbers of the plain rule
    whose offsets its own are added to; None: they stand alone. averaged: whether offsets are the mean over the GOP so far, or
    each frame's own. analysis: where the last of the extra planes are those of an analysis encode (`control.analysis`),
    `Eyes.settings` of the network that reads it, or {} where the task does; None: they are not.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        gop: int = 8,
        max_delta_qp: float = 12.0,
        blur_sigma: float = 1.5,
        extra_planes: int = 0,
        eyes: Mapping[str, Any] | None = None,
        rates: Sequence[float] | None = None,
        rule: Mapping[str, Any] | None = None,
        averaged: bool = True,
        analysis: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "gop": gop, "max_delta_qp": max_delta_qp, "blur_sigma": blur_sigma}
        self.config["extra_planes"] = extra_planes
        if not averaged:
            self.config["averaged"] = False
        if analysis is not None:
            self.config["analysis"] = dict(analysis)
        if eyes is not None:
            self.config["eyes"] = dict(eyes)
        if rates is not None:
            self.config["rates"] = list(rates)
        if rule is not None:
            self.config["rule"] = dict(rule)
        self.prior = RatePrior()
        if width:
            self.stem = nn.Sequential(
                nn.Conv2d(6, width, 4, stride=4),
                nn.SiLU(),
                nn.Conv2d(width, width, 1),
                nn.SiLU(),
            )
            self.modulate = nn.Sequential(nn.Linear(4, width), nn.SiLU(), nn.Linear(width, 2 * len(_DILATIONS) * width))
            self.blocks = nn.ModuleList([nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in _DILATIONS])
            self.of_planes = nn.Conv2d(extra_planes, width, 1) if extra_planes else None
            self.head = nn.Conv2d(width, 1, 3, padding=1)
        else:
            self.head = nn.Conv2d(len(CONTEXTS) * extra_planes, 1, 1)
        for parameter in self.head.parameters():  # training starts at no offsets: x264 itself
            nn.init.zeros_(parameter)

    def offsets(
        self, frames: torch.Tensor, log_bpp: torch.Tensor, *, gop: int | None = None, planes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, T, h, w): offsets from x264's QPs, not rounded, for frames (B, T, 3, H, W) and target log bits per pixel (B,).

        gop: frames per GOP, if it is another than that of training. planes: (B, T, E, h, w), of a network with extra planes.
        """
        small = reduced(frames)
        if rates := self.config.get("rates"):
            log_bpp = log_bpp.clamp(*(math.log(rate) for rate in rates))
        delta = self.delta_qp(small, log_bpp, self.prior(small, log_bpp), gop=gop, planes=planes)
        return centred(mean_so_far(delta, gop=gop or self.config["gop"]) if self.config.get("averaged", True) else delta)

    def delta_qp(
        self,
        small: torch.Tensor,
        log_bpp: torch.Tensor,
        mean_qp: torch.Tensor,
        *,
        gop: int | None = None,
        before: torch.Tensor | None = None,
        start: int = 0,
        planes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, T, h, w): what the network decides of every frame by itself, in QPs. `offsets` are the mean over the GOP so far.

        small: `reduced` frames (B, T, 3, H/4, W/4). mean_qp: (B,), that of the prior. before: (B, 1, 3, H/4, W/4), the frame
        before the first (None: the first itself). start: the first frame's place in its GOP. planes: (B, T, E, h, w), of a
        network with extra planes.
        """
        b, t, _, height, width = small.shape
        before = small[:, :1] if before is None else before
        previous = torch.cat([before, small[:, :-1]], 1)
        gop = gop or self.config["gop"]
        position = ((torch.arange(t, device=small.device) + start) % gop).float()
        below, right = -height % _PATCH, -width % _PATCH
        pictures = [rearrange(frames, "b t c h w -> (b t) c h w") for frames in (small, previous)]
        if below or right:  # a pad of nothing copies everything
            pictures = [F.pad(frames, (0, right, 0, below), mode="replicate") for frames in pictures]
        delta = self(
            *pictures,
            log_bpp.repeat_interleave(t),
            mean_qp.repeat_interleave(t),
            position.repeat(b),
            torch.full_like(position, gop).repeat(b),
            None if planes is None else planes.flatten(0, 1),
        )
        return rearrange(delta, "(b t) h w -> b t h w", b=b)

    def forward(
        self,
        small: torch.Tensor,
        previous: torch.Tensor,
        log_bpp: torch.Tensor,
        mean_qp: torch.Tensor,
        position: torch.Tensor,
        gop: torch.Tensor,
        planes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what is decided of N frames, each by itself, in QPs (N, h, w): all of the network that has no memory.

        small, previous: `reduced` frames (N, 3, 4h, 4w), and the one before each. log_bpp, mean_qp, position (in its GOP), gop
        (frames in it): (N,). planes: (N, E, h, w). `dvcc.control.deployed.onnx_export` writes the same as a graph.
        """
        if planes is None and self.config["extra_planes"]:
            raise ConfigError(f"this control takes {self.config['extra_planes']} planes per macroblock: give planes")
        if self.config["width"]:
            condition = torch.stack([(log_bpp + 3) / 2, (mean_qp - 32) / 10, (position == 0).float(), position / gop], -1)
            features = self._features(small, previous, condition, planes)
        else:
            assert planes is not None  # it is built with some
            features = torch.cat([_box_mean(planes, side) for side in CONTEXTS], 1)
        decided = self.head(features)
        decided = decided - decided.mean((1, 2, 3), keepdim=True)  # x264 decides the mean of every frame
        delta = self.config["max_delta_qp"] * torch.tanh(decided)
        if sigma := self.config["blur_sigma"]:
            side = 2 * math.ceil(2 * sigma) + 1
            delta = gaussian_blur2d(delta, (side, side), (sigma, sigma), border_type="replicate")
        return delta[:, 0]

    def _features(
        self, small: torch.Tensor, previous: torch.Tensor, condition: torch.Tensor, planes: torch.Tensor | None
    ) -> torch.Tensor:
        """Return features (N, width, h, w) of the picture. condition: (N, 4), what modulates them."""
        seen = torch.cat([small - 0.5, small - previous], 1)
        features = self.stem(seen.contiguous(memory_format=torch.channels_last))  # twice as fast on a CPU
        if self.of_planes is not None:
            features = features + self.of_planes(planes)
        scales = rearrange(self.modulate(condition), "b (n k c) -> n k b c 1 1", n=len(self.blocks), k=2)
        for block, (scale, shift) in zip(self.blocks, scales, strict=True):
            features = features + F.silu(block(features) * (1 + scale) + shift)
        return features

    def save(self, path: str | Path, config: dict[str, Any]) -> None:
        """Write the weights with what they were trained for."""
        save_weights(path, Weights("control", {**config, "control": self.config}, self.state_dict()))


def _box_mean(planes: torch.Tensor, side: int) -> torch.Tensor:
    """Return planes (N, E, h, w) averaged over squares of an odd `side`, those at the edges over what is in the picture."""
    return F.avg_pool2d(planes, side, stride=1, padding=side // 2, count_include_pad=False)


def centred(offsets: torch.Tensor) -> torch.Tensor:
    """(B, T, h, w) less the mean of every frame, which x264 would take back."""
    return offsets - offsets.mean((2, 3), keepdim=True)


def mean_so_far(x: torch.Tensor, *, gop: int) -> torch.Tensor:
    """(B, T, ..): the mean of x over the frames of its GOP up to each one."""
    sums = torch.cat([torch.zeros_like(x[:, :1]), x.cumsum(1)], 1)
    place = torch.arange(x.shape[1], device=x.device)
    count = place % gop + 1
    return (sums[:, 1:] - sums[:, place + 1 - count]) / count.view(-1, *[1] * (x.dim() - 2))


def load_network(path: str | Path) -> tuple[ControlNetwork, dict[str, Any]]:
    """Return a trained control network, to be trained further or exported, and its config.

    Raises `CheckpointError` when the file is damaged or of another kind.
    """
    stored = load_weights(path, kind="control")
    with taken_from(path):
        control = ControlNetwork(**stored.config["control"])
        {*stored.config.get("trained_on", [])}  # names of videos
    load_state(control, stored.state, path=path)
    return control.eval(), stored.config
