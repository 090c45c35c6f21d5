"""Motion between a frame and the frames it is predicted from, by an optical-flow network."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from dvcc.networks.optical_flow import load_flow_net
from dvcc.surrogate.references import CodingOrder


class FlowNet(NamedTuple):
    """Which optical-flow network, and its weights (None: its own); see `load_flow_net`."""

    model: str = "ours"
    weights: str | None = None


OURS = FlowNet()


class Motion(NamedTuple):
    """Return the flow from every frame to its reference before and after it, float (B, T, 2, H, W) in pixels.

    Display order; 0 where it has none.
    """

    past: torch.Tensor
    future: torch.Tensor


@torch.no_grad()
def reference_motion(frames: torch.Tensor, order: CodingOrder, flow_net: FlowNet) -> Motion:
    """Motion of float frames (B, T, 3, H, W) 0..1. Estimated at half the size: macroblocks need no finer."""
    b, t, _, height, width = frames.shape
    network = _network(flow_net, str(frames.device))
    small = F.avg_pool2d(rearrange(frames, "b t c h w -> (b t) c h w"), 2, ceil_mode=True).unflatten(0, (b, t))
    fields = []
    for places in (order.past, order.future):
        flow = frames.new_zeros(b, t, 2, height, width)
        clips, positions = torch.nonzero(places >= 0, as_tuple=True)
        if len(clips):
            here, there = order.frame[clips, positions], order.frame[clips, places[clips, positions]]
            half_flow = network(small[clips, here], small[clips, there])
            full = 2 * F.interpolate(half_flow, scale_factor=2.0, mode="bilinear", align_corners=False)
            flow[clips, here] = full[..., :height, :width]
        fields.append(flow)
    return Motion(*fields)


@lru_cache(maxsize=4)
def _network(flow_net: FlowNet, device: str) -> nn.Module:
    """One per process and device: it is not part of a surrogate's own weights."""
    with torch.random.fork_rng(devices=[]):  # a network draws its first weights, and a training step draws after this
        return load_flow_net(flow_net.model, weights=flow_net.weights).to(device)
