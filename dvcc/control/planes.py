"""What eyes see of the training clips, once for each clip: a training visits it many times."""

from __future__ import annotations

import torch

from dvcc.control.eyes import Eyes
from dvcc.control.eyes.painting import Rule, offsets_of_clip
from dvcc.surrogate.samples import LadderSamples


class ClipPlanes:
    """Planes of the clips of `samples`, kept in their store by the clip's content, the eyes' weights and the code."""

    def __init__(self, eyes: Eyes, samples: LadderSamples) -> None:
        self.eyes, self.samples = eyes, samples
        self.clips, self.store = samples.clips, samples.store

    def __call__(self, clip: int) -> torch.Tensor:
        """Return what is seen in every frame of clip number `clip`, float32 (T, E, h, w)."""
        return self.store.get(self._words(clip), lambda: self._make(clip))["planes"].float()

    def of(self, clips: torch.Tensor) -> torch.Tensor:
        """Return the same (B, T, E, h, w) for clip numbers (B,), on their device."""
        return torch.stack([self(clip) for clip in clips.tolist()]).to(clips.device)

    def rule_offsets(self, clips: torch.Tensor, rule: Rule, *, gop: int) -> torch.Tensor:
        """Return the rule's offsets, with a look at every frame, float32 (B, T, h, w) for clip numbers (B,)."""
        seen = (self(clip)[:, 0].numpy() for clip in clips.tolist())
        offsets = [torch.from_numpy(offsets_of_clip(scores, rule, gop=gop)) for scores in seen]
        return torch.stack(offsets).float().to(clips.device)

    def entries(self, clip: int) -> list[list[object]]:
        """See `LadderSamples.entries`."""
        return [self._words(clip)]

    def store_clip(self, clip: int) -> None:
        """Look at a clip, and keep what is seen."""
        self(clip)

    def _words(self, clip: int) -> list[object]:
        return ["planes", *self.eyes.key, self.samples.digest(clip)]

    def _make(self, clip: int) -> dict[str, torch.Tensor]:
        return {"planes": torch.from_numpy(self.eyes.clip_planes(self.samples.clips[clip]))}
