"""What L_cv buys: surrogates with and without it, judged on held-out videos, and the control that comes out of each.

    python benchmarks/control_variates.py ROOT [seeds] -- data.test=[a.mp4] ...

Small on purpose (10x20 macroblocks, 250 steps): all arms share the cache of real encodes. Writes runs/ablation/.
"""

import json
import sys
from pathlib import Path

from dvcc.config.parse import parse
from dvcc.control import training as control
from dvcc.evaluation.control import run as evaluate_control
from dvcc.evaluation.surrogate import run as evaluate_surrogate
from dvcc.surrogate import training as surrogate

ARMS = {"without": (0.0, 0.0), "bits": (0.1, 0.0), "bits and task": (0.1, 0.3)}
"""losses.cv_bits and losses.cv_task."""

DATA = ["data=folder", "data.size=[160,320]", "data.crops_per_clip=1", "trainer.accelerator=cpu"]
FIGURES = ("size_error_median", "rho2_bits", "rho2_task", "descent_share")


def main(root: str, seeds: int, words: list[str]) -> None:
    """Train and judge every arm with every seed; print one line each."""
    for seed in range(seeds):
        for name, (bits, task) in ARMS.items():
            run = Path("runs/ablation") / f"{name.replace(' ', '_')}-{seed}"
            common = [*DATA, f"data.root={root}", f"seed={seed}", *words]
            judged = [word for word in common if not word.startswith("trainer.")]
            training = [*common, "data.max_clips=60", "data.groups=2", "losses.frames=2", f"out={run}"]
            training += ["trainer.max_steps=250", "learning_rate=0.003", f"losses.cv_bits={bits}", f"losses.cv_task={task}"]
            path = surrogate.run(parse("train", ["surrogate", *training])[1])
            report = [
                "mean_qps=[28,40]",
                "pictured_maps=2",
                "data.clips_per_video=2",
                f"checkpoint={path}",
                f"out={run}/evaluation",
            ]
            evaluate_surrogate.run(parse("evaluate", ["surrogate", *judged, *report])[1])
            words_of_control = ["task=segmentation", f"surrogate={path}", "data.max_clips=60", "trainer.max_steps=150"]
            words_of_control += ["learning_rate=0.003", f"out={run}/control"]
            learned = control.run(parse("train", ["control", *common, *words_of_control])[1])
            compared = ["task=segmentation", "controllers=[abr2,cqp,learned]", "data.max_clips=12", f"checkpoint={learned}"]
            evaluate_control.run(parse("evaluate", ["control", *judged, *compared, f"out={run}/rates"])[1])
            figures = json.loads((run / "evaluation/report.json").read_text())["summary"]
            rates = json.loads((run / "rates/report.json").read_text())["summary"]
            line = " ".join(f"{key} {figures[key]:.3f}" for key in FIGURES)
            print(f"{name}, seed {seed}: {line} BD-rate {rates['learned']['bd_rate_percent']}", flush=True)


if __name__ == "__main__":
    count = 1 if len(sys.argv) < 3 or not sys.argv[2].isdigit() else int(sys.argv[2])
    main(sys.argv[1], count, sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])
