"""What coding does to a task, read off the ladder: really coded frames, judged by the task's network once.

The task network sees real encodes only, and no gradient has to pass through it. A derivative at one coded picture says
what that picture's own noise asks for; the next encode has other noise. The ladder compares encodes several QPs apart.
"""

from __future__ import annotations

import hashlib
import io

import av
import numpy as np
import torch
from torch.nn import functional as F

from dvcc._files import read_arrays
from dvcc._source import source_digest
from dvcc.pixels import as_float
from dvcc.surrogate.base import Prediction, Sample, per_macroblock
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks.base import Task
from dvcc.tasks.identity import task_key
from dvcc.tasks.judging import check_finite


@torch.no_grad()
def judge_ladder(task: Task, sample: Sample) -> torch.Tensor:
    """(B, R, T, h, w): degradation to `task` in every macroblock of every rung of a batched sample."""
    clips = []
    for frames, ladder in zip(sample["frames"], sample["ladder_frames"], strict=True):
        reference = check_finite(task, task.predict(as_float(frames)))
        clips.append(torch.stack([macroblock_degradation(task, rung, reference) for rung in ladder]))
    return torch.stack(clips)


@torch.no_grad()
def macroblock_degradation(task: Task, coded: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """(T, h, w): degradation to `task` in each macroblock of coded frames (T, 3, H, W), whose uncoded prediction is given."""
    degradation = task.degradation(task.predict(as_float(coded))[None], reference[None])
    size = coded.shape[-2:]
    return per_macroblock((degradation if degradation.shape[-2:] == size else F.interpolate(degradation, size))[0])


class JudgedLadders:
    """The ladders of `samples` as a frozen task network judges them, each once: the verdicts are kept with the encodes."""

    def __init__(self, task: Task, samples: LadderSamples) -> None:
        self.task, self.samples, self._task_key = task, samples, task_key(task)
        self._entries = samples.cache.entries.part("judged")

    def degradation(self, clip: int, sample: Sample) -> torch.Tensor:
        """(1, R, T, h, w): degradation of every rung of clip number `clip`, whose `sample` is a batch of one."""
        name = self._name(clip)
        if (stored := read_arrays(self._entries.find(name), "degradation")) is not None:
            degradation = stored["degradation"]
        else:
            if "ladder_frames" not in sample:
                sample = {**sample, "ladder_frames": self.samples.ladder_frames(clip)[None].to(sample["frames"].device)}
            degradation = judge_ladder(self.task, sample).cpu().numpy()
            buffer = io.BytesIO()
            np.savez_compressed(buffer, degradation=degradation)
            self._entries.keep(name, buffer.getvalue())
        return torch.from_numpy(degradation).to(sample["frames"].device)

    def is_stored(self, clip: int) -> bool:
        """Whether the ladder of a clip has been judged."""
        return self._entries.find(self._name(clip)).is_file()

    def _name(self, clip: int) -> str:
        samples = self.samples
        code = source_digest("dvcc.surrogate.judged", "dvcc.codecs")
        words = [code, self._task_key, samples.digest(clip), samples.codec, *samples.ladder_words, av.__version__]
        words.append(av.ffmpeg_version_info)
        return f"{hashlib.sha256(repr(words).encode()).hexdigest()}.npz"


class Judge:
    """A frozen task network that judges every ladder, and every group of really coded maps, once, and remembers."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._degradation: dict[int, torch.Tensor] = {}
        self._losses: dict[tuple[int, int], torch.Tensor] = {}

    def with_degradation(self, sample: Sample) -> Sample:
        """Return a batched sample with its ladders judged."""
        for i, clip in enumerate(sample["clip"].tolist()):
            if clip not in self._degradation:
                self._degradation[clip] = judge_ladder(self.task, {name: value[i : i + 1] for name, value in sample.items()})
        return {**sample, "ladder_degradation": torch.cat([self._degradation[clip] for clip in sample["clip"].tolist()])}

    @torch.no_grad()
    def losses(self, sample: Sample) -> torch.Tensor:
        """(B, P): the task's loss of the really coded maps whose frames the sample has, in their order."""
        keys = list(zip(sample["clip"].tolist(), sample["group"].tolist(), strict=True))
        for i, key in enumerate(keys):
            if key not in self._losses:
                reference = self.task.predict(as_float(sample["frames"][i]))[None]
                coded = [self.task.predict(as_float(frames))[None] for frames in sample["coded_frames"][i]]
                self._losses[key] = torch.cat([self.task.loss(prediction, reference) for prediction in coded])
        return torch.stack([self._losses[key] for key in keys])


def imitated_loss(task: Task, predicted: Prediction, reference: torch.Tensor | None) -> torch.Tensor:
    """Return the task's loss of `predicted`, (M,).

    It is read off the ladder where that was judged, else of the predicted frames against the `reference` prediction, which is
    needed only then.
    """
    if predicted.degradation is not None:
        return task.loss_of(predicted.degradation)
    assert reference is not None
    return task.loss(task.predict(predicted.frames), reference)
