"""Which gradient trains the better control: four controls of equal steps, then one comparison on real encodes.

    python benchmarks/gradients.py VIDEOS [key=value of training ...] -- [key=value of the evaluation ...]

Writes runs/gradients/ and prints a table: seconds per step, and BD-rate on the held-out videos.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tables import interval_cell

from dvcc.cli.guard import guarded
from dvcc.config.parse import parse
from dvcc.control import training as control
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.control.report import markdown_table

OUT = Path("runs/gradients")
STEPS = 100
WAYS = {
    "surrogate": ["objective.gradient=surrogate"],
    "refreshed": ["objective.gradient=surrogate", f"objective.refresh_every={STEPS // 2}", "objective.refresh_steps=50"],
    "relax": ["objective.gradient=relax"],
    "straight_through": ["objective.gradient=straight_through"],
}


def main(words: list[str]) -> None:
    """Train, compare, print."""
    split = words.index("--") if "--" in words else len(words)
    data = ["task=segmentation", "data=folder", f"data.root={words[0]}", "data.shots=true"]
    seconds, paths = {}, []
    for way, chosen in WAYS.items():
        training = ["surrogate=checkpoints/surrogate_anchored.safetensors", "control.mode=offset", "objective.targets=2"]
        training += [f"trainer.max_steps={STEPS}", "learning_rate=0.006", "data.augment=1", f"out={OUT / way}"]
        path = OUT / way / f"{way}.safetensors"
        if not path.is_file():
            began = time.perf_counter()
            trained = control.run(parse("train.py", ["control", *data, *training, *chosen, *words[1:split]])[1])
            seconds[way] = (time.perf_counter() - began) / STEPS
            trained.rename(path)
        paths.append(str(path))
    report = OUT / "evaluation" / "report.json"
    chosen = [f"others=[{','.join(paths)}]", "controllers=[abr2]", f"out={report.parent}"]
    evaluation.run(parse("evaluate.py", ["control", *data, *chosen, *words[split + 1 :]])[1])
    summary = json.loads(report.read_text())["summary"]
    body = []
    for way in WAYS:
        figures = summary[f"learned {way}"]
        cells = [interval_cell(figures, kind) for kind in ("bd_rate", "bd_rate_of_loss")]
        body.append([way, f"{seconds.get(way, float('nan')):.1f}", *cells])
    print(markdown_table(["gradient", "seconds per step", "BD-rate", "at equal loss"], body))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
