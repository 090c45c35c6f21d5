"""What one training step of a surrogate looks at: a few frames, and of these the rungs around the QPs of the map."""

from __future__ import annotations

import torch

from dvcc.surrogate.references import coding_order
from dvcc.surrogate.samples import LadderSamples, Sample


class StepSamples:
    """Items of `samples` for a step, with the pixels that its losses look at.

    An item has also `asked` int64 (S,), the frames that the losses compare: `frames` of T, drawn from (seed, step). Its
    `ladder_frames` are uint8 (R', K, 3, H, W), of the rungs `ladder_rungs` int64 (R',) and the frames `ladder_at` int64 (K,),
    both rising: the frames asked for with their references, and the rungs that the QPs of the shown maps lie between. whole:
    all rungs of all frames, for a task that judges them.
    """

    def __init__(self, samples: LadderSamples, *, frames: int, seed: int, whole: bool = False) -> None:
        self.samples, self.frames, self.seed, self.whole = samples, frames, seed, whole

    def __len__(self) -> int:
        return len(self.samples)

    def at_step(self, index: int, step: int) -> Sample:
        """Return the item `index` as `step` looks at it."""
        sample = self.samples.without_pixels(index)
        clip = int(sample["clip"])
        num_frames = len(sample["frames"])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        asked = torch.randperm(num_frames, generator=generator)[: self.frames]
        if self.whole:
            at, rungs = torch.arange(num_frames), torch.arange(len(self.samples.qps))
            ladder = self.samples.ladder_frames(clip)
        else:
            at, rungs = _with_references(asked, sample["frame_types"]), self._rungs(sample["qp"][sample["shown"]])
            ladder = self.samples.ladder_frames(clip, slice(int(rungs[0]), int(rungs[-1]) + 1))
            ladder = ladder.index_select(1, at)  # seven times as fast as [:, at], which copies pixel by pixel
        return {**sample, "asked": asked, "ladder_frames": ladder, "ladder_rungs": rungs, "ladder_at": at}

    def _rungs(self, qp: torch.Tensor) -> torch.Tensor:
        """Return the rungs that `Rungs.around` can name for effective QPs: these are means of the QPs of a map."""
        qps = torch.tensor(self.samples.qps)
        low, high = (int((qps < end).sum()) for end in (qp.min(), qp.max()))  # the first rung that is not below
        margin = 1  # means are rounded
        return torch.arange(max(0, low - 1 - margin), min(len(qps), high + 1 + margin))


def _with_references(asked: torch.Tensor, frame_types: torch.Tensor) -> torch.Tensor:
    """Return the frames `asked` for and those they are predicted from, int64 (K,), rising.

    The last one is repeated up to three for each that was asked for, or T, so that the clips of a batch have as many.
    """
    order = coding_order(frame_types[None])
    frame, past, future = (column[0].tolist() for column in order)
    wanted = set(asked.tolist())
    for place, t in enumerate(frame):
        if t in asked.tolist():
            wanted |= {frame[reference] for reference in (past[place], future[place]) if reference >= 0}
    kept = sorted(wanted)
    count = min(len(frame), 3 * len(asked))
    return torch.tensor(kept + kept[-1:] * (count - len(kept)))
