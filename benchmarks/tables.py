"""The tables of README.md: every committed control before every judge, on real encodes of held-out videos.

    python benchmarks/tables.py VIDEOS [key=value ...]

One evaluation per judge, in runs/tables/; a judge whose report is there is not asked again. Prints the table of controllers and
the transfer table, and writes both into README.md between their markers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dvcc._guard import guarded
from dvcc.config.parse import parse
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.control.report import markdown_table

ROOT = Path(__file__).parents[1]
TEST = "bikes.mp4,carnd_test_video.mp4,intel_car-detection.mp4,vtest.avi,Megamind.avi,tree.avi"
JUDGES = {  # what judges: words of the command, and the control that was trained for it
    "segmentation, ESPNetv2": (["task=segmentation", "task.model=espnetv2", "data.clips_per_video=1"], "segmentation"),
    "segmentation, student": (["task=segmentation"], "segmentation"),
    "detection, FastestDet": (["task=detection", "data.clips_per_video=3"], "detection"),
}
CONTROLS = ["segmentation", "detection"]
CONTROLLERS = {
    "abr2_corrected": "two-pass ABR, corrected",
    "saliency": "saliency of the judge itself",
    "boxes": "boxes of the uncoded clip (oracle)",
    "learned": "learned offsets",
    "learned_corrected": "learned offsets, corrected",
    "learned_map": "the same offsets, delivered as a map",
}


def main(words: list[str]) -> None:
    """Evaluate, print, and write README.md."""
    reports = {judge: report_of(judge, words) for judge in JUDGES}
    tables = {"results": results_table(reports), "transfer": transfer_table(reports)}
    readme = (ROOT / "README.md").read_text()
    for name, table in tables.items():
        print(table)
        before, rest = readme.split(f"<!-- {name} begin -->\n")
        readme = f"{before}<!-- {name} begin -->\n{table}<!-- {name} end -->" + rest.split(f"<!-- {name} end -->")[1]
    (ROOT / "README.md").write_text(readme)


def report_of(judge: str, words: list[str]) -> dict[str, Any]:
    """The report of one judge: its own control and all the others."""
    task, own = JUDGES[judge]
    out = ROOT / "runs" / "tables" / judge.replace(", ", "-")
    if not (out / "report.json").is_file():
        others = [control_path(other) for other in CONTROLS if other != own]
        videos = ["data=folder", f"data.root={words[0]}", f"data.test=[{TEST}]", "data.shots=true", "data.clips_per_video=2"]
        asked = [name for name in CONTROLLERS if name != "boxes" or own == "detection"]
        chosen = [f"checkpoint={control_path(own)}", f"controllers=[abr2,{','.join(asked)}]"]
        chosen.append(f"extra_checkpoints=[{','.join(others)}]")
        config = parse("evaluate", ["control", *videos, *task, *chosen, f"out={out}", *words[1:]])[1]
        print(evaluation.run(config))
    return json.loads((out / "report.json").read_text())


def control_path(name: str) -> str:
    """Of a committed control."""
    return str(ROOT / "checkpoints" / f"control_{name}.onnx")


def results_table(reports: dict[str, dict[str, Any]]) -> str:
    """BD-rate with its interval and the share of targets met, per judge and controller."""
    body = []
    for judge, report in reports.items():
        for name, title in CONTROLLERS.items():
            figures = report["summary"].get(name)
            if figures is not None:
                kinds = [interval_cell(figures, kind) for kind in ("bd_rate", "bd_rate_of_loss")]
                met = f"{figures['met_share']['0']:.0%}"
                body.append([judge, title, *kinds, f"{figures['num_encodes']:.1f}", met])
    return markdown_table(["judge", "controller", "BD-rate", "at equal loss", "encodes", "within the target"], body)


def transfer_table(reports: dict[str, dict[str, Any]]) -> str:
    """BD-rate of every control (rows) before every judge (columns)."""
    body = []
    for trained_for in CONTROLS:
        cells = []
        for judge, report in reports.items():
            own = JUDGES[judge][1] == trained_for
            cells.append(interval_cell(report["summary"]["learned" if own else f"learned control_{trained_for}"], "bd_rate"))
        body.append([trained_for, *cells])
    return markdown_table(["control trained for", *reports], body)


def interval_cell(figures: dict[str, Any], kind: str) -> str:
    """A BD-rate and its 95 % interval."""
    value, interval = figures[f"{kind}_percent"], figures[f"{kind}_ci95"]
    middle = "-" if value is None else f"{value:+.1f} %"
    return middle if interval is None else f"{middle} [{interval[0]:+.0f}, {interval[1]:+.0f}]"


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
