"""Samples for the two training stages, real encodes included, and the Lightning module that serves them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from dvcc import units
from dvcc.clip import Clip
from dvcc.codecs import ABR, Codec
from dvcc.codecs.cache import EncodeCache
from dvcc.qp import DEFAULT_RUNGS
from dvcc.surrogate.ladder import Ladder, encode_ladder
from dvcc.surrogate.random_maps import MEAN_QPS, maps_of_equal_mean

Sample = dict[str, torch.Tensor]

TARGET_QPS = (22, 46)
"""A training target lies between what the clip costs at these QPs: within reach, over the range where tasks move."""


def nearest_rung(rungs: Sequence[int], qp: int) -> int:
    """Index of the rung nearest to `qp`."""
    return min(range(len(rungs)), key=lambda k: abs(rungs[k] - qp))


class Clips(Protocol):
    """Clips by index: a `ClipDataset` or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class LadderSamples(Dataset[Sample]):
    """Clips with their ladder and groups of really coded random maps.

    An item is a dict: `clip` int64 (), its number in `clips`; `frames` uint8 (T, 3, H, W); `frame_types` int64 (T,), indices
    into `FRAME_TYPES` (the encoder decides them from the pictures, not from the QPs); `ladder_frames` uint8
    (R, T, 3, H, W); `ladder_bits` float (R, T).

    With maps_per_clip = N > 0 also one group of N maps of equal mean QP: `group` int64 (), its number; `qp` int64
    (N, T, h, w), `coded_bits` float (N, T), and `coded_frames` uint8 (P, T, 3, H, W) of the maps `shown` int64 (P,),
    P = maps_with_frames. The first map is flat. groups: such groups per clip, each of another mean QP. The bank of maps
    is finite, so the cache is hit from the second epoch.

    With baselines = K > 0 also x264's two-pass ABR at K rates, from what the clip costs near QP 46 to near QP 22:
    `baseline_qp` int64 (K, T, h, w), as read back, and `baseline_kbps` float (K,), as asked for.
    """

    def __init__(
        self,
        clips: Clips,
        *,
        codec: Codec,
        cache: EncodeCache,
        maps_per_clip: int = 0,
        groups: int = 1,
        maps_with_frames: int = 1,
        qps: tuple[int, ...] = DEFAULT_RUNGS,
        seed: int = 0,
        baselines: int = 0,
    ) -> None:
        self.baselines = baselines
        self.clips, self.codec, self.cache, self.qps, self.seed = clips, codec, cache, qps, seed
        self.maps_per_clip, self.groups, self.maps_with_frames = maps_per_clip, groups, min(maps_with_frames, maps_per_clip)

    def __len__(self) -> int:
        return len(self.clips) * (self.groups if self.maps_per_clip else 1)

    def __getitem__(self, index: int) -> Sample:
        clip_index, group = divmod(index, self.groups if self.maps_per_clip else 1)
        clip = self.clips[clip_index]
        ladder = encode_ladder(self.cache, self.codec, clip, self.qps)
        sample = {
            "clip": torch.tensor(clip_index),
            "frames": clip.frames,
            "frame_types": ladder.frame_types,
            "ladder_frames": ladder.frames,
            "ladder_bits": ladder.bits,
        }
        if self.maps_per_clip:
            sample |= self._maps(clip, group)
        return sample | self._baselines(clip, ladder) if self.baselines else sample

    def _baselines(self, clip: Clip, ladder: Ladder) -> Sample:
        fine, coarse = (float(ladder.bits[nearest_rung(ladder.qps, qp)].sum()) for qp in TARGET_QPS)
        bits = np.geomspace(coarse, fine, self.baselines)
        kbps = [max(1.0, units.kbps(float(b), num_frames=clip.num_frames, fps=clip.fps)) for b in bits]
        coded = [self.cache.encode(self.codec, clip, ABR(rate)) for rate in kbps]
        maps = np.stack([one.realised_qp().values.astype(np.int64) for one in coded])
        return {"baseline_qp": torch.from_numpy(maps), "baseline_kbps": torch.tensor(kbps)}

    def _maps(self, clip: Clip, group: int) -> Sample:
        """What depends on (seed, clip, group) alone."""
        key = hashlib.sha256(f"{self.seed} {clip.digest} {group}".encode()).digest()
        rng = np.random.default_rng(list(key[:8]))
        mean_qp = int(rng.integers(*MEAN_QPS, endpoint=True))
        maps = maps_of_equal_mean(clip, rng, mean_qp=mean_qp, count=self.maps_per_clip)
        coded = [self.cache.encode(self.codec, clip, qp) for qp in maps]
        # The flat map is as good as on the ladder: it is shown last.
        shown = [(1 + i) % len(maps) for i in range(self.maps_with_frames)]
        return {
            "group": torch.tensor(group),
            "qp": torch.from_numpy(np.stack([qp.values for qp in maps]).astype(np.int64)),
            "coded_bits": torch.from_numpy(np.stack([one.bits_per_frame for one in coded])).float(),
            "shown": torch.tensor(shown),
            "coded_frames": torch.stack([coded[i].frames for i in shown]),
        }


class ClipFrames(Dataset[Sample]):
    """Clips alone, `clip` and `frames` as in `LadderSamples`, kept in memory: for a training that keeps what it knows of their
    ladders, too."""

    def __init__(self, samples: LadderSamples) -> None:
        self.clips = samples.clips
        self._frames: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._frames:
            self._frames[index] = self.clips[index].frames
        return {"clip": torch.tensor(index), "frames": self._frames[index]}
