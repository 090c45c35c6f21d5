"""What one network says of one clip at one level, kept on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import torch

from dvcc._cache import Cache
from dvcc._source import source_digest
from dvcc.clip import Clip
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.rgb_clip import RGBClip
from dvcc.tasks import Task
from dvcc.tasks.identity import task_key
from dvcc.tasks.metric import State

UNCODED, NOISE = "uncoded", "noise"
"""Levels beside those of the codec: the pictures themselves, and with noise of one grey level, which no codec can stay below."""

_FORMAT = 3
"""Version of the stored measurement, and of how `benchmark/measure.py` makes it."""


@dataclass(frozen=True)
class Measured:
    """States of every metric of a task for one clip at one level, with its bits and seconds.

    relative: against the task's labels of the uncoded clip; absolute: against those of the data set, None without any. Bits are
    of the encode without and with container and settings text, None if there was none. Seconds are what the network took.
    """

    bits: int | None
    file_bits: int | None
    seconds: float
    relative: dict[str, State]
    absolute: dict[str, State] | None


@dataclass(frozen=True)
class Row:
    """What was measured of an example (of a `group`, with the clip's size and frame rate) at a level with a network."""

    example: str
    group: str
    level: float | str
    network: str
    num_frames: int
    height: int
    width: int
    fps: float
    measured: Measured


class RowStore:
    """Measurements by content, in a `Cache` (place: a folder or an address).

    The content is the clip, the truth, the codec with its code, the level, and the network with its file, feed, weights and code
    (`task_key`). A damaged file is as good as none.
    """

    def __init__(self, place: str | Path) -> None:
        self.entries = Cache(place).part("rows")
        self.hits = 0  # measurements that were there
        self._task_keys: dict[int, str] = {}

    def key(self, clip: Clip | RGBClip, truth_digest: str | None, sweep: Sweep, level: float | str, task: Task) -> str:
        """Name of the measurement. truth_digest: of the labels that count (see `digest_of`), None without any."""
        if id(task) not in self._task_keys:
            self._task_keys[id(task)] = task_key(task)
        coding = None
        if not isinstance(level, str):
            coding = (sweep.codec, sweep.rate_at(level), av.__version__, av.ffmpeg_version_info, source_digest("dvcc.codecs"))
        words = [_FORMAT, clip.digest, truth_digest, coding, level, self._task_keys[id(task)]]
        return hashlib.sha256(repr(words).encode()).hexdigest()

    def read(self, key: str) -> Measured | None:
        """Return what was measured, or None."""
        try:
            measured = Measured(**torch.load(io.BytesIO(self.entries.find(_name(key)).read_bytes()), weights_only=True))
        except Exception:  # PyTorch raises a dozen unrelated types for what is damaged
            return None
        self.hits += 1
        return measured

    def write(self, key: str, measured: Measured) -> None:
        """Keep it."""
        buffer = io.BytesIO()
        torch.save(vars(measured), buffer)
        self.entries.keep(_name(key), buffer.getvalue())


def _name(key: str) -> str:
    return f"{key[:2]}/{key}.pt"


def digest_of(labels: torch.Tensor, classes: Sequence[int] | None) -> str:
    """Of labels, and of what the classes of a network are there, for `RowStore.key`."""
    digest = hashlib.sha256(labels.contiguous().numpy().tobytes())
    if classes is not None:
        digest.update(repr(list(classes)).encode())
    return digest.hexdigest()
