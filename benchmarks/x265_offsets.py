"""What the committed offset controls, trained for x264, do on x265: held-out clips, against x265's own two passes.

    python benchmarks/x265_offsets.py VIDEOS [key=value ...]

The clips and figures of `evaluate.py control`, at its targets times 0.7; only the encoder differs. Prints one line per judge.
"""

from __future__ import annotations

import sys

from rich.progress import Progress
from tables import JUDGES, TEST, control_path, interval_cell

from dvcc import X264, X265
from dvcc._guard import guarded
from dvcc.config.parse import parse
from dvcc.control.runtime import load_control
from dvcc.datasets.splits import split_videos
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.control.summary import summarise
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.oracle import BoxOracle
from dvcc.tasks import build_configured
from dvcc.training.run import data_root

_HEVC = 0.7  # of the bits of H.264, about, for the same metric


def main(words: list[str]) -> None:
    """Evaluate before every judge, and print."""
    for judge, (task_words, own) in JUDGES.items():
        videos = ["data=folder", f"data.root={words[0]}", f"data.test=[{TEST}]", "data.shots=true", "data.clips_per_video=2"]
        config = parse("evaluate", ["control", *videos, *task_words, *words[1:]])[1]
        task = build_configured(config.task).eval()
        _, test = split_videos(data_root(config.data.root), test=config.data.test, exclude=config.data.exclude)
        x264, x265 = (codec(config.codec.preset, gop=config.codec.gop) for codec in (X264, X265))
        control = load_control(control_path(own))
        controllers = {"abr2": AverageBitrate(x265), "learned": AverageBitrate(x265, control=control)}
        if own == "detection":
            controllers["boxes"] = BoxOracle(task, x265)
        judged, _ = evaluation.load_test_clips(config, test, task)
        with Progress(transient=True) as progress:
            targets = [_HEVC * rate for rate in evaluation.find_targets(config, judged, x264, task, progress)]
            rows, states = evaluation.measure(judged, targets, None, controllers, x264, task, progress)
        clips = [(j.video, j.start) for j in judged]
        figures = summarise(rows, states, task, clips=clips, bootstrap=config.bootstrap, seed=config.seed)
        for name in controllers:
            cells = [interval_cell(figures[name], kind) for kind in ("bd_rate", "bd_rate_of_loss")]
            print(judge, name, len(judged), "clips", *cells, flush=True)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
