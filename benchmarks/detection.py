"""The tables of docs/results.md for detection: the rule of objects against x264's own rate control, before several judges.

    python benchmarks/detection.py CORPUS VIDEOS [SCENARIO-JUDGE ...] [key=value ...]

CORPUS has a table of scenes with a fixed split, VIDEOS are long ones for streams. Judges are found as task.model finds them.
Other rate modes and codecs are measured at one rate per target, on the split val: they decide nothing.
One evaluation per scenario and judge, in runs/detection/; one whose report is there is not asked again, and
encodes and verdicts are cached. With names such as scenes-deimv2 only these are measured. Writes the tables of all that are
there into docs/results.md between its markers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dvcc._guard import guarded
from dvcc.config.parse import parse
from dvcc.datasets.clips import list_videos
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.tables import markdown_table

ROOT = Path(__file__).parents[1]
JUDGES = {
    "deimv2": "DEIMv2-Atto, never met",
    "picodet": "PicoDet-S, never met",
    "nanodet_plus": "NanoDet-Plus, the network that looks",
}
_VAL = ["scenario=scenes", "data.split=val", "rate_factors=[1]"]
SCENARIOS = {  # title, controllers, what else is set
    "scenes": (
        "Scenes",
        [
            "abr2",
            "abr2_corrected",
            "boxes",
            "objects_own_every_frame",
            "objects_every_frame",
            "objects",
            "objects_corrected",
        ],
        [],
    ),
    "stream": ("Streams, one pass with a buffer", ["abr1_vbv", "objects_vbv"], []),
    "clips": ("Clips of the paper", ["abr2", "abr2_corrected", "boxes", "objects", "objects_corrected"], []),
    "x265": ("Scenes of val on x265, two passes", ["abr2", "objects"], [*_VAL, "codec=x265", "codec.gop=30"]),
    "crf": ("Scenes of val at constant rate factors", ["crf", "objects_crf"], [*_VAL, "baseline=crf"]),
    "capped": (
        "Scenes of val at constant rate factors, capped at 1.5 times their bitrate",
        ["crf_capped", "objects_crf_capped"],
        [*_VAL, "baseline=crf_capped"],
    ),
}
ROWS = {
    "abr2": "two-pass ABR",
    "abr2_corrected": "two-pass ABR, corrected",
    "abr1_vbv": "one pass with a buffer",
    "boxes": "the judge's own boxes, -4 inside and +8 outside (bound)",
    "objects_every_frame": "objects, looked for at every frame and full size",
    "objects": "**objects**",
    "objects_corrected": "objects, corrected",
    "objects_own_every_frame": "objects, the judge itself looks at every frame",
    "objects_vbv": "**objects**, live",
    "crf": "constant rate factor",
    "objects_crf": "**objects** on it",
    "crf_capped": "constant rate factor, capped",
    "objects_crf_capped": "**objects** on it",
}


def main(words: list[str]) -> None:
    """Evaluate, print, and write the pages."""
    corpus, videos, *rest = words
    settings, asked = [word for word in rest if "=" in word], [word for word in rest if "=" not in word]
    reports = {}
    for scenario in SCENARIOS:
        for judge in JUDGES:
            out = ROOT / "runs" / "detection" / f"{scenario}-{judge}"
            if not asked or out.name in asked:
                measure(scenario, judge, out, corpus, videos, settings)
            if (out / "report.json").is_file():
                reports[scenario, judge] = json.loads((out / "report.json").read_text())
    details = "\n".join(f"### {SCENARIOS[s][0]}, judged by {JUDGES[j]}\n\n{detail(r)}" for (s, j), r in reports.items())
    write(ROOT / "docs" / "results.md", "detection", f"{overview(reports)}\n{details}")


def measure(scenario: str, judge: str, out: Path, corpus: str, videos: str, settings: list[str]) -> None:
    """Write the report of one scenario and judge into `out`, if it is not there."""
    if (out / "report.json").is_file():
        return
    _, controllers, others = SCENARIOS[scenario]
    data = ["data=corpus", f"data.root={corpus}", "data.split=test"]
    if scenario == "stream":
        names = sorted(path.name for path in list_videos(videos))
        data = ["data=folder", f"data.root={videos}", f"data.test=[{','.join(names)}]"]
    scenario_words = others or [f"scenario={scenario}"]
    chosen = [*scenario_words, f"controllers=[{','.join(controllers)}]", f"task.model={judge}", "bootstrap=1000"]
    words = ["control", "task=detection", *data, *chosen, f"out={out}", *settings]
    print(evaluation.run(parse("evaluate", words)[1]), flush=True)


def overview(reports: dict[tuple[str, str], dict[str, Any]]) -> str:
    """One row per scenario, judge and controller."""
    head = [
        "scenario",
        "judge",
        "controller",
        "BD-rate of AP50",
        "of the bound",
        "better in",
        "not worse in",
        "within the target",
    ]
    body = []
    for (scenario, judge), report in reports.items():
        groups = len({clip["group"] for clip in report["clips"]})
        place = f"{scenario}, {len(report['clips'])} of {groups} groups"
        for name, s in report["summary"].items():
            if name != report["baseline"]:
                share = "-" if s["share_of_bound"] is None else f"{s['share_of_bound']:.0f} % {ends(s['share_of_bound_ci95'])}"
                cells = [f"{s['better_share']:.0%}", f"{s['not_worse_share']:.0%}", f"{s['met_share']['0']:.0%}"]
                body.append([place, JUDGES[judge], ROWS[name], bd(s), share, *cells])
    return markdown_table(head, body)


def detail(report: dict[str, Any]) -> str:
    """Metrics at every target, and BD-rates by kind of scene."""
    bpp = report["summary"][report["baseline"]]["target_kbps"]
    head = ["controller", *[f"target {i + 1}" for i in range(len(bpp))], "mAP50", "BD-rate", "at equal loss"]
    body = []
    for name, s in report["summary"].items():
        cells = [f"{m:.3f} @ {r:.4f}" for m, r in zip(s["metric"], s["bits_per_pixel"], strict=True)]
        body.append([ROWS[name], *cells, " ".join(f"{v:.3f}" for v in s["mAP50"]), bd(s), bd(s, "bd_rate_of_loss")])
    noise = ", ".join(f"{name} {value:.3f}" for name, value in report["under_noise"].items())
    text = f"AP50 @ bits per pixel; uncoded, under +-1 grey level: {noise}\n\n{markdown_table(head, body)}"
    others = {name: s for name, s in report["summary"].items() if name != report["baseline"]}
    kinds = next(iter(others.values()))["kinds"]
    if not kinds:
        return text
    rows = [[kind, str(k["groups"]), *[bd(s["kinds"][kind]) for s in others.values()]] for kind, k in kinds.items()]
    return f"{text}\n{markdown_table(['kind of scene', 'groups', *[ROWS[name] for name in others]], rows)}"


def bd(figures: dict[str, Any], kind: str = "bd_rate") -> str:
    """A BD-rate and its 95 % interval."""
    value = figures[f"{kind}_percent"]
    return "-" if value is None else f"{value:+.1f} % {ends(figures[f'{kind}_ci95'])}"


def ends(interval: list[float] | None) -> str:
    """Of an interval."""
    return "" if interval is None else f"[{interval[0]:+.0f}, {interval[1]:+.0f}]"


def write(page: Path, name: str, table: str) -> None:
    """Put a table between its markers."""
    before, rest = page.read_text().split(f"<!-- {name} begin -->\n")
    page.write_text(f"{before}<!-- {name} begin -->\n{table}<!-- {name} end -->{rest.split(f'<!-- {name} end -->')[1]}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
