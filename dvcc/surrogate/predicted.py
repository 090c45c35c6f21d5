"""The ladder without its encodes: every rung is what a surrogate predicts of a flat map."""

from __future__ import annotations

import torch

from dvcc._source import source_digest
from dvcc.clip import Clip
from dvcc.codecs import Codec
from dvcc.codecs.cache import EncodeCache
from dvcc.networks.weights import state_digest
from dvcc.surrogate.base import Surrogate, one_hot_qp
from dvcc.surrogate.ladder import Ladder, encode_ladder
from dvcc.units import macroblock_grid


class PredictedLadders:
    """Ladders that `surrogate` predicts, to be judged and read as encoded ones are.

    The task's network compares predictions several QPs apart. The slope of its loss at one of them says far less: it is mostly
    about that picture's own noise. surrogate: one that reads no ladder. key: what the rungs depend on.
    """

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate.eval().requires_grad_(False)
        code = source_digest(__name__, "dvcc.surrogate.structured", "dvcc.surrogate.network", within=("dvcc.surrogate",))
        self.key = f"{code} {state_digest(surrogate.state_dict())}"

    def of_clip(self, cache: EncodeCache, codec: Codec, clip: Clip, qps: tuple[int, ...]) -> Ladder:
        """Return the ladder of `clip` at `qps`, rising. One encode, at the last of them, tells the frame types."""
        return self.rungs(clip.frames, encode_ladder(cache, codec, clip, qps[-1:]).frame_types, qps)

    @torch.no_grad()
    def rungs(self, frames: torch.Tensor, frame_types: torch.Tensor, qps: tuple[int, ...]) -> Ladder:
        """Return the same of frames uint8 (T, 3, H, W) of known types int64 (T,)."""
        analysis = self.surrogate.analyse({"frames": frames[None], "frame_types": frame_types[None]})
        flat = torch.ones(1, len(frames), *macroblock_grid(*frames.shape[-2:]), dtype=torch.int64)
        coded, bits = [], []
        for qp in qps:
            predicted = self.surrogate.predict(analysis, one_hot_qp(qp * flat))
            coded.append((255 * predicted.frames[0]).round().clamp(0, 255).byte())
            bits.append(predicted.log_bits[0].exp())
        return Ladder(qps, torch.stack(coded), torch.stack(bits), frame_types)
