"""Where the time of `evaluate.py benchmark` goes, and what a second network costs.

    python benchmarks/sweep.py VIDEOS [key=value ...]

Sweeps once with one segmentation network and once with two, each from an empty cache. The second network should cost its own
inference and nothing else.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from dvcc._guard import guarded
from dvcc.config.parse import parse
from dvcc.evaluation.benchmark import run as benchmark
from dvcc.evaluation.tables import markdown_table

NETWORKS = ("student", "espnetv2")


def main(words: list[str]) -> None:
    """Sweep twice, print."""
    body = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            networks = f"networks=[{','.join(NETWORKS[:count])}]"
            keys = ["task=segmentation", f"data.root={words[0]}", "data.size=[224,512]", "data.clips_per_video=1", networks]
            config = parse("evaluate", ["benchmark", *keys, f"data.cache={folder}/cache", f"out={folder}/out", *words[1:]])[1]
            began = time.perf_counter()
            benchmark.run(config)
            wall = time.perf_counter() - began
            report = json.loads((Path(folder) / "out" / "report.json").read_text())
        of_networks = {name: sum(point["seconds"] for point in points) for name, points in report["summary"].items()}
        seconds = report["seconds"]
        share = f"{seconds['other'] / sum(seconds.values()):.1%}"
        cells = [f"{seconds[part]:.1f}" for part in ("codec", "network", "other")]
        last = f"{of_networks[NETWORKS[count - 1]]:.1f}"
        body.append([", ".join(NETWORKS[:count]), f"{wall:.1f}", *cells, share, last])
    head = ["networks", "seconds in all", "codec", "network", "other", "share of other", "judging by the last network"]
    print(markdown_table(head, body))
    print(f"the second network added {float(body[1][1]) - float(body[0][1]):.1f} s")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
