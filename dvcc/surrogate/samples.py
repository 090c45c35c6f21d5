"""Samples of both training stages: clips with their ladders, real encodes of random maps, and x264's own maps."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import torch
from torch.utils.data import Dataset

from dvcc import units
from dvcc.clip import Clip
from dvcc.codecs import ABR, Codec
from dvcc.codecs.cache import EncodeCache
from dvcc.pixels import as_float
from dvcc.qp import DEFAULT_RUNGS
from dvcc.surrogate import random_maps
from dvcc.surrogate.base import log_coding_error
from dvcc.surrogate.ladder import Ladder, encode_ladder
from dvcc.surrogate.predicted import PredictedLadders
from dvcc.surrogate.random_maps import MEAN_QPS, maps_of_equal_mean
from dvcc.surrogate.store import SampleStore

Sample = dict[str, torch.Tensor]

TARGET_QPS = (22, 46)
"""A training target lies between what the clip costs at these QPs: within reach, over the range where tasks move."""

_FORMAT = 1


def nearest_rung(rungs: Sequence[int], qp: int) -> int:
    """Index of the rung nearest to `qp`."""
    return min(range(len(rungs)), key=lambda k: abs(rungs[k] - qp))


class Clips(Protocol):
    """Clips by index: a `ClipDataset` or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class LadderSamples(Dataset[Sample]):
    """Clips with their ladder and groups of really coded random maps.

    An item is a dict: `clip` int64 (), its number in `clips`; `fps` float (); `frames` uint8 (T, 3, H, W); `frame_types` int64
    (T,), indices into `FRAME_TYPES` (the encoder decides them from the pictures, not from the QPs); `ladder_bits` float (R, T);
    `ladder_log_error` float (R, T, h, w), the `log_coding_error` of every rung; `ladder_frames` uint8 (R, T, 3, H, W).

    With maps_per_clip = N > 0 also one group of N maps of equal mean QP: `group` int64 (), its number; `qp` int64
    (N, T, h, w), `coded_bits` float (N, T), and `coded_frames` uint8 (P, T, 3, H, W) of the maps `shown` int64 (P,),
    P = maps_with_frames. The first map is flat. groups: such groups per clip, each of another mean QP, within `mean_qps`. The
    bank of maps is finite, so the cache is hit from the second epoch.

    With baselines = K > 0 also x264's two-pass ABR at K rates, from what the clip costs near QP 46 to near QP 22:
    `baseline_qp` int64 (K, T, h, w), as read back, and `baseline_kbps` float (K,), as asked for.

    predicted: who makes the ladders; None: the codec.

    store: where all of this is kept, decoded; `ladder_frames`, by far the largest part, only with `store_pixels`.
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
        store_pixels: bool = False,
        store: SampleStore | None = None,
        mean_qps: tuple[int, int] = MEAN_QPS,
        predicted: PredictedLadders | None = None,
    ) -> None:
        self.clips, self.codec, self.cache, self.qps, self.seed = clips, codec, cache, qps, seed
        self.baselines, self.store_pixels, self.store = baselines, store_pixels, store or SampleStore(None)
        self.maps_per_clip, self.groups = maps_per_clip, groups if maps_per_clip else 1
        self.maps_with_frames, self.mean_qps = min(maps_with_frames, maps_per_clip), mean_qps
        self.predicted = predicted
        self._digests: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.clips) * self.groups

    def __getitem__(self, index: int) -> Sample:
        return {**self.without_pixels(index), "ladder_frames": self.ladder_frames(index // self.groups)}

    def without_pixels(self, index: int) -> Sample:
        """Return an item without `ladder_frames`."""
        clip, group = divmod(index, self.groups)
        sample = {"clip": torch.tensor(clip), **self._clip(clip)}
        if self.maps_per_clip:
            maps = self.store.get(self._words(clip, "maps", group), lambda: self._maps(clip, group))
            sample |= {"group": torch.tensor(group), **maps, "qp": maps["qp"].long()}
        if self.baselines:
            baselines = self.store.get(self._words(clip, "baselines"), lambda: self._baselines(clip, sample["ladder_bits"]))
            sample |= {**baselines, "baseline_qp": baselines["baseline_qp"].long()}
        return sample

    def digest(self, clip: int) -> str:
        """SHA-256 of a clip's content. With a store, a clip of a video that has not changed is not read for it."""
        if clip not in self._digests:
            identity = getattr(self.clips, "identity", None)
            if identity is None:
                self._digests[clip] = self.clips[clip].digest
            else:
                words = [_FORMAT, "digest", identity(clip)]
                stored = self.store.get(words, lambda: {"digest": _as_bytes(self.clips[clip].digest)})
                # of a damaged file it is another key, under which the same is made again
                self._digests[clip] = bytes(stored["digest"].tolist()).decode(errors="replace")
        return self._digests[clip]

    def ladder_frames(self, clip: int, rungs: slice = slice(None)) -> torch.Tensor:
        """uint8 (R', T, 3, H, W): the decoded `rungs` of a clip, as a memory map when they are stored."""
        if not self.store_pixels:
            return self._ladder(clip, rungs).frames
        stored = self.store.get(self._words(clip, "pixels"), lambda: {"ladder_frames": self._ladder(clip).frames})
        return stored["ladder_frames"][rungs]

    def store_clip(self, clip: int) -> None:
        """Encode, decode and keep all items of a clip."""
        for group in range(self.groups):
            self.without_pixels(clip * self.groups + group)
        if self.store_pixels:
            self.ladder_frames(clip)

    def group_words(self, index: int) -> list[object]:
        """Return what the maps of an item depend on, for what is made of them."""
        clip, group = divmod(index, self.groups)
        return self._words(clip, "maps", group)

    @property
    def ladder_words(self) -> list[object]:
        """Return what the ladders depend on besides clip and codec."""
        return [self.qps] if self.predicted is None else [self.qps, self.predicted.key]

    def is_stored(self, clip: int) -> bool:
        """Whether all items of a clip can be read from the store."""
        return all(self.store.has(words) for words in self.entries(clip))

    def paths(self, clip: int) -> list[Path]:
        """Return the files of a clip in the store."""
        return [self.store.path(words) for words in self.entries(clip)]

    def entries(self, clip: int) -> list[list[object]]:
        """Return what each entry of a clip in the store depends on."""
        entries = [self._words(clip, "clip")]
        entries += [self._words(clip, "pixels")] * self.store_pixels
        entries += [self._words(clip, "baselines")] * bool(self.baselines)
        return entries + [self._words(clip, "maps", group) for group in range(self.groups)] * bool(self.maps_per_clip)

    def _words(self, clip: int, kind: str, group: object = None) -> list[object]:
        """Return what an entry of the store depends on."""
        words: list[object] = [_FORMAT, kind, self.digest(clip), self.codec, av.ffmpeg_version_info]
        if kind == "maps":
            drawn = [self.mean_qps] if self.mean_qps != MEAN_QPS else []
            return [*words, self.seed, group, self.maps_per_clip, self.maps_with_frames, _maps_source(), *drawn]
        return [*words, *self.ladder_words, self.baselines if kind == "baselines" else None]

    def _clip(self, clip: int) -> Sample:
        return self.store.get(self._words(clip, "clip"), lambda: self._analyse(clip))

    def _analyse(self, clip: int) -> Sample:
        source, ladder = self.clips[clip], self._ladder(clip)
        if self.store_pixels:  # decoded once for both
            self.store.get(self._words(clip, "pixels"), lambda: {"ladder_frames": ladder.frames})
        frames = as_float(source.frames)
        return {
            "fps": torch.tensor(float(source.fps)),
            "frames": source.frames,
            "frame_types": ladder.frame_types,
            "ladder_bits": ladder.bits,
            "ladder_log_error": torch.stack([log_coding_error(as_float(rung), frames) for rung in ladder.frames]),
        }

    def _ladder(self, clip: int, rungs: slice = slice(None)) -> Ladder:
        make = encode_ladder if self.predicted is None else self.predicted.of_clip
        return make(self.cache, self.codec, self.clips[clip], self.qps[rungs])

    def _baselines(self, clip: int, ladder_bits: torch.Tensor) -> Sample:
        source = self.clips[clip]
        fine, coarse = (float(ladder_bits[nearest_rung(self.qps, qp)].sum()) for qp in TARGET_QPS)
        bits = np.geomspace(coarse, fine, self.baselines)
        kbps = [max(1.0, units.kbps(float(b), num_frames=source.num_frames, fps=source.fps)) for b in bits]
        coded = [self.cache.encode(self.codec, source, ABR(rate)) for rate in kbps]
        maps = np.stack([encode.realised_qp().values.astype(np.uint8) for encode in coded])
        return {"baseline_qp": torch.from_numpy(maps), "baseline_kbps": torch.tensor(kbps)}

    def _maps(self, clip: int, group: int) -> Sample:
        """Return what depends on (seed, clip, group) alone."""
        source = self.clips[clip]
        key = hashlib.sha256(f"{self.seed} {source.digest} {group}".encode()).digest()
        rng = np.random.default_rng(list(key[:8]))
        mean_qp = int(rng.integers(*self.mean_qps, endpoint=True))
        maps = maps_of_equal_mean(source, rng, mean_qp=mean_qp, count=self.maps_per_clip)
        coded = [self.cache.encode(self.codec, source, qp) for qp in maps]
        # The flat map is as good as on the ladder: it is shown last.
        with_frames = [(1 + i) % len(maps) for i in range(self.maps_with_frames)]
        return {
            "qp": torch.from_numpy(np.stack([qp.values for qp in maps]).astype(np.uint8)),
            "coded_bits": torch.from_numpy(np.stack([encode.bits_per_frame for encode in coded])).float(),
            "shown": torch.tensor(with_frames),
            "coded_frames": torch.stack([coded[i].frames for i in with_frames]),
        }


@lru_cache(maxsize=1)
def _maps_source() -> str:
    """Return the digest of the code that draws maps: what other code drew are other maps."""
    return hashlib.sha256(inspect.getsource(random_maps).encode()).hexdigest()


def _as_bytes(text: str) -> torch.Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


class ClipFrames(Dataset[Sample]):
    """Clips alone, `clip` and `frames` as in `LadderSamples`.

    For a training that keeps what it knows of their ladders, or asks for none (coded=False: nothing is encoded, and clips are
    decoded anew).
    """

    def __init__(self, samples: LadderSamples, *, coded: bool = True) -> None:
        self.samples, self.coded = samples, coded

    def __len__(self) -> int:
        return len(self.samples.clips)

    def at_step(self, index: int, step: int) -> Sample:
        """Return the clip `index`, whatever the step."""
        if not self.coded:
            return {"clip": torch.tensor(index), "frames": self.samples.clips[index].frames}
        sample = self.samples.without_pixels(index)
        return {name: sample[name] for name in ("clip", "frames")}
