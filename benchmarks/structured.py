"""What the structured surrogate costs a frame and map. python benchmarks/structured.py [--ladder] [OTHER_CHECKOUT]

--ladder: what the ladder costs that it predicts, and each map that the anchored surrogate reads off it.
With another checkout of dvcc both are timed in turns. Seconds are of the processor: other work slows both alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F

from dvcc.networks.sources import CHECKPOINTS
from dvcc.surrogate import build_surrogate, load_surrogate, one_hot_qp
from dvcc.surrogate.base import log_coding_error

ROUNDS, FRAMES, HEIGHT, WIDTH = 3, 8, 288, 512
PARTS = ("analysis of a clip", "forward", "forward and backward")
OF_LADDER = ("the ladder of a clip", "bits and task loss", "the same, and backward", "with frames")


def milliseconds(run: Callable[[], object], *, times: int = 4) -> float:
    """Least of so many runs, of the processor, a frame of the clip."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return 1000 * min(taken) / FRAMES


def clip_and_map() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return a clip that pans, with a cut in its fifth frame, and a random map of it; nothing runs beside this thread."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    scenes = F.interpolate(torch.rand(2, 3, HEIGHT // 4, WIDTH // 4 + 12), scale_factor=4.0, mode="bicubic").clamp(0, 1)
    frames = torch.stack([scenes[t // 4, :, :, 5 * t : 5 * t + WIDTH] for t in range(FRAMES)])
    sample = {"frames": (255 * frames).byte()[None], "frame_types": torch.tensor([[0, 2, 2, 2, 1, 2, 2, 1]])}
    return sample, one_hot_qp(torch.randint(28, 41, (1, FRAMES, HEIGHT // 16, WIDTH // 16)))


def of_every_map() -> list[float]:
    """Time the parts where each map is predicted."""
    sample, levels = clip_and_map()
    surrogate = build_surrogate("structured", qps=(16, 46), gop=FRAMES, width=24).eval().requires_grad_(False)
    analyses = []
    of_analysis = milliseconds(lambda: analyses.append(surrogate.analyse(sample)), times=1)
    (analysis,) = analyses

    def forward() -> None:
        with torch.no_grad():
            surrogate.predict(analysis, levels)

    def both() -> None:
        predicted = surrogate.predict(analysis, levels.clone().requires_grad_())
        (predicted.frames.square().mean() + predicted.log_clip_bits.sum()).backward()

    return [of_analysis, milliseconds(forward), milliseconds(both)]


def of_ladder() -> list[float]:
    """Time the parts where a ladder is predicted once, and maps are read off it; what a network says of it is random."""
    from dvcc.surrogate.predicted import PredictedLadders  # not in every other checkout

    sample, levels = clip_and_map()
    structured, anchored = (
        load_surrogate(CHECKPOINTS / f"surrogate_{name}.safetensors")[0].eval().requires_grad_(False)
        for name in ("structured", "anchored")
    )
    qps, ladders = tuple(int(qp) for qp in anchored.rungs.qps), []
    of_rungs = milliseconds(
        lambda: ladders.append(PredictedLadders(structured).rungs(sample["frames"][0], sample["frame_types"][0], qps)), times=1
    )
    (ladder,) = ladders
    errors = [log_coding_error(rung / 255, sample["frames"][0] / 255) for rung in ladder.frames]
    sample |= {
        "ladder_frames": ladder.frames[None],
        "ladder_bits": ladder.bits[None],
        "ladder_log_error": torch.stack(errors)[None],
    }
    analysis = anchored.analyse({**sample, "ladder_degradation": torch.rand(sample["ladder_log_error"].shape)})

    def read(frame_numbers: list[int] | None) -> None:
        with torch.no_grad():
            anchored.predict(analysis, levels, frame_numbers=frame_numbers)

    def both() -> None:
        predicted = anchored.predict(analysis, levels.clone().requires_grad_(), frame_numbers=[])
        (predicted.degradation.sum() + predicted.log_clip_bits.sum()).backward()

    return [of_rungs, milliseconds(lambda: read([])), milliseconds(both), milliseconds(lambda: read(None))]


def main() -> None:
    """Print a table; medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", type=Path)
    parser.add_argument("--ladder", action="store_true", help="a ladder predicted once, and maps read off it")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.once:
        print(*(of_ladder() if words.ladder else of_every_map()))
        return
    here = Path(__file__).resolve().parents[1]
    checkouts = [here] if words.other is None else [words.other.resolve(), here]
    found: dict[Path, list[list[float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(ROUNDS):
        for checkout in checkouts:
            command = [sys.executable, __file__, "--once", *(["--ladder"] if words.ladder else [])]
            environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
            printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            found[checkout].append([float(word) for word in printed.split()])
    for k, part in enumerate(OF_LADDER if words.ladder else PARTS):
        columns = [[values[k] for values in found[checkout]] for checkout in checkouts]
        ratio = statistics.median(new / old for old, new in zip(columns[0], columns[-1], strict=True))
        medians = " ".join(f"{statistics.median(column):.1f}" for column in columns)
        print(f"{part}: {medians} ms a frame" + (f", ratio of pairs {ratio:.2f}" if len(checkouts) > 1 else ""))


if __name__ == "__main__":
    main()
