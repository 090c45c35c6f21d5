"""What one network says of one clip at one level, kept on disk."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import torch

from dvcc._files import write_atomic
from dvcc.clip import Clip
from dvcc.evaluation.metrics import State
from dvcc.surrogates.judged import task_key
from dvcc.tasks import Task

if TYPE_CHECKING:
    from dvcc.evaluation.benchmark import Sweep

_FORMAT = 1


@dataclass(frozen=True)
class Row:
    """States of every metric of a task against its labels of the uncoded clip (`relative`) and against those of the data set
    (`absolute`, None without any); bits of the encode, None if there was none; seconds that the network took.

    What it is about is filled in by `of`: example and group, level, network, and the clip's size.
    """

    bits: int | None
    seconds: float
    relative: dict[str, State]
    absolute: dict[str, State] | None
    example: str = ""
    group: str = ""
    level: float | str = ""
    network: str = ""
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0

    def of(self, example: str, group: str, level: float | str, network: str, clip: Clip) -> Row:
        """The same row, saying what it is about."""
        size = {"num_frames": clip.num_frames, "height": clip.height, "width": clip.width, "fps": float(clip.fps)}
        return replace(self, example=example, group=group, level=level, network=network, **size)


class RowStore:
    """Rows in a folder, by content: the clip, the truth, codec and level, and the network with its weights. A damaged file is as
    good as none."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / "rows"
        self._task_keys: dict[int, str] = {}

    def key(self, clip: Clip, truth: torch.Tensor | None, sweep: Sweep, level: float | str, task: Task) -> str:
        """Name of the row."""
        if id(task) not in self._task_keys:
            self._task_keys[id(task)] = task_key(task)
        labels = None if truth is None else hashlib.sha256(truth.contiguous().numpy().tobytes()).hexdigest()
        coding = None if isinstance(level, str) else (sweep.codec, sweep.rate_at(level), av.ffmpeg_version_info)
        words = [_FORMAT, clip.digest, labels, coding, level, self._task_keys[id(task)]]
        return hashlib.sha256(repr(words).encode()).hexdigest()

    def read(self, key: str) -> Row | None:
        """The row, or None."""
        try:
            stored = torch.load(io.BytesIO(self._path(key).read_bytes()), weights_only=True)
            return Row(**stored)
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError):
            return None

    def write(self, key: str, row: Row) -> None:
        """Keep it."""
        measured: dict[str, Any] = {name: asdict(row)[name] for name in ("bits", "seconds", "relative", "absolute")}
        buffer = io.BytesIO()
        torch.save(measured, buffer)
        write_atomic(self._path(key), buffer.getvalue())

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.pt"
