"""What a person sees of a long encode: a bar while it runs, pictures of its maps afterwards."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dvcc._files import check_writable
from dvcc._packaged import require
from dvcc.clip import Clip
from dvcc.codecs.passes import Progress as Told
from dvcc.encoding.file import EncodeResult
from dvcc.encoding.plan import EncodePlan
from dvcc.media.format import SourceFrame
from dvcc.media.source import VideoSource

_PICTURES = 8
_GUESS = 250  # frames, of a file that does not say its length


@contextmanager
def progress_bar(source: VideoSource) -> Iterator[Told]:
    """Show a line per pass on stderr: frames, and the time that is left; none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda name, done: None
        return
    from rich.console import Console  # a tenth of the time that a command takes to start
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<11}"),
        BarColumn(),
        TextColumn("frame {task.completed:.0f}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:

        def told(name: str, done: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=source.num_frames)
            bar.update(tasks[name], completed=done)

        yield told


class EncodeReport:
    """Pictures of some frames with what was asked of their macroblocks, and the bitrate over time, in `folder`.

    Raises `DvccError` at once when nothing can be drawn, or written there.
    """

    def __init__(self, plan: EncodePlan, folder: Path) -> None:
        require("matplotlib", wanted_by="--report")
        check_writable(folder, key="--report")
        self.plan, self.folder = plan, folder
        self._every = max(1, (plan.source.num_frames or _GUESS) // _PICTURES)
        self._encodes = list[dict[int, tuple[Clip, np.ndarray | None]]]()  # what was seen of each, by index of the frame

    def look(self, index: int, frame: SourceFrame, values: np.ndarray | None) -> None:
        """Keep some frames, spread over the video."""
        if index == 0:
            self._encodes.append({})
        seen = self._encodes[-1]
        if index % self._every or len(seen) >= _PICTURES:
            return
        y, u, v = (plane[None].copy() for plane in frame.planes)
        source = self.plan.source
        clip = Clip(y, u, v, source.picture.fps, source.matrix, source.picture.full_range)
        seen[index] = clip, None if values is None else values.copy()

    def seen(self, result: EncodeResult) -> dict[int, tuple[Clip, np.ndarray | None]]:
        """Frames of what was delivered, by index, with the offsets or QPs (h, w) that were asked for; None where none were."""
        return self._encodes[result.number]

    def write(self, result: EncodeResult) -> None:
        """maps.png and bitrate.png."""
        import matplotlib.pyplot as plt

        from dvcc.visuals import save_figure, strip

        seen = self.seen(result)
        panels = {f"frame {index}": clip.rgb(0) for index, (clip, _) in seen.items()}
        maps = {f"frame {index}": values for index, (_, values) in seen.items() if values is not None}
        strip(panels, self.folder / "maps.png", qp=maps, label="QP" if self.plan.gives_map else "QP offset")
        figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
        seconds = sorted(result.stats.bits_per_second)
        axis.stairs([result.stats.bits_per_second[s] / 1000 for s in seconds], [*seconds, seconds[-1] + 1], fill=True, alpha=0.6)
        if math.isfinite(self.plan.target_kbps):
            axis.axhline(self.plan.target_kbps, color="black", linewidth=1, label="target")
            axis.legend()
        axis.set_xlabel("second")
        axis.set_ylabel("kbit")
        save_figure(figure, self.folder / "bitrate.png")
