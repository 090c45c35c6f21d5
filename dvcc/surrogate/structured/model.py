"""The structured surrogate: H.264's own steps as layers, few learned numbers where the standard leaves the encoder free.

Frame by frame in coding order: prediction from the predicted references, or from the frame itself; residual; transform;
quantisation; bits; deblocking. No real encode: motion is searched once per clip, and frame types are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from dvcc.errors import ConfigError
from dvcc.pixels import as_float
from dvcc.surrogate.base import Prediction, Sample, Surrogate, check_qp, mean_qp
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.references import CodingOrder, coding_order
from dvcc.surrogate.structured.correction import PlaneCorrection
from dvcc.surrogate.structured.deblocking import deblock
from dvcc.surrogate.structured.entropy import Counted, EntropyModel
from dvcc.surrogate.structured.intra import Intra, IntraPrediction
from dvcc.surrogate.structured.motion import Fields, block_motion, sample, sampling_grid, upsample
from dvcc.surrogate.structured.planes import CodedResidual, ResidualCoder
from dvcc.surrogate.structured.prediction import rgb_difference, to_planes
from dvcc.surrogate.structured.transform import chroma_qp
from dvcc.surrogate.transform import quantizer_step
from dvcc.units import MACROBLOCK

_INTRA = FRAME_TYPES.index("I")
_INTRA_COST = 0.35
"""Of quantiser steps, mean absolute error that a prediction from the own frame must save over one from others: its modes cost."""

_MUCH_INTRA = 0.1  # of the macroblocks of a P or B frame


@dataclass(frozen=True, eq=False)
class StructuredAnalysis:
    """What does not depend on QPs, of B clips of T frames.

    frames: float (B, T, 3, H, W), as given. luma, chroma: (B, T, H', W'), (B, T, 2, H'/2, W'/2), padded to whole macroblocks.
    past, future: vectors (B, T, ..) to the references. intra: modes and errors of predictions from the frame.
    """

    frames: torch.Tensor
    frame_types: torch.Tensor
    order: CodingOrder
    luma: torch.Tensor
    chroma: torch.Tensor
    past: Fields
    future: Fields
    intra: Intra


@dataclass(frozen=True, eq=False)
class _Coded:
    """A coded frame of M maps: planes, the half pixels of luma, the prediction that they came from."""

    luma: torch.Tensor
    chroma: torch.Tensor
    halves: torch.Tensor
    predicted: tuple[torch.Tensor, torch.Tensor]


class StructuredSurrogate(Surrogate[StructuredAnalysis]):
    """gop: frames per GOP, as in the codec it was fitted for. width: channels of the correction; as many in the entropy model."""

    reads_ladder = False

    def __init__(self, *, gop: int, width: int = 24) -> None:
        super().__init__()
        self.gop = gop
        self.residual = ResidualCoder()
        self.intra = IntraPrediction()
        self.entropy = EntropyModel(width)
        self.correction = PlaneCorrection(width)

    @torch.no_grad()
    def analyse(self, sample: Sample) -> StructuredAnalysis:
        """See `Surrogate.analyse`; the ladder is not used. Raises `ConfigError` for frame types of another GOP."""
        types = sample["frame_types"]
        self._check_types(types)
        frames = as_float(sample["frames"])
        b, t, _, height, width = frames.shape
        padding = (0, -width % MACROBLOCK, 0, -height % MACROBLOCK)
        luma, chroma = to_planes(F.pad(frames.flatten(0, 1), padding, mode="replicate"))
        intra = self.intra.analyse(luma, chroma)
        luma, chroma = luma.unflatten(0, (b, t)), chroma.unflatten(0, (b, t))
        order = coding_order(types)
        past, future = (_vectors(luma, order, places) for places in order[1:])
        return StructuredAnalysis(frames, types, order, luma, chroma, past, future, intra.unflatten((b, t)))

    def predict(
        self, analysis: StructuredAnalysis, qp: torch.Tensor, *, frame_numbers: Sequence[int] | None = None
    ) -> Prediction:
        """See `Surrogate.predict`; fewer frames are hardly faster here, as each is a reference of the next."""
        b, t, height, width = analysis.luma.shape
        check_qp(qp, clips=(b, t, height // MACROBLOCK, width // MACROBLOCK))
        level = mean_qp(qp)
        rows = torch.arange(len(qp), device=qp.device)
        clips = rows // (len(qp) // b)
        order = analysis.order
        coded: list[_Coded] = []
        bits: list[torch.Tensor] = []
        for place in range(t):
            frame = order.frame[clips, place]
            # What is learned comes after the layers: they need a gradient only for the QPs'.
            with torch.set_grad_enabled(torch.is_grad_enabled() and qp.requires_grad):
                one, counted = self._frame(analysis, clips, frame, place, level[rows, frame], coded)
            spent = self.entropy(counted)
            coded.append(one)
            bits.append(torch.log(spent))
        display = order.frame.argsort(1)[clips]
        log_bits = torch.stack(bits, 1)[rows[:, None], display]
        chosen = list(range(t)) if frame_numbers is None else list(frame_numbers)
        return Prediction(log_bits, self._shown(analysis, clips, level, coded, display, chosen))

    def _check_types(self, types: torch.Tensor) -> None:
        wanted = torch.arange(types.shape[1], device=types.device) % self.gop == 0
        if not torch.equal((types == _INTRA), wanted.expand(len(types), -1)):
            said = ", ".join("".join(FRAME_TYPES[int(k)] for k in clip) for clip in types)
            raise ConfigError(
                f"this surrogate was made for an I frame every {self.gop}, and the frame types are {said}: "
                f"take clips of codec.gop={self.gop} from their first frame on, or build one for this GOP"
            )

    def _frame(
        self,
        analysis: StructuredAnalysis,
        clips: torch.Tensor,
        frame: torch.Tensor,
        place: int,
        qp: torch.Tensor,
        coded: list[_Coded],
    ) -> tuple[_Coded, Counted]:
        """One frame of M maps, and what its bits are counted from."""
        kind = analysis.frame_types[clips, frame]
        luma, chroma = analysis.luma[clips, frame], analysis.chroma[clips, frame]
        intra = analysis.intra.at(clips, frame)
        if bool((kind[:1] == _INTRA).all()):  # of all: see _check_types
            return self._intra_frame(luma, chroma, intra, qp, kind)
        places = [x[clips, place] for x in (analysis.order.past, analysis.order.future)]
        vectors = [Fields(*(part[clips, frame] for part in x)).at(qp) for x in (analysis.past, analysis.future)]
        predicted, error, motion = self._inter(luma, coded, places, vectors)
        step = quantizer_step(qp.detach())
        own = (intra.error + _INTRA_COST * step < error).to(luma)
        pixels = own.repeat_interleave(MACROBLOCK, -2).repeat_interleave(MACROBLOCK, -1) > 0
        predicted = (
            torch.where(pixels, intra.luma, predicted[0]),
            torch.where(pixels[:, None, ::2, ::2], intra.chroma, predicted[1]),
        )
        side = torch.where(own > 0, intra.side(qp), 0)
        # A cut, or much that is new: then what the neighbours really are matters, as in an I frame.
        much = own.mean((1, 2)) > _MUCH_INTRA
        if bool(much.any()):
            closer = self._from_coarse(luma, chroma, predicted, intra, qp, kind, own, side)
            inside = pixels & much[:, None, None]
            predicted = (
                torch.where(inside, closer[0], predicted[0]),
                torch.where(inside[:, None, ::2, ::2], closer[1], predicted[1]),
            )
        return self._reconstruct(luma, chroma, predicted, qp, kind, own, side, motion)

    def _intra_frame(
        self, luma: torch.Tensor, chroma: torch.Tensor, intra: Intra, qp: torch.Tensor, kind: torch.Tensor
    ) -> tuple[_Coded, Counted]:
        side, own = intra.side(qp), torch.ones_like(qp)
        predicted = self.intra.predict(luma, chroma, intra, side)
        predicted = self._from_coarse(luma, chroma, predicted, intra, qp, kind, own, side)
        still = luma.new_zeros(len(luma), 2, luma.shape[1] // 8, luma.shape[2] // 8)
        return self._reconstruct(luma, chroma, predicted, qp, kind, own, side, still)

    def _from_coarse(
        self, luma: torch.Tensor, chroma: torch.Tensor, predicted: tuple[torch.Tensor, torch.Tensor], intra: Intra,
        qp: torch.Tensor, kind: torch.Tensor, own: torch.Tensor, side: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Predictions from the neighbours in what comes of coding with `predicted`: nearly those that a decoder has."""
        coded = self._coders(luma, chroma, predicted, qp, kind, own, side)
        coarse = [(plane + one.plane).clamp(0, 1) for plane, one in zip(predicted, coded, strict=True)]
        return self.intra.predict(coarse[0], coarse[1], intra, side)

    def _inter(
        self, luma: torch.Tensor, coded: list[_Coded], places: list[torch.Tensor], vectors: list[torch.Tensor]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Predicted planes, mean absolute error (M, h, w) of luma, and the vectors (M, 2, H/8, W/8) of what was chosen: of both
        references and their mean the best for every block of 8."""
        rows = torch.arange(len(luma), device=luma.device)
        options: list[tuple[torch.Tensor, torch.Tensor]] = []
        for source, vector in zip(places, vectors, strict=True):
            if not bool((source >= 0).any()):
                continue
            used = sorted({int(s) for s in source.clamp(min=0)})
            halves, chroma = (
                getattr(coded[used[0]], name) if len(used) == 1 else
                torch.stack([getattr(one, name) for one in coded], 1)[rows, source.clamp(min=0)]
                for name in ("halves", "chroma")
            )  # fmt: skip
            grid = sampling_grid(vector)
            moved = sample(halves[:, None], grid, scale=2)[:, 0]
            of_chroma = sample(chroma, grid[:, ::2, ::2], scale=0.5)
            if options:  # a frame without this reference takes the other one twice
                there = (source >= 0)[:, None, None]
                moved = torch.where(there, moved, options[0][0])
                of_chroma = torch.where(there[..., None], of_chroma, options[0][1])
            options.append((moved, of_chroma))
        chosen, motion = options[0], vectors[0]
        error = _block_error(luma, chosen[0])
        if len(options) > 1:
            both = (options[0][0] + options[1][0]) / 2, (options[0][1] + options[1][1]) / 2
            for candidate, vector in ((options[1], vectors[1]), (both, vectors[0])):
                other = _block_error(luma, candidate[0])
                better = other < error
                error = torch.minimum(error, other)
                motion = torch.where(better[:, None], vector, motion)
                fine = better.repeat_interleave(4, -2).repeat_interleave(4, -1)
                chosen = (
                    torch.where(fine.repeat_interleave(2, -2).repeat_interleave(2, -1), candidate[0], chosen[0]),
                    torch.where(fine[:, None], candidate[1], chosen[1]),
                )
        return chosen, F.avg_pool2d(error[:, None], 2)[:, 0], motion

    def _coders(
        self, luma: torch.Tensor, chroma: torch.Tensor, predicted: tuple[torch.Tensor, torch.Tensor], qp: torch.Tensor,
        kind: torch.Tensor, intra: torch.Tensor, side: torch.Tensor
    ) -> tuple[CodedResidual, CodedResidual]:  # fmt: skip
        of_luma = self.residual.luma(luma - predicted[0], qp, kind, intra, side)
        return of_luma, self.residual.chroma(chroma - predicted[1], qp, kind, intra)

    def _reconstruct(
        self, luma: torch.Tensor, chroma: torch.Tensor, predicted: tuple[torch.Tensor, torch.Tensor], qp: torch.Tensor,
        kind: torch.Tensor, intra: torch.Tensor, side: torch.Tensor, motion: torch.Tensor
    ) -> tuple[_Coded, Counted]:  # fmt: skip
        of_luma, of_chroma = self._coders(luma, chroma, predicted, qp, kind, intra, side)
        strengths = _strengths(of_luma.levels, intra, motion)
        fine = qp.repeat_interleave(2, -2).repeat_interleave(2, -1)
        y = deblock((predicted[0] + of_luma.plane).clamp(0, 1), qp=fine, strength_x=strengths[0], strength_y=strengths[1], side=8)
        uv = (predicted[1] + of_chroma.plane).clamp(0, 1).flatten(0, 1)
        twice = [x.repeat_interleave(2, 0) for x in (chroma_qp(fine), *strengths)]
        uv = deblock(uv, qp=twice[0], strength_x=twice[1], strength_y=twice[2], side=4).unflatten(0, (-1, 2))
        difference = torch.log2(1 + _vector_steps(motion)).sum(1)
        counts = torch.cat([of_luma.counts, of_chroma.counts], 1)
        small = (side == 4).to(luma)
        return _Coded(y, uv, upsample(y), predicted), Counted(counts, qp, kind, difference, intra, small)

    def _shown(
        self, analysis: StructuredAnalysis, clips: torch.Tensor, level: torch.Tensor, coded: list[_Coded], display: torch.Tensor,
        shown: list[int]
    ) -> torch.Tensor:  # fmt: skip
        """(M, S, 3, H, W)."""
        m, size = len(level), analysis.frames.shape[-2:]
        if not shown:
            return level.new_zeros(m, 0, 3, *size)
        rows = torch.arange(m, device=level.device)[:, None]
        places = display[:, shown]

        def pick(planes: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack(planes, 1)[rows, places].flatten(0, 1)

        pair = pick([one.luma for one in coded]), pick([one.chroma for one in coded])
        predicted = pick([one.predicted[0] for one in coded]), pick([one.predicted[1] for one in coded])
        source = (x[clips][:, shown].flatten(0, 1) for x in (analysis.luma, analysis.chroma))
        luma, chroma = source
        kind = analysis.frame_types[clips][:, shown].flatten()
        added = self.correction(pair, predicted, (luma, chroma), level[:, shown].flatten(0, 1), kind)
        # As a difference to the source: what 4:2:0 and back takes is in the source already.
        difference = rgb_difference(pair[0] + added[0] - luma, pair[1] + added[1] - chroma)
        frames = analysis.frames[clips][:, shown].flatten(0, 1)
        return (frames + difference[..., : size[0], : size[1]]).clamp(0, 1).unflatten(0, (m, len(shown)))


def _vectors(luma: torch.Tensor, order: CodingOrder, places: torch.Tensor) -> Fields:
    """Of every frame (B, T) to the reference in `places`, display order; 0 where it has none."""
    b, t, height, width = luma.shape
    h, w = height // MACROBLOCK, width // MACROBLOCK
    fields = Fields(luma.new_zeros(b, t, 3, 2, 2 * h, 2 * w), *(luma.new_zeros(b, t, 3, h, w) for _ in range(2)))
    clips, positions = torch.nonzero(places >= 0, as_tuple=True)
    if len(clips):
        here, there = order.frame[clips, positions], order.frame[clips, places[clips, positions]]
        found = block_motion(luma[clips, here], luma[clips, there])
        for field, values in zip(fields, found, strict=True):
            field[clips, here] = values
    return fields


def _block_error(luma: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """(M, H/8, W/8): mean absolute error, without gradient: a choice."""
    return F.avg_pool2d((luma - predicted.detach()).abs()[:, None], 8)[:, 0]


def _vector_steps(motion: torch.Tensor) -> torch.Tensor:
    """(M, 2, h, w): what the vectors of a macroblock differ by from those of the one before, in quarter pixels."""
    mean = F.avg_pool2d(motion, 2)
    return 4 * F.pad(mean[..., 1:] - mean[..., :-1], (1, 0)).abs()


def _strengths(levels: torch.Tensor, intra: torch.Tensor, motion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Strengths (M, H/8, W/8) of the edges to the left of blocks of 8, and above: 4 and 3 for intra at and within a macroblock, 2
    with levels, 1 between unlike vectors (8.7.2.1)."""
    m, h, w, _ = levels.shape
    coded = levels.view(m, h, w, 2, 2).movedim(3, 2).reshape(m, 2 * h, 2 * w) > 0.5
    own = intra.repeat_interleave(2, -2).repeat_interleave(2, -1) > 0
    found = []
    for dim in (-1, -2):
        before = [x.roll(1, dim) for x in (coded, own)]
        moved = ((motion - motion.roll(1, dim)).abs() >= 1).any(1)
        strength = torch.where(coded | before[0], 2, torch.where(moved, 1, 0))
        outer = torch.arange(strength.shape[dim], device=levels.device) % 2 == 0
        outer = outer if dim == -1 else outer[:, None]
        found.append(torch.where(own | before[1], torch.where(outer, 4, 3), strength).to(levels))
    return found[0], found[1]
