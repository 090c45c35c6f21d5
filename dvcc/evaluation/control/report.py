"""The folder of an evaluation: report.json, rows.csv, report.md, index.html, curves.png, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvcc import units
from dvcc._files import write_atomic
from dvcc.evaluation.control.measure import Bench
from dvcc.evaluation.control.page import render
from dvcc.evaluation.tables import Section, csv_text, number
from dvcc.tasks.base import Task
from dvcc.visuals import curves, rgb, strip

_PICTURE = "pictures/middle_target.png"
_FIGURES = f"![curves](curves.png)\n\n![maps and what the network saw]({_PICTURE})\n"


def write_report(out: Path, report: dict[str, Any], rows: Sequence[dict[str, Any]], bench: Bench, clips: Sequence[int]) -> str:
    """Write every file; returns the tables and the paths of report.md and index.html, for the terminal.

    clips: numbers of those measured.
    """
    write_atomic(out / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_atomic(out / "rows.csv", csv_text(rows))
    summary = report["summary"]
    series = {
        name: [(rate, value, None) for rate, value in zip(s["bits_per_pixel"], s["metric"], strict=True) if rate is not None]
        for name, s in summary.items()
    }
    title = f"{report['metric']} against the prediction on the uncoded clip ({report['judge']}), {len(clips)} test clips"
    curves(series, out / "curves.png", x_label="bits per pixel (real encodes)", y_label=report["metric"], title=title)
    _pictures(out, report, bench, clips[len(clips) // 2])
    sections, notes = _sections(report), _notes(report)
    tables = "\n".join(section.markdown() for section in sections)
    listed = "".join(f"- {note}\n" for note in notes)
    write_atomic(out / "report.md", f"# Rate control for {report['config']['task']['name']}\n\n{tables}\n{listed}\n{_FIGURES}")
    write_atomic(out / "index.html", render(report, sections, notes, (out / _PICTURE).read_bytes()))
    training = [f"- {note}" for note in _notes_on_training(report)]
    return "\n".join([tables, *training, f"report: {out / 'report.md'}", f"page: {out / 'index.html'}"])


def _sections(report: dict[str, Any]) -> list[Section]:
    return [_rate_matched(report), *_by_clip(report), *_pairs(report), *_of_labels(report), _strict(report)]


def _rate_matched(report: dict[str, Any]) -> Section:
    """Metric and achieved rate at every target, and BD-rate against two-pass ABR."""
    summary, seeds = report["summary"], report["seed_spread"]
    metric = report["metric"] if report["higher_is_better"] else f"{report['metric']}, less is better,"
    targets = [number(t, ".0f") for t in summary[report["baseline"]]["target_kbps"]]
    head = [
        "controller",
        *[f"{t} kbit/s" for t in targets],
        "BD-rate",
        "95 % interval",
        *(["seed to seed"] if seeds else []),
        "at equal loss",
        "95 % interval",
        "BD-rate stands on",
        "encodes",
    ]
    body = []
    for name, s in summary.items():
        cells = [f"{number(m, '.3f')} @ {number(r, '.1f')}" for m, r in zip(s["metric"], s["achieved_kbps"], strict=True)]
        figures = []
        for kind in ("bd_rate", "bd_rate_of_loss"):
            figures.append("baseline" if name == report["baseline"] else f"{number(s[f'{kind}_percent'], '+.1f')} %")
            figures.append(_interval(s[f"{kind}_ci95"], "+.1f"))
        basis = "-" if name == report["baseline"] else _basis(s["bd_basis"])
        spread = [_seeds(seeds.get(name))] if seeds else []
        body.append([name, *cells, *figures[:2], *spread, *figures[2:], basis, number(s["num_encodes"], ".1f")])
    reasons = [
        f"No BD-rate{at} for {name}: {reason}."
        for name, s in summary.items()
        for at, reason in (("", s["bd_basis"]["reason"]), (" at equal loss", s["bd_basis"]["reason_of_loss"]))
        if reason and name != report["baseline"]
    ]
    noise = ", ".join(f"{name} {number(value, '.3f')}" for name, value in report["under_noise"].items())
    title = (
        f"Rate-matched: {metric} @ achieved kbit/s, per target (BD-rate: bits at equal metric, or at equal task loss; negative "
        f"is better). Uncoded, under noise of +-1 grey level: {noise}"
    )
    return Section(title, head, body, reasons)


def _by_clip(report: dict[str, Any]) -> list[Section]:
    """Clip by clip, against the judge's own boxes, other metrics, and by kind of scene."""
    others = {name: s for name, s in report["summary"].items() if name != report["baseline"]}
    if not others:
        return []
    bound = "boxes" in others
    head = ["controller", "better in", "not worse in", *(["of the gain of boxes", "95 % interval"] if bound else [])]
    head += [f"{name} per target" for name in report["beside"]]
    kinds = sorted({kind for s in others.values() for kind in s["kinds"]})
    body = []
    for name, s in others.items():
        cells = [name, f"{number(s['better_share'], '.0%')}", f"{number(s['not_worse_share'], '.0%')}"]
        if bound:
            cells += [f"{number(s['share_of_bound'], '.0f')} %", _interval(s["share_of_bound_ci95"], ".0f")]
        cells += [" ".join(number(value, ".3f") for value in s[other]) for other in report["beside"]]
        body.append(cells)
    title = (
        f"Clip by clip: share of the clips that need fewer bits than {report['baseline']} at equal metric, and of those that "
        "need at most 2 % more"
    )
    sections = [Section(title, head, body)]
    if kinds:
        head = ["kind of scene", "groups", *[cell for name in others for cell in (name, "95 % interval")]]
        body = []
        for kind in kinds:
            of_kind = [s["kinds"][kind] for s in others.values()]
            figures = [(f"{number(f['bd_rate_percent'], '+.1f')} %", _interval(f["bd_rate_ci95"], "+.0f")) for f in of_kind]
            body.append([kind, str(of_kind[0]["groups"]), *[cell for pair in figures for cell in pair]])
        sections.append(Section("BD-rate by kind of scene; below six groups it is shown, not judged", head, body))
    return sections


