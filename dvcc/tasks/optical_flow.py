"""Optical flow from every frame to the next, judged by the end-point error."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from einops import reduce
from torch import nn
from torch.nn import functional as F

from dvcc.errors import ConfigError
from dvcc.networks.exported import asked, prepared
from dvcc.networks.onnx_file import PROBE
from dvcc.networks.optical_flow import load_flow_net
from dvcc.pixels import as_float
from dvcc.tasks.base import Task, check_rgb
from dvcc.tasks.metric import Metric

_SMOOTH = 0.01  # pixels: below it the loss is quadratic, else it had no derivative where nothing has changed
_SAME, _SAME_SHARE = 1.0, 0.05  # two vectors agree within so many pixels, or so large a part of their length


class OpticalFlowTask(Task):
    """Predictions are flows (.., T - 1, 2, H, W) in pixels, x then y, of each frame to the next.

    model: "ours" (no download), or torchvision's "raft_small" or "raft_large". net: in its place, a module of your own, called
    with two pictures, RGB 0..1 (N, 3, H, W), that gives the flow (N, 2, H, W) of the first to the second in pixels, or a list of
    refinements of it. Raises `ConfigError` for an unknown name or another answer, `CheckpointError` for weights that do not fit.
    """

    metric_name = "EPE (px)"
    metric_range = (4.0, 1.0)
    overlap = 1
    lost_as = "no motion"

    def __init__(self, *, model: str = "ours", weights: str | Path | None = None, net: nn.Module | None = None) -> None:
        super().__init__()
        if net is not None:
            asked(prepared(net), torch.zeros(1, 3, *PROBE), torch.zeros(1, 3, *PROBE))
        self.net = (net or load_flow_net(model, weights=weights)).eval().requires_grad_(False)
        self.model = model

    def predict(self, frames: torch.Tensor) -> torch.Tensor:
        """Flows (.., T - 1, 2, H, W). Raises `ConfigError` for clips of one frame."""
        check_rgb(frames, task="optical flow")
        if frames.shape[-4] < 2:
            raise ConfigError(f"optical flow takes clips of two frames or more, got {tuple(frames.shape)}: give more of a video")
        pictures = as_float(frames)
        pairs = pictures[..., :-1, :, :, :], pictures[..., 1:, :, :, :]
        answer = self.net(*(side.reshape(-1, *frames.shape[-3:]) for side in pairs))
        flow = answer[-1] if isinstance(answer, (list, tuple)) else answer
        expected = (math.prod(pairs[0].shape[:-3]), 2, *frames.shape[-2:])
        if flow.shape != expected:
            shape = tuple(flow.shape)
            raise ConfigError(
                f"{type(self.net).__name__} gives {shape} for pairs of frames: give flows {expected} in pixels, x then y"
            )
        return flow.unflatten(0, pairs[0].shape[:-3])

    def reference(self, labels: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """Return the flows (.., 2, H, W) themselves; they are NaN where nothing is known."""
        return torch.where(labels.isnan().any(-3, keepdim=True), prediction.detach(), labels)

    def degradation(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return log(1 + end-point error in pixels), (B, T, H, W), half of it in each frame of the pair.

        Half is in the pair's first frame and half, at the same place, in its second. Both frames made the error, and they move by
        less than a macroblock as a rule. Scaled so that its mean is that of the pairs.

        Below a pixel this is the end-point error, which is the metric. Beyond, it grows ever more slowly: a few pixels, where a
        match is lost altogether, would otherwise decide the loss, and they are decided by chance.
        """
        squared = (prediction - reference).square().sum(-3)
        error = torch.log1p((squared + _SMOOTH**2).sqrt() - _SMOOTH)
        pairs = error.shape[1]
        both = F.pad(error, (0, 0, 0, 0, 0, 1)) + F.pad(error, (0, 0, 0, 0, 1, 0))
        return both * ((pairs + 1) / (2 * pairs))

    def metrics(self) -> dict[str, Metric]:
        """Return the mean end-point error in pixels."""
        return {self.metric_name: EndPointError()}

    def metric_when_dropped(self, metric: Metric) -> float:
        """Return the error of answering no motion."""
        assert isinstance(metric, EndPointError)
        return float(metric.motion / metric.pixels)

    def agreement(self, prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B,): share of pixels whose vectors differ by at most 1 pixel, or 5 % of the reference's length.

        KITTI's rule for a flow that is not wrong (Menze and Geiger, CVPR 2015), which allows 3 pixels in pictures 1242 wide.
        """
        error, length = (x.norm(dim=-3) for x in (prediction - reference, reference))
        return reduce((error <= (_SAME_SHARE * length).clamp(min=_SAME)).float(), "b ... -> b", "mean")

    def picture(self, frame: torch.Tensor, prediction: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        """Return the colours of Baker et al. (IJCV 2011): hue is direction, saturation is length.

        The longest vector of the reference (of the prediction where there is none) has full colour, longer ones too.
        """
        from torchvision.utils import flow_to_image

        reference = prediction if reference is None else reference
        lengths = prediction.norm(dim=0, keepdim=True)
        scaled = prediction * (reference.norm(dim=0).max() / lengths.clamp(min=1e-9)).clamp(max=1)
        return flow_to_image(torch.stack([scaled, reference]).cpu())[0]  # scaled by the longest vector of both


class EndPointError(Metric):
    """Mean length of the difference between flows, over all known pixels of a set, in pixels."""

    higher_is_better = False
    error: torch.Tensor
    motion: torch.Tensor
    pixels: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("error", "motion", "pixels"):  # motion: the error of answering no motion
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64))

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:
        """Both are flows (.., 2, H, W); labels are NaN where nothing is known."""
        labelled = ~labels.isnan().any(-3)
        self.error += (prediction - labels).norm(dim=-3)[labelled].double().sum()
        self.motion += labels.norm(dim=-3)[labelled].double().sum()
        self.pixels += labelled.sum()

    def compute(self) -> torch.Tensor:
        """NaN without a known pixel."""
        return self.error / self.pixels
