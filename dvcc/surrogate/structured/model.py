"""The structured surrogate: H.264's own steps as layers, few learned numbers where the standard leaves the encoder free.

Frame by frame in coding order: prediction from the predicted references, or from the frame itself; residual; transform;
quantisation; bits; deblocking. No real encode: motion is searched once per clip, and frame types are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from dvcc.errors import ConfigError
from dvcc.pixels import as_float
from dvcc.surrogate.base import GroupPredictor, Prediction, Sample, Surrogate, check_qp, mean_qp
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.references import CodingOrder, coding_order
from dvcc.surrogate.structured.coding import INTRA, Coded, Frame, FrameCoder
from dvcc.surrogate.structured.correction import PlaneCorrection
from dvcc.surrogate.structured.entropy import Counted, EntropyModel
from dvcc.surrogate.structured.intra import Intra
from dvcc.surrogate.structured.motion import Fields, block_motion
from dvcc.surrogate.structured.prediction import rgb_difference, to_planes
from dvcc.units import MACROBLOCK


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


class Planes(NamedTuple):
    """Coded planes of S frames of M maps, (M, S, H', W') and (M, S, 2, H'/2, W'/2), and the predictions that they came from."""

    luma: torch.Tensor
    chroma: torch.Tensor
    predicted_luma: torch.Tensor
    predicted_chroma: torch.Tensor


class StructuredSurrogate(Surrogate[StructuredAnalysis]):
    """gop: frames per GOP, as in the codec it was fitted for. width: channels of the correction; as many in the entropy model."""

    reads_ladder = False

    def __init__(self, *, gop: int, width: int = 24) -> None:
        super().__init__()
        self.gop = gop
        self.coder = FrameCoder()
        self.entropy = EntropyModel(width)
        self.correction = PlaneCorrection(width)

    @torch.no_grad()
    def analyse(self, sample: Sample) -> StructuredAnalysis:
        """See `Surrogate.analyse`; the ladder is not used. Raises `ConfigError` for frame types of another GOP."""
        types = sample["frame_types"]
        self._check_types(types)
        frames = as_float(sample["frames"])
        b, t = frames.shape[:2]
        luma, chroma = padded_planes(frames.flatten(0, 1))
        intra = self.coder.intra.analyse(luma, chroma)
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
        chosen = list(range(t)) if frame_numbers is None else list(frame_numbers)
        level = mean_qp(qp)
        # What is learned comes after the layers: they need a gradient only for the QPs'.
        with torch.set_grad_enabled(torch.is_grad_enabled() and qp.requires_grad):
            counted, planes = self.layers(analysis, level, shown=chosen)
        log_bits = self.log_bits(counted, frames=t)
        if planes is None:
            return Prediction(log_bits, level.new_zeros(len(qp), 0, *analysis.frames.shape[2:]))
        whole = chosen == list(range(t))
        of_clips = (analysis.frames, analysis.luma, analysis.chroma, analysis.frame_types)
        source, luma, chroma, kind = (_of_maps(x if whole else x[:, chosen], len(qp)) for x in of_clips)
        return Prediction(log_bits, self.frames(planes, source, (luma, chroma), level[:, chosen], kind))

    def layers(self, analysis: StructuredAnalysis, level: torch.Tensor, *, shown: Sequence[int]) -> tuple[Counted, Planes | None]:
        """Return what coding at QPs (M, T, h, w) comes to, before anything that is learned.

        First, of all M x T frames, display order, what their bits are counted from. Then, of those `shown`, the planes, None
        without any.
        """
        m, t = level.shape[:2]
        rows = torch.arange(m, device=level.device)
        clips = rows // (m // len(analysis.luma))
        order = analysis.order
        coded: list[Coded] = []
        counted: list[Counted] = []
        for place in range(t):
            number = order.frame[clips, place]
            qp = level[rows, number]

            def of(x: torch.Tensor, clips: torch.Tensor = clips, number: torch.Tensor = number) -> torch.Tensor:
                if len(x) == 1:  # all maps are of one clip, and share what they do not change
                    return x[0, number[0]].expand(len(clips), *x.shape[2:])
                return x[clips, number]

            past, future = (Fields(*map(of, fields)).at(qp) for fields in (analysis.past, analysis.future))
            frame = Frame(
                of(analysis.luma),
                of(analysis.chroma),
                of(analysis.frame_types),
                analysis.intra.each(of),
                (order.past[clips, place], order.future[clips, place]),
                (past, future),
            )
            one, counts = self.coder(frame, qp, coded)
            coded.append(one)
            counted.append(counts)
        display = order.frame.argsort(1)[clips]
        in_display = Counted(*(_picked(part, display).flatten(0, 1) for part in zip(*counted, strict=True)))
        if not shown:
            return in_display, None
        of_frame = [(one.luma, one.chroma, *one.predicted) for one in coded]
        return in_display, Planes(*(_picked(part, display[:, list(shown)]) for part in zip(*of_frame, strict=True)))

    def log_bits(self, counted: Counted, *, frames: int) -> torch.Tensor:
        """Log bits (M, T) of M x T counted frames."""
        return torch.log(self.entropy(counted)).unflatten(0, (-1, frames))

    def frames(
        self,
        planes: Planes,
        source: torch.Tensor,
        source_planes: tuple[torch.Tensor, torch.Tensor],
        level: torch.Tensor,
        kind: torch.Tensor,
    ) -> torch.Tensor:
        """Pictures (M, S, 3, H, W) of coded planes, corrected.

        source: those before coding, and their planes, of the same S frames. level: QPs (M, S, h, w). kind: frame types (M, S).
        """
        luma, chroma, *predicted = (x.flatten(0, 1) for x in planes)
        own = source_planes[0].flatten(0, 1), source_planes[1].flatten(0, 1)
        added = self.correction((luma, chroma), tuple(predicted), own, level.flatten(0, 1), kind.flatten())
        # As a difference to the source: what 4:2:0 and back takes is in the source already.
        difference = rgb_difference(luma + added[0] - own[0], chroma + added[1] - own[1])
        height, width = source.shape[-2:]
        return (source + difference[..., :height, :width].view_as(source)).clamp(0, 1)

    def group_predictor(self, sample: Sample) -> GroupPredictor:
        """See `Surrogate.group_predictor`. With what `LayerSamples` keeps, the layers are not run again."""
        if "layer_counts" not in sample:
            return super().group_predictor(sample)
        at = sample["layer_at"][0].tolist()
        with_planes = sample["shown"][0].tolist()

        def predict(maps: torch.Tensor, shown: Sequence[int]) -> Prediction:
            qp, types = sample["qp"][:, maps].float(), sample["frame_types"]
            b, n, t = qp.shape[:3]
            kind = types[:, None].expand(-1, n, -1)
            counts, vectors, intra, small = (
                sample[f"layer_{name}"][:, maps].flatten(0, 2).float() for name in ("counts", "vectors", "intra", "small")
            )
            counted = Counted(counts, qp.flatten(0, 2), kind.flatten(), vectors, intra, small)
            log_bits = self.log_bits(counted, frames=t)
            if not shown:
                return Prediction(log_bits, qp.new_zeros(b * n, 0, *sample["frames"].shape[2:]))
            numbers = [with_planes.index(k) for k in maps.tolist()]
            stored = [at.index(k) for k in shown]
            names = (f"layer_{name}" for name in Planes._fields)
            planes = Planes(*(sample[name][:, numbers][:, :, stored].flatten(0, 1).float() for name in names))
            frames = as_float(sample["frames"][:, shown])
            own = [x.unflatten(0, frames.shape[:2]) for x in padded_planes(frames.flatten(0, 1))]
            source, luma, chroma = (x.repeat_interleave(n, 0) for x in (frames, *own))
            level, kinds = qp[:, :, shown].flatten(0, 1), kind[:, :, shown].flatten(0, 1)
            return Prediction(log_bits, self.frames(planes, source, (luma, chroma), level, kinds))

        return predict

    def _check_types(self, types: torch.Tensor) -> None:
        wanted = torch.arange(types.shape[1], device=types.device) % self.gop == 0
        if not torch.equal((types == INTRA), wanted.expand(len(types), -1)):
            said = ", ".join("".join(FRAME_TYPES[int(k)] for k in clip) for clip in types)
            raise ConfigError(
                f"this surrogate was made for an I frame every {self.gop}, and the frame types are {said}: "
                f"take clips of codec.gop={self.gop} from their first frame on, or build one for this GOP"
            )


def _of_maps(x: torch.Tensor, count: int) -> torch.Tensor:
    """Return what clips (B, ..) have for each of so many maps, those of a clip in a row."""
    return x.expand(count, *x.shape[1:]) if len(x) == 1 else x.repeat_interleave(count // len(x), 0)


def _picked(parts: Sequence[torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """(M, S, ..): of tensors (M, ..) those at `places` int64 (M, S)."""
    if bool((places == places[:1]).all()):
        return torch.stack([parts[k] for k in places[0].tolist()], 1)
    return torch.stack(list(parts), 1)[torch.arange(len(places), device=places.device)[:, None], places]


def padded_planes(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luma (N, H', W') and chroma (N, 2, H'/2, W'/2) of pictures (N, 3, H, W) 0..1, padded to whole macroblocks."""
    height, width = frames.shape[-2:]
    return to_planes(F.pad(frames, (0, -width % MACROBLOCK, 0, -height % MACROBLOCK), mode="replicate"))


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
