"""The network surrogate: input frames and QPs in, residual of the coded frames and bits out; no encode needed.

Our reading of the published one. A per-frame residual encoder-decoder, every stage modulated by the macroblock QPs
(spatially-adaptive normalisation, Park et al., CVPR 2019); the state of the references is aligned by optical flow and enters
a convolutional GRU, frame by frame in coding order; a head sums bits over macroblocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from torch import nn
from torch.nn import functional as F

from dvcc.networks.flow import warp
from dvcc.pixels import as_float
from dvcc.surrogate.base import NUM_QPS, Prediction, Sample, Surrogate, check_qp
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.motion import OURS, FlowNet, Motion, reference_motion
from dvcc.surrogate.references import CodingOrder, coding_order
from dvcc.units import MACROBLOCK

_FOLD = 4  # the full-size stage works on pixels folded into channels, four to a side
_EMBEDDING = 8


@dataclass(frozen=True, eq=False)
class FrameAnalysis:
    """Return frames, float (B, T, 3, H, W), padded to whole macroblocks, with what is known of them.

    That is their size before; the coding order; motion in pixels of the padded frames; frame types.
    """

    frames: torch.Tensor
    size: torch.Size
    order: CodingOrder
    motion: Motion
    frame_types: torch.Tensor


class NetworkSurrogate(Surrogate[FrameAnalysis]):
    """width: channels at a quarter of the size; twice that below.

    gop: frames per GOP, as in the codec; the position in it is an input.
    """

    reads_ladder = False

    def __init__(self, *, width: int = 48, gop: int = 8, flow_net: FlowNet = OURS) -> None:
        super().__init__()
        self.gop, self.flow_net = gop, flow_net
        self.qp_embedding = nn.Linear(NUM_QPS, _EMBEDDING, bias=False)
        # A learned start, in which near QPs are alike, is quicker than 52 unrelated vectors.
        angles = torch.linspace(0, 1, NUM_QPS)[None] * torch.arange(1, _EMBEDDING + 1)[:, None]
        self.qp_embedding.weight.data.copy_(torch.cos(torch.pi * angles))
        condition = _EMBEDDING + 1 + len(FRAME_TYPES) + 1
        folded = 3 * _FOLD**2
        self.encode = nn.Conv2d(5 * folded, width, 3, padding=1)  # the frame, both references as seen from it and as coded
        self.fine = _ModulatedBlock(width, condition)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.deep = _ModulatedBlock(2 * width, condition)
        self.merge = nn.Conv2d(4 * width, 2 * width, 1)
        self.memory = _ConvGRU(2 * width)
        self.up = nn.Conv2d(2 * width, width, 3, padding=1)
        self.decode = _ModulatedBlock(width, condition)
        self.tail = nn.Conv2d(width, folded, 3, padding=1)
        self.bits = nn.Sequential(nn.Conv2d(2 * width + condition, width, 1), nn.SiLU(), nn.Conv2d(width, 1, 1))
        for parameter in self.tail.parameters():  # starts as a copy of the input, the trivial answer
            nn.init.zeros_(parameter)

    def analyse(self, sample: Sample) -> FrameAnalysis:
        """See `Surrogate.analyse`; the ladder is not used."""
        frames = as_float(sample["frames"])
        size = frames.shape[-2:]
        padding = (0, -size[1] % MACROBLOCK, 0, -size[0] % MACROBLOCK)
        padded = F.pad(frames.flatten(0, 1), padding, mode="replicate").unflatten(0, frames.shape[:2])
        order = coding_order(sample["frame_types"])
        return FrameAnalysis(padded, size, order, reference_motion(padded, order, self.flow_net), sample["frame_types"])

    def predict(self, analysis: FrameAnalysis, qp: torch.Tensor, *, frame_numbers: Sequence[int] | None = None) -> Prediction:
        """See `Surrogate.predict`; fewer frames are not faster here, as each is a reference of the next."""
        order = analysis.order
        b, t, _, height, width = analysis.frames.shape
        check_qp(qp, clips=(b, t, height // MACROBLOCK, width // MACROBLOCK))
        n = len(qp) // b
        rows = torch.arange(len(qp), device=qp.device)
        clips = rows // n
        coded: list[torch.Tensor] = []
        states: list[torch.Tensor] = []
        log_bits: list[torch.Tensor] = []
        for place in range(qp.shape[1]):
            frame = order.frame[clips, place]
            here = analysis.frames[clips, frame]
            seen, remembered = [], []
            for places, flow in zip((order.past, order.future), analysis.motion, strict=True):
                source = places[clips, place]
                has_reference = (source >= 0).to(here)[:, None, None, None]
                if coded:
                    # Input and prediction of the reference, a run-away of which cannot feed itself.
                    picture = torch.stack(coded, 1)[rows, source.clamp(min=0)].clamp(0, 1)
                    uncoded = analysis.frames[clips, order.frame[clips, source.clamp(min=0)]]
                    motion = flow[clips, frame]
                    aligned = warp(torch.cat([uncoded, picture], 1), motion)
                    state = torch.stack(states, 1)[rows, source.clamp(min=0)]
                    scale = motion.shape[-1] // state.shape[-1]
                    state = warp(state, F.avg_pool2d(motion, scale) / scale)
                    seen.append(has_reference * (aligned - torch.cat([here, here], 1)))
                    remembered.append(has_reference * state)
                else:
                    seen.append(here.new_zeros(len(here), 6, *here.shape[-2:]))
                    remembered.append(
                        here.new_zeros(len(here), self.merge.out_channels, here.shape[-2] // 8, here.shape[-1] // 8)
                    )
            picture, state, bits = self._frame(here, seen, remembered, self._condition(analysis, qp, rows, clips, frame))
            coded.append(picture)
            states.append(state)
            log_bits.append(bits)
        display = order.frame.argsort(1)[clips]
        frames = torch.stack(coded, 1)[rows[:, None], display][..., : analysis.size[0], : analysis.size[1]]
        if frame_numbers is not None:
            frames = frames[:, list(frame_numbers)]
        return Prediction(torch.stack(log_bits, 1)[rows[:, None], display], frames)

    def _condition(
        self, analysis: FrameAnalysis, qp: torch.Tensor, rows: torch.Tensor, clips: torch.Tensor, frame: torch.Tensor
    ) -> torch.Tensor:
        """(M, C, h, w): QP embedding, QP, frame type one-hot, position in the GOP."""
        frame_qp = qp[rows, frame]
        scaled_qp = frame_qp @ torch.linspace(-1, 1, NUM_QPS, device=frame_qp.device, dtype=frame_qp.dtype)
        kind = F.one_hot(analysis.frame_types[clips, frame], len(FRAME_TYPES)).to(frame_qp)
        place = torch.cat([kind, (frame[:, None] % self.gop).to(frame_qp) / self.gop], 1)
        grid = frame_qp.shape[1:3]
        return torch.cat(
            [
                self.qp_embedding(frame_qp).movedim(-1, 1),
                scaled_qp[:, None],
                repeat(place, "m c -> m c h w", h=grid[0], w=grid[1]),
            ],
            1,
        )

    def _frame(
        self, here: torch.Tensor, seen: list[torch.Tensor], remembered: list[torch.Tensor], condition: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Coded frame (M, 3, H, W), state (M, 2 width, H/8, W/8), log bits (M,)."""
        fine = self.fine(self.encode(F.pixel_unshuffle(torch.cat([here - 0.5, *seen], 1), _FOLD)), condition)
        deep = self.deep(self.down(fine), condition)
        state = self.memory(deep, self.merge(torch.cat(remembered, 1)))
        up = self.up(F.interpolate(state, scale_factor=2.0, mode="nearest"))
        residual = F.pixel_shuffle(self.tail(F.silu(self.decode(fine + up, condition))), _FOLD)
        per_macroblock = F.avg_pool2d(state, 2)
        bits = self.bits(torch.cat([per_macroblock, condition], 1)) + 4
        return here + residual, state, torch.logsumexp(bits.flatten(1), 1)


class _ModulatedBlock(nn.Module):
    """Residual block whose normalised features are scaled and shifted, place by place, by what is asked of the macroblock."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(1, channels, affine=False) for _ in range(2)])
        self.modulations = nn.ModuleList([nn.Conv2d(condition, 2 * channels, 3, padding=1) for _ in range(2)])
        self.convolutions = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)])

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """x (M, C, h k, w k) and condition (M, K, h, w)."""
        y = x
        for norm, modulation, convolution in zip(self.norms, self.modulations, self.convolutions, strict=True):
            scale, shift = F.interpolate(modulation(condition), y.shape[-2:], mode="nearest").chunk(2, 1)
            y = convolution(F.silu(norm(y) * (1 + scale) + shift))
        return x + y


class _ConvGRU(nn.Module):
    """Convolutional gated recurrent unit (Ballas et al., ICLR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return the new state from input and state, all (M, C, h, w)."""
        update, reset = self.gates(torch.cat([x, state], 1)).sigmoid().chunk(2, 1)
        return (1 - update) * state + update * torch.tanh(self.candidate(torch.cat([x, reset * state], 1)))
