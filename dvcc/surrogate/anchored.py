"""The anchored surrogate: real encodes at a ladder of constant QPs, composed macroblock by macroblock.

Three things are learned. The share of each macroblock in its frame's bits, starting from what its transform would cost. Its
*effective* QP: a macroblock that is copied from a better reference looks better than its own QP, so quality is carried from
frame to frame in coding order. And what is left, by a small correction network. Flat maps at a rung are exact by
construction, frames and bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import einsum, rearrange, repeat
from torch import nn
from torch.nn import functional as F

from dvcc.errors import ConfigError
from dvcc.networks.flow import warp
from dvcc.pixels import as_float
from dvcc.surrogate.anchored_networks import CorrectionNetwork, MacroblockNetwork, to_pixels, zero_
from dvcc.surrogate.base import Prediction, Sample, Surrogate, activity, check_qp, mean_qp, per_macroblock
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.motion import OURS, FlowNet, Motion, reference_motion
from dvcc.surrogate.references import CodingOrder, coding_order
from dvcc.surrogate.rungs import Rungs, pick_rungs
from dvcc.surrogate.transform import transform_bits
from dvcc.training.batches import generators
from dvcc.units import MACROBLOCK

_JUDGED_OVER = 3.0  # QPs, deviation of the kernel that a judged ladder is smoothed with: single encodes are noisy
_FLOOR = 1e-3  # of activities before their logarithm: a quarter of a grey level


@dataclass(frozen=True, eq=False)
class LadderAnalysis:
    """What the ladder says of B clips: all (B, T, .., h, w) on the macroblock grid, but for the pixels.

    ladder_frames: (B, R', K, 3, H, W), of the rungs ladder_rungs (B, R') and the frames ladder_at (B, K), both rising.
    static: log activity, log residual against the past and the future reference, frame type one-hot. log_error: log
    coding error of every rung. log_cost: log of what the transform of the best prediction would cost at every rung.
    log_bits: learned log bits of every macroblock at every rung. log_mean_bits: (B, T, R). motion: in pixels;
    grid_motion: past and future, in macroblocks. degradation: to a task at every rung, if it has judged them. draws: what the
    rungs of each clip are drawn from in a training.
    """

    frames: torch.Tensor
    ladder_frames: torch.Tensor
    ladder_rungs: torch.Tensor
    ladder_at: torch.Tensor
    order: CodingOrder
    motion: Motion
    grid_motion: Motion
    static: torch.Tensor
    log_error: torch.Tensor
    log_cost: torch.Tensor
    log_bits: torch.Tensor
    log_mean_bits: torch.Tensor
    degradation: torch.Tensor | None
    draws: list[torch.Generator | None]


class AnchoredSurrogate(Surrogate[LadderAnalysis]):
    """qps: QPs of the rungs, rising, as in the ladder of every sample. width: channels."""

    reads_ladder = True

    def __init__(self, *, qps: tuple[int, ...], width: int = 48, flow_net: FlowNet = OURS) -> None:
        super().__init__()
        self.flow_net = flow_net
        self.rungs = Rungs(qps)
        num_static = 3 + len(FRAME_TYPES)
        self.share = nn.Sequential(
            nn.Conv2d(num_static + 4, width, 1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 1, 1),
        )
        zero_(self.share[-1])
        self.macroblocks = MacroblockNetwork(num_static, width)
        self.correction = CorrectionNetwork(width)

    def analyse(self, sample: Sample) -> LadderAnalysis:
        """See `Surrogate.analyse`. Raises `ConfigError` for a sample without a ladder, or with one of other rungs."""
        sizes = {name: sample[name].shape[1] for name in ("ladder_log_error", "ladder_bits") if name in sample}
        if list(sizes.values()) != [len(self.rungs.qps)] * 2:
            raise ConfigError(
                f"this surrogate reads a ladder of {len(self.rungs.qps)} rungs, and the sample has {sizes or 'none'}: "
                f"take a sample of LadderSamples(qps={tuple(int(qp) for qp in self.rungs.qps)})"
            )
        frames, ladder_bits = as_float(sample["frames"]), sample["ladder_bits"]
        order = coding_order(sample["frame_types"])
        motion = reference_motion(frames, order, self.flow_net)
        luma = frames.mean(2)
        residuals = [_residual(luma, flow, order, places) for flow, places in zip(motion, order[1:], strict=True)]
        logs = torch.log(per_macroblock(torch.stack([activity(luma), *(r.abs() for r in residuals)], 2)) + _FLOOR)
        grid = logs.shape[-2:]
        types = F.one_hot(sample["frame_types"], len(FRAME_TYPES)).to(logs)[..., None, None].expand(-1, -1, -1, *grid)
        log_error = sample["ladder_log_error"].transpose(1, 2)
        static = torch.cat([(logs + 4) / 2, types], 2)
        log_cost = self._log_cost(luma, residuals)
        log_mean_bits = rearrange(torch.log(ladder_bits / (grid[0] * grid[1])), "b r t -> b t r")
        clips, device = len(frames), frames.device
        return LadderAnalysis(
            frames,
            sample.get("ladder_frames", frames.new_zeros(clips, 0)),
            sample.get("ladder_rungs", torch.arange(len(self.rungs.qps), device=device).expand(clips, -1)),
            sample.get("ladder_at", torch.arange(frames.shape[1], device=device).expand(clips, -1)),
            order,
            motion,
            Motion(*(per_macroblock(flow) / MACROBLOCK for flow in motion)),
            static,
            log_error,
            log_cost,
            self._macroblock_bits(static, log_error, log_cost, log_mean_bits),
            log_mean_bits,
            self._smoothed(sample["ladder_degradation"]) if "ladder_degradation" in sample else None,
            generators(sample),
        )

    def without_pixels(self, analysis: LadderAnalysis) -> LadderAnalysis:
        """See `Surrogate.without_pixels`: what is left lies on the macroblock grid."""
        empty = analysis.frames.new_zeros(len(analysis.frames), 0)
        return replace(analysis, frames=empty, ladder_frames=empty, motion=Motion(empty, empty))

    def _smoothed(self, judged: torch.Tensor) -> torch.Tensor:
        """(B, T, R, h, w) of degradations (B, R, T, h, w), each rung with its neighbours."""
        distance = (self.rungs.qps[:, None] - self.rungs.qps) / _JUDGED_OVER
        kernel = torch.exp(-distance.square() / 2)
        return einsum(kernel / kernel.sum(1, keepdim=True), judged, "r k, b k t h w -> b t r h w")

    def predict(self, analysis: LadderAnalysis, qp: torch.Tensor, *, frame_numbers: Sequence[int] | None = None) -> Prediction:
        """See `Surrogate.predict`."""
        b, t, _, h, w = analysis.static.shape
        check_qp(qp, clips=(b, t, h, w))
        requested = mean_qp(qp)
        effective, log_bits = self._propagate(analysis, requested)
        frame_numbers = list(range(requested.shape[1])) if frame_numbers is None else list(frame_numbers)
        maps_per_clip = len(qp) // b
        degradation = None
        if analysis.degradation is not None:
            table = analysis.degradation.repeat_interleave(maps_per_clip, 0)
            read = [self.rungs.at(table[:, t], effective[:, t]) for t in range(requested.shape[1])]
            degradation = torch.stack(read, 1).mean((1, 2, 3))
        if not frame_numbers:
            return Prediction(
                log_bits, requested.new_zeros(len(requested), 0, 3, *analysis.frames.shape[3:]), degradation=degradation
            )
        drawn = [self._compose(analysis, m // maps_per_clip, requested[m], effective[m], frame_numbers) for m in range(len(qp))]
        frames, candidates, weights, log_error = (torch.stack(part) for part in zip(*drawn, strict=True))
        return Prediction(log_bits, frames, (candidates.transpose(0, 1), weights), log_error, degradation)

    def _log_cost(self, luma: torch.Tensor, residuals: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the log of the least that a macroblock of luma (B, T, H, W) costs at every rung, (B, T, R, h, w).

        It costs so much as it is, or as what one of its references leaves.
        """
        costs = [transform_bits(x.flatten(0, 1), self.rungs.qps, intra=x is luma) for x in (luma, *residuals)]
        return torch.log(1 + torch.stack(costs).amin(0)).unflatten(0, luma.shape[:2])

    def _macroblock_bits(
        self, static: torch.Tensor, log_error: torch.Tensor, log_cost: torch.Tensor, log_mean_bits: torch.Tensor
    ) -> torch.Tensor:
        """(B, T, R, h, w): the frame's bits at every rung times the share of every macroblock, which sums to 1."""
        b, t, r, h, w = log_error.shape
        per_rung = [log_error[:, :, :, None], log_cost[:, :, :, None] / 2 - 2.5]
        per_rung.append(repeat(log_mean_bits, "b t r -> b t r 1 h w", h=h, w=w) / 4)
        per_rung.append(repeat((self.rungs.qps - 32) / 10, "r -> b t r 1 h w", b=b, t=t, h=h, w=w))
        features = torch.cat([repeat(static, "b t c h w -> b t r c h w", r=r), *per_rung], 3)
        learned = self.share(rearrange(features, "b t r c h w -> (b t r) c h w")).view(b, t, r, h, w)
        shares = (learned + log_cost).flatten(-2).log_softmax(-1).unflatten(-1, (h, w))
        return shares + (log_mean_bits + math.log(h * w))[..., None, None]

    def _propagate(self, analysis: LadderAnalysis, requested: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Effective QPs (M, T, h, w) and log bits per frame (M, T) of QPs (M, T, h, w): frame by frame, in coding order."""
        order = analysis.order
        clips = torch.arange(len(order.frame), device=requested.device)
        n = len(requested) // len(clips)
        rows = torch.arange(len(requested), device=requested.device)
        effective: list[torch.Tensor] = []
        log_bits: list[torch.Tensor] = []
        for place in range(requested.shape[1]):
            frame = order.frame[:, place]

            def here(x: torch.Tensor, frame: torch.Tensor = frame) -> torch.Tensor:
                return x[clips, frame].repeat_interleave(n, 0)

            qp = requested[rows, frame.repeat_interleave(n)]
            references: list[torch.Tensor] = []
            for places, flow in ((order.past, analysis.grid_motion.past), (order.future, analysis.grid_motion.future)):
                source = places[:, place].repeat_interleave(n)
                if effective:
                    quality = torch.stack(effective, 1)[rows, source.clamp(min=0)]
                    quality = warp(quality[:, None], here(flow))[:, 0]
                else:
                    quality = qp
                fallback = references[0] if references else qp  # without a future reference, the past one twice
                references.append(torch.where((source >= 0)[:, None, None], quality, fallback))
            weights, gain, beyond = self.macroblocks(
                qp,
                *references,
                static=here(analysis.static),
                errors=[self.rungs.at(here(analysis.log_error), q) for q in (qp, *references)],
                costs=[self.rungs.at(here(analysis.log_cost), q) for q in (qp, *references)],
                bits=(macroblock_bits := self.rungs.at(here(analysis.log_bits), qp)),
                mean_bits=self.rungs.at(here(analysis.log_mean_bits)[..., None, None].expand(-1, -1, *qp.shape[1:]), qp),
            )
            drawn = qp + weights[:, 0] * (references[0] - qp) + (1 - weights[:, 0]) * weights[:, 1] * (references[1] - qp)
            effective.append(drawn)
            log_bits.append(torch.log((torch.exp(macroblock_bits + gain) + beyond).sum((1, 2))))
        display = order.frame.argsort(1).repeat_interleave(n, 0)
        return torch.stack(effective, 1)[rows[:, None], display], torch.stack(log_bits, 1)[rows[:, None], display]

    def _compose(
        self, analysis: LadderAnalysis, clip: int, requested: torch.Tensor, effective: torch.Tensor, frame_numbers: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the frames `frame_numbers` (S, 3, H, W) of one map, and what they are drawn from.

        That is the two candidates, the weight of the second, and the log coding error.

        One rung per macroblock, drawn from the two around its effective QP. A blend of rungs averages their coding noise
        and looks better than any real encode (by about 1 dB). The draw has no gradient, and the difference of two rungs is
        mostly noise; what changes reliably with the QP is how large the coding error is. So backward, the error of
        the drawn rung grows as the ladder says, and forward it is what it is.
        """
        at, rungs, ladder = analysis.ladder_at[clip], analysis.ladder_rungs[clip], analysis.ladder_frames[clip]
        frames = analysis.frames[clip, at]
        size = frames.shape[-2:]
        places = torch.searchsorted(at, torch.tensor(frame_numbers, device=at.device))
        below, weight = self.rungs.around(effective)
        chance = torch.rand(weight.shape, generator=analysis.draws[clip]).to(weight) if self.training else 0.5
        chosen = (weight > chance)[at]
        below, weight, effective_at, requested_at = below[at], weight[at], effective[at], requested[at]
        candidates = torch.stack([pick_rungs(ladder, torch.searchsorted(rungs, rung)) for rung in (below, below + 1)])
        second = to_pixels(chosen[:, None], size)
        log_error = self.rungs.at(analysis.log_error[clip, at], effective_at)
        growth = to_pixels(torch.exp(log_error - log_error.detach())[:, None], size)  # 1, with the slope of the error
        drawn = frames + (torch.where(second, candidates[1], candidates[0]) - frames) * growth
        other = torch.where(second, candidates[0], candidates[1])
        # Rungs are exact as they are: the correction is for where a map leaves them.
        left = (effective_at - self.rungs.qps[below + chosen]).abs() + (effective_at - requested_at).abs()
        left = left + (requested_at - requested.mean()).abs()
        where = F.max_pool2d(left.detach().clamp(max=1)[:, None], 3, 1, 1)[places]
        residual = self._correct(analysis, clip, requested, effective, drawn, other, frame_numbers)
        return drawn[places] + to_pixels(where, size) * residual, candidates[:, places], weight[places], log_error[places]

    def _correct(
        self,
        analysis: LadderAnalysis,
        clip: int,
        requested: torch.Tensor,
        effective: torch.Tensor,
        drawn: torch.Tensor,
        other: torch.Tensor,
        frame_numbers: list[int],
    ) -> torch.Tensor:
        """Return what to add to the frames `frame_numbers` of the `drawn` rungs, (S, 3, H, W).

        drawn, other: (K, 3, H, W), of frames `ladder_at`.
        """
        order, size = analysis.order, drawn.shape[-2:]
        frames = analysis.frames[clip]
        at, here = analysis.ladder_at[clip], torch.tensor(frame_numbers, device=drawn.device)
        drawn_here = torch.searchsorted(at, here)
        place_of = order.frame[clip].argsort()[here]
        neighbours, qualities = [], []
        for places, flow in ((order.past, analysis.motion.past), (order.future, analysis.motion.future)):
            place = places[clip, place_of]
            source = torch.where(place >= 0, order.frame[clip, place.clamp(min=0)], here)
            neighbours += [warp(torch.cat([drawn[torch.searchsorted(at, source)], frames[source]], 1), flow[clip, here])]
            qualities += [effective[source]]
        scale = torch.exp(self.rungs.at(analysis.log_error[clip, here], effective[here]))
        maps = torch.cat(
            [torch.stack([requested[here], effective[here], *qualities], 1) / 10 - 3.2, analysis.static[clip, here, 3:]], 1
        )
        pictures = (drawn[drawn_here], frames[here], other[drawn_here], *neighbours)
        return self.correction(*pictures, maps=maps, scale=to_pixels(scale[:, None], size))


def _residual(luma: torch.Tensor, flow: torch.Tensor, order: CodingOrder, places: torch.Tensor) -> torch.Tensor:
    """Return what the aligned reference leaves of every frame, (B, T, H, W).

    Where there is none, it is what the other one leaves, or for an I frame the difference to the frame's mean.
    """
    clips = torch.arange(len(luma), device=luma.device)[:, None]
    place_of = order.frame.argsort(1)
    reference = places[clips, place_of]
    reference = torch.where(reference >= 0, reference, order.past[clips, place_of])
    source = order.frame[clips, reference.clamp(min=0)]
    aligned = warp(luma[clips, source].flatten(0, 1)[:, None], flow.flatten(0, 1)).view_as(luma)
    mean = luma.mean((-2, -1), keepdim=True)
    return luma - torch.where((reference >= 0)[..., None, None], aligned, mean)