def _pairs(report: dict[str, Any]) -> list[Section]:
    """BD-rates against every further rival."""
    head = ["controller", "BD-rate", "95 % interval", "at equal loss", "95 % interval", "better in", "not worse in"]
    sections = []
    for rival, others in report["pairs"].items():
        body = []
        for name, s in others.items():
            kinds = ("bd_rate", "bd_rate_of_loss")
            figures = [(f"{number(s[f'{kind}_percent'], '+.1f')} %", _interval(s[f"{kind}_ci95"], "+.1f")) for kind in kinds]
            shares = [number(s[share], ".0%") for share in ("better_share", "not_worse_share")]
            body.append([name, *[cell for pair in figures for cell in pair], *shares])
        sections.append(Section(f"Paired with {rival}: the same clips, the same encodes", head, body))
    return sections


def _interval(ends: Sequence[float] | None, spec: str) -> str:
    return "-" if ends is None else f"[{ends[0]:{spec}}, {ends[1]:{spec}}]"


def _seeds(spread: dict[str, Any] | None) -> str:
    """BD-rates of the same training with other seeds, in a cell."""
    if spread is None:
        return "-"
    ends = "-" if spread["bd_rates"] is None else "{:+.1f} to {:+.1f}".format(*spread["bd_rates"])
    return f"{ends} ({len(spread['seeds'])} seeds)"


def _basis(basis: dict[str, Any]) -> str:
    """Points, overlap and share of monotone curves, in a cell."""
    return f"{basis['points']} points, {basis['overlap']:.0%} overlap, {basis['monotone_share']:.0%} monotone"


def _of_labels(report: dict[str, Any]) -> list[Section]:
    """Metric against the labels of a data set and rate at every target, if there are any."""
    labels = report["labels"]
    if labels is None:
        return []
    baseline = report["baseline"]
    head = ["controller", *[f"target {i + 1}" for i in range(len(labels["controllers"][baseline]["metric"]))]]
    body = []
    for name, s in labels["controllers"].items():
        cells = [f"{number(m, '.3f')} @ {number(r, '.4f')}" for m, r in zip(s["metric"], s["bits_per_pixel"], strict=True)]
        figure = "baseline" if name == baseline else f"{number(s['bd_rate_percent'], '+.1f')} %"
        body.append([name, *cells, figure, _interval(s["bd_rate_ci95"], "+.1f")])
    title = (
        f"Against the labels of {labels['data']} ({labels['clips']} clips): {report['metric']} @ bits per pixel, per target; "
        f"uncoded {number(labels['uncoded'], '.3f')}"
    )
    return [Section(title, [*head, "BD-rate", "95 % interval"], body)]


