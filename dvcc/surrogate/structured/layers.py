"""What the layers of a structured surrogate make of training samples: nothing that is learned changes it, so it is made once."""

from __future__ import annotations

import torch
from torch.utils.data import default_collate

from dvcc._source import source_digest
from dvcc.surrogate.samples import LadderSamples, Sample
from dvcc.surrogate.structured.model import StructuredSurrogate

_CODE = ("coding", "correction", "deblocking", "intra", "model", "motion", "planes", "prediction", "transform")


class LayerSamples:
    """Items of `samples` for a step, with what the layers make of their group of maps, kept in the samples' store.

    An item has also `asked` int64 (S,), the frames that the losses compare: `frames` of T, drawn from (seed, step). Of all N maps
    `layer_counts` (N, T, K, h, w), `layer_vectors`, `layer_intra` and `layer_small` (N, T, h, w), see `Counted`; of the P maps
    `shown` the planes `layer_luma` and others (P, S, ..), see `Planes`, of the frames `layer_at` int64 (S,): those asked for, or
    with `whole` all T. Half precision: a grey level is 1/255, and this is exact to 1/8 of one.
    """

    def __init__(
        self, samples: LadderSamples, surrogate: StructuredSurrogate, *, frames: int, seed: int, whole: bool = False
    ) -> None:
        self.samples, self.surrogate, self.frames, self.seed, self.whole = samples, surrogate, frames, seed, whole
        self.clips, self.store = samples.clips, samples.store

    def __len__(self) -> int:
        return len(self.samples)

    def at_step(self, index: int, step: int) -> Sample:
        """Return the item `index` as `step` looks at it."""
        sample, stored = self.samples.without_pixels(index), self._layers(index)
        num_frames = len(sample["frames"])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        asked = torch.randperm(num_frames, generator=generator)[: self.frames]
        at = torch.arange(num_frames) if self.whole else asked
        planes = {name: stored[name].index_select(1, at) for name in stored if name in _PLANES}
        return {**sample, **stored, **planes, "asked": asked, "layer_at": at}

    def entries(self, clip: int) -> list[list[object]]:
        """See `LadderSamples.entries`."""
        return [self._words(index) for index in self._of_clip(clip)]

    def store_clip(self, clip: int) -> None:
        """Run the layers on all groups of a clip, and keep what comes out."""
        for index in self._of_clip(clip):
            self._layers(index)

    def _of_clip(self, clip: int) -> range:
        return range(clip * self.samples.groups, (clip + 1) * self.samples.groups)

    def _words(self, index: int) -> list[object]:
        code = source_digest(*(f"dvcc.surrogate.structured.{name}" for name in _CODE), "dvcc.surrogate.transform")
        return ["layers", code, *self.samples.group_words(index), self.surrogate.gop]

    def _layers(self, index: int) -> Sample:
        return self.store.get(self._words(index), lambda: self._run(index))

    @torch.no_grad()
    def _run(self, index: int) -> Sample:
        torch.set_flush_denormal(True)
        sample = self.samples.without_pixels(index)
        analysis = self.surrogate.analyse(default_collate([sample]))
        parts = []
        everything = list(range(len(sample["frames"])))
        with_planes = sample["shown"].tolist()
        for number, qp in enumerate(sample["qp"]):  # one by one: a group of maps at once takes gigabytes
            shown = everything if number in with_planes else []
            counted, planes = self.surrogate.layers(analysis, qp[None].float(), shown=shown)
            kept = {f"layer_{name}": getattr(counted, name) for name in ("counts", "vectors", "intra", "small")}
            of_planes = {} if planes is None else {f"layer_{name}": plane[0] for name, plane in planes._asdict().items()}
            parts.append({name: value.half() for name, value in {**kept, **of_planes}.items()})
        return {
            **{name: torch.stack([part[name] for part in parts]) for name in parts[0] if name not in _PLANES},
            **{name: torch.stack([parts[k][name] for k in with_planes]) for name in _PLANES},
        }


_PLANES = ("layer_luma", "layer_chroma", "layer_predicted_luma", "layer_predicted_chroma")
