"""What a task says of coded clips, kept by content: a table is made anew without judging anew."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvcc._cache import Cache
from dvcc._files import read_arrays
from dvcc._source import source_digest
from dvcc.clip import Clip
from dvcc.codecs import EncodedClip
from dvcc.tasks import Task
from dvcc.tasks.identity import task_key
from dvcc.tasks.judging import Verdict, judge
from dvcc.tasks.metric import State

_META = ".meta"  # no state of a metric has a point in its name


class Verdicts:
    """Verdicts of one task on disk, written atomically and with checksums.

    The key is all that decides the task's answers, the uncoded clip, the bitstream, and which frames are judged. Many workers can
    share a folder, and a damaged entry is judged again. place: of a `Cache`, a folder or an address.
    """

    def __init__(self, task: Task, place: str | Path, *, every: int) -> None:
        self.task, self.entries, self.every = task, Cache(place).part("verdicts"), every
        code = source_digest("dvcc.evaluation.control.verdicts", "dvcc.tasks.judging", "dvcc.clip", "dvcc.codecs")
        self._words = [code, task_key(task), every, torch.__version__]

    def judged(self, clip: Clip) -> torch.Tensor:
        """RGB uint8 (ceil(T / every), 3, H, W): the frames that are judged."""
        return (clip if self.every == 1 else clip.slice(0, clip.num_frames, stride=self.every)).frames

    def verdict(self, clip: Clip, coded: EncodedClip, reference: torch.Tensor) -> Verdict:
        """Return what the task says of a coded `clip`.

        It is compared with its `reference` prediction for the judged frames of the uncoded one.
        """
        words = [*self._words, clip.digest, hashlib.sha256(coded.bitstream).hexdigest()]
        key = hashlib.sha256(repr(words).encode()).hexdigest()
        name = f"{key[:2]}/{key}.npz"
        if (verdict := _read(self.entries.find(name))) is None:
            verdict = judge(self.task, self.judged(coded.clip()), reference)
            self.entries.keep(name, _stored(verdict))
        return verdict


def _stored(verdict: Verdict) -> bytes:
    arrays: dict[str, Any] = {}
    for name, value in verdict.state.items():
        if isinstance(value, list):
            arrays |= {f"{name}.{i}": item.numpy() for i, item in enumerate(value)}
        else:
            arrays[name] = value.numpy()
    lists = {name: len(value) for name, value in verdict.state.items() if isinstance(value, list)}
    meta = json.dumps({"lists": lists, "metric": verdict.metric, "loss": verdict.loss})
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{_META: np.frombuffer(meta.encode(), np.uint8)}, **arrays)
    return buffer.getvalue()


def _read(path: Path) -> Verdict | None:
    """None when the entry is missing or damaged."""
    stored = read_arrays(path, _META)
    if stored is None:
        return None
    try:
        meta = json.loads(stored.pop(_META).tobytes())
        arrays = {name: torch.from_numpy(values) for name, values in stored.items()}
        state: State = {name: value for name, value in arrays.items() if "." not in name}
        for name, count in meta["lists"].items():
            state[name] = [arrays[f"{name}.{i}"] for i in range(count)]
        return Verdict(state, meta["metric"], meta["loss"])
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version, or made by somebody else
        return None