def _strict(report: dict[str, Any]) -> Section:
    """Share of clips within the target, and the metric where the others are lost."""
    head = ["controller", "met +0 %", "met +5 %", "met +10 %", f"{report['metric']} at +0 %, mean over targets"]
    head += ["over abr2_corrected", "95 % interval", "achieved / target"]
    body = []
    for name, s in report["summary"].items():
        strict = [m for m in s["strict_metric"]["0"] if m is not None]
        shares = [number(share, ".0%") for share in s["met_share"].values()]
        gain = s["strict_gain_percent"]
        body.append(
            [
                *[name, *shares, number(sum(strict) / max(1, len(strict)), ".3f")],
                "-" if gain is None else f"{gain:+.1f} %",
                _interval(s["strict_gain_ci95"], "+.1f"),
                "{:.2f} .. {:.2f} .. {:.2f}".format(*s["rate_ratio"]) if s["rate_ratio"] else "-",
            ]
        )
    title = (
        "Strict bandwidth: share of clips with achieved <= target x (1 + tolerance); a clip over its target counts as "
        f"{report['lost_as']}. Achieved over target: least, median, most"
    )
    return Section(title, head, body)


def _notes(report: dict[str, Any]) -> list[str]:
    """Return how it was measured, a sentence each."""
    videos = sorted({clip["video"] for clip in report["clips"]})
    data, codec = report["config"]["data"], report["config"]["codec"]
    frames = f"{data['frames']} frames, " + (f"{data['fps']:g} a second" if data["fps"] else f"stride {data['stride']}")
    size = ("" if data["crop"] else "within ") + f"{data['size'][0]}x{data['size'][1]}"
    factors = report["config"]["rate_factors"]
    return [
        f"{len(report['clips'])} clips of {len(videos)} test video(s): {', '.join(videos)}; {frames}, {size}; one in "
        f"{report['config']['judged_every']} frames is judged.",
        f"Every target is coded at {len(factors)} rate(s), {', '.join(f'{factor:g}' for factor in factors)} times it.",
        f"{len(report['unstable_clips'])} clip(s) left out because the network disagrees with itself under +-1 noise.",
        f"Encoder: {codec['name']} {codec['preset']}, GOP {codec['gop']}, one thread; bits are slices and parameter sets.",
        "Intervals: bootstrap over groups of test videos; none for fewer than three, and below eight they are rough.",
        *_notes_on_training(report),
        *(f"{note}." for note in report["labels_left_out"]),
        f"Versions: {', '.join(f'{k} {v}' for k, v in report['versions'].items())}.",
    ]


def _notes_on_training(report: dict[str, Any]) -> list[str]:
    """Return what a reader must know of the control before believing its row."""
    trained = report["trained_for"]
    if trained is None:
        return []
    notes = []
    if trained["task"] == report["config"]["task"]:
        notes.append(f"The judge, {report['judge']}, is the network that the control was trained for: judge with another too.")
    if trained["codec"] != report["config"]["codec"]:
        notes.append(f"The control was trained for another encoder: {trained['codec']}.")
    return notes


def _pictures(out: Path, report: dict[str, Any], bench: Bench, index: int) -> None:
    """One row for the baseline, one for a learned control or the rule: QPs, coded frame, prediction.

    One clip at the middle rate of the baseline, last frame. The control's QPs are those that it asked for; ABR's are
    those that it coded. The first column has the uncoded frame and the reference.
    """
    baseline, task = report["baseline"], bench.task
    clip = bench.tests.load(index)[0]
    rates = [rate for rate in report["summary"][baseline]["bits_per_pixel"] if rate is not None]
    target = units.bits_per_pixel_to_kbps(rates[len(rates) // 2], fps=clip.fps, height=clip.height, width=clip.width)
    last = clip.num_frames - 1
    first_column = {"uncoded": rgb(clip.frames[last]), "prediction on the uncoded frame": _last_picture(task, clip.frames)}
    controls = [name for name in bench.controllers if name.startswith(("learned", "objects"))]
    panels: dict[str, np.ndarray] = {}
    maps: dict[str, np.ndarray] = {}
    for (title, picture), name in zip(first_column.items(), [baseline, *controls[:1]], strict=False):
        coded = bench.controllers[name].encode(clip, target)
        last_frame = coded.frames[last]
        panels |= {
            title: picture,
            f"{name}: QPs": rgb(last_frame),
            f"{name}: coded, {coded.bitrate_kbps:.0f} kbit/s": rgb(last_frame),
            f"{name}: prediction": _last_picture(task, coded.frames),
        }
        if coded.codec == "h264":  # of another, QPs cannot be read back
            maps[f"{name}: QPs"] = (coded.requested_qp or coded.realised_qp()).values[last]
    strip(panels, out / _PICTURE, qp=maps)


@torch.inference_mode()
def _last_picture(task: Task, frames: torch.Tensor) -> np.ndarray:
    """Return the last prediction for a clip, drawn on the last frame."""
    return rgb(task.picture(frames[-1], task.predict(frames[-1 - task.overlap :])[-1]))
