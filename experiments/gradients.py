"""Gradients with the real codec in the loop: LAX with the surrogate as control variate, and straight through a simple proxy.

`in_the_loop` makes either of them a `codec` of `dvcc.control.objective.objective`; the core's way, the surrogate's own gradient,
needs none of this. Maps are coded with every QP given: the map that the surrogate is asked about is the one that is coded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from einops import einsum
from torch.nn import functional as F

from dvcc.clip import Clip
from dvcc.codecs import Codec
from dvcc.control.objective import Response
from dvcc.pixels import as_float
from dvcc.qp import MAX_QP, QPMap
from dvcc.surrogate.base import activity, per_macroblock
from dvcc.tasks.base import Task
from dvcc.units import MACROBLOCK

REGIONS = (2, 4)
"""Rows and columns of the regions that `lax_response` moves: the score term lives in these few numbers per clip."""

_STD = 2.0  # QPs that regions are moved by; below 1 an encode's own noise drowns what it tells

_PER_QP = math.log(2) / 6
"""The quantisation step doubles every six QPs (H.264), and the coding error with it; bits shrink by about as much."""

WAYS = ("lax", "straight_through")


class RealEncode(NamedTuple):
    """Of M maps of one clip: coded frames (M, T, 3, H, W), float 0..1, and bits per frame (M, T)."""

    frames: torch.Tensor
    bits: torch.Tensor


class RealCodec:
    """Encodes maps and asks the task about them; every call is an encode and a judgement per map."""

    def __init__(self, codec: Codec, task: Task) -> None:
        self.codec, self.task = codec, task

    def encode(self, clip: Clip, qp: torch.Tensor) -> RealEncode:
        """Of QPs (M, T, h, w), rounded and kept within 0..51."""
        maps = qp.detach().round().clamp(0, MAX_QP).to(torch.int64).cpu().numpy()
        coded = [self.codec.encode(clip, QPMap(values)) for values in maps]
        frames = torch.stack([as_float(encode.frames) for encode in coded])
        bits = torch.from_numpy(np.stack([encode.bits_per_frame for encode in coded])).float()
        return RealEncode(frames.to(qp.device), bits.to(qp.device))

    @torch.no_grad()
    def respond(self, clip: Clip, qp: torch.Tensor) -> Response:
        """What the task and the bits really are, at QPs (M, T, h, w)."""
        coded = self.encode(clip, qp)
        reference = self._reference(clip, qp.device)
        losses = [self.task.loss(self.task.predict(frames[None]), reference) for frames in coded.frames]  # one at a time: memory
        return torch.cat(losses), coded.bits.sum(1).log()

    def _reference(self, clip: Clip, device: torch.device) -> torch.Tensor:
        with torch.no_grad():
            return self.task.predict(as_float(clip.frames).to(device)[None])


def in_the_loop(
    way: str, *, clip: Clip, real: RealCodec, predicted: Callable[[torch.Tensor], Response]
) -> Callable[[torch.Tensor], Response]:
    """Return a codec for `objective` that codes maps of `clip` where a gradient is asked for, and predicts them where none is (in
    Newton's steps to equal bits). way: one of `WAYS`."""

    def codec(qp: torch.Tensor) -> Response:
        if not torch.is_grad_enabled():
            return predicted(qp)
        if way == "straight_through":
            return straight_through_response(qp, clip=clip, real=real)
        return lax_response(
            qp, predicted=lambda moved: predicted(moved.clamp(0, MAX_QP)), real=lambda moved: real.respond(clip, moved)
        )

    return codec


def lax_response(
    qp: torch.Tensor, *, predicted: Callable[[torch.Tensor], Response], real: Callable[[torch.Tensor], Response]
) -> Response:
    """Real values at QPs `qp` (M, T, h, w), with the gradient of LAX (Grathwohl et al., ICLR 2018; see `lax_gradient`):

        g = [f(q) - c(q)] d log p(q)/d level + d c(q)/d level,   q = level + noise

    f is the `real` codec, c what is `predicted`. The noise is one Gaussian number per region (`REGIONS`), the same in all frames,
    and within these regions' means g is unbiased whatever c is; how a region's QPs should differ is c's answer. Drawn in pairs of
    opposite sign, so that what f and c differ in everywhere does not become noise: two real encodes per map.
    """
    inside = _regions(qp)
    noise = _STD * torch.randn(len(qp), inside.shape[0], device=qp.device, dtype=qp.dtype)
    moved = einsum(noise, inside, "m k, k h w -> m h w")[:, None]
    mean = einsum(qp.mean(1), inside / inside.sum((1, 2), keepdim=True), "m h w, k h w -> m k")
    gradients: list[torch.Tensor] = []
    pairs = [(real((qp + sign * moved).detach()), predicted(qp + sign * moved)) for sign in (1, -1)]
    for index in range(2):  # the loss, then the log bits
        (f_up, c_up), (f_down, c_down) = ((values[index], variate[index]) for values, variate in pairs)
        left = ((f_up - c_up) - (f_down - c_down)).detach() / 2
        gradient = (c_up + c_down) / 2 + (left[:, None] * noise / _STD**2 * mean).sum(1)
        gradients.append((f_up + f_down).detach() / 2 + gradient - gradient.detach())
    return gradients[0], gradients[1]


def straight_through_response(qp: torch.Tensor, *, clip: Clip, real: RealCodec) -> Response:
    """Real values at QPs `qp` (M, T, h, w), with the gradient of a proxy that knows no network: the error of every macroblock
    grows by a factor of two in six QPs, its bits shrink as much, and its share of its frame's bits is that of its activity."""
    coded = real.encode(clip, qp)
    frames = as_float(clip.frames).to(qp.device)
    reference = real._reference(clip, qp.device)
    losses = []
    for frame, values in zip(coded.frames, qp, strict=True):
        growth = torch.exp(_PER_QP * (values - values.detach()))  # 1, with the slope
        pixels = growth.repeat_interleave(MACROBLOCK, -2).repeat_interleave(MACROBLOCK, -1)
        blended = frames + (frame - frames) * pixels[:, None, : frames.shape[-2], : frames.shape[-1]]
        losses.append(real.task.loss(real.task.predict(blended[None]), reference))
    weight = per_macroblock(activity(frames.mean(1))) + 1e-3
    share = weight / weight.sum((1, 2), keepdim=True) * (coded.bits / coded.bits.sum(1, keepdim=True))[..., None, None]
    log_bits = coded.bits.sum(1).log() - _PER_QP * (share * (qp - qp.detach())).sum((1, 2, 3))
    return torch.cat(losses), log_bits


def _regions(qp: torch.Tensor) -> torch.Tensor:
    """(K, h, w): 1 where a macroblock of maps (M, T, h, w) is in region k."""
    rows, columns = (min(n, size) for n, size in zip(REGIONS, qp.shape[-2:], strict=True))
    numbers = torch.arange(rows * columns, device=qp.device, dtype=qp.dtype).view(1, 1, rows, columns)
    place = F.interpolate(numbers, qp.shape[-2:], mode="nearest")[0, 0].long()
    return F.one_hot(place, rows * columns).movedim(-1, 0).to(qp)
