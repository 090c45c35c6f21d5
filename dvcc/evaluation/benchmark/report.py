"""The folder of a benchmark: report.json, rows.csv, report.md, curves.png, bits.png and strips of what the networks see."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvcc._files import write_atomic
from dvcc._words import counted
from dvcc.codecs import JPEG, X264, Chain, Codec
from dvcc.codecs.plain import PlainCodec
from dvcc.datasets import DataSet, Example
from dvcc.evaluation.benchmark.history import coded_before
from dvcc.evaluation.benchmark.networks import taken_for
from dvcc.evaluation.benchmark.pictures import draw_curves, draw_panels, draw_strips
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED, Row
from dvcc.evaluation.benchmark.summary import audit, metrics_of, not_monotone, summarise
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.evaluation.labels import labels_left_out
from dvcc.evaluation.statistics import LEAST_CLUSTERS
from dvcc.evaluation.tables import csv_text, markdown_table, number
from dvcc.tasks import Task
from dvcc.tasks.judging import pooled
from dvcc.training.record import versions

_LOSE_AT_MOST = {True: 0.02, False: 0.5}  # of an accuracy; pixels of an end-point error
_TRACKING = "identities kept"
"""The metric of a detector that needs clips: on single pictures nothing is tracked."""
_LABELS = {"cqp": "QP", "crf": "CRF", "abr": "kbit/s asked for", "quality": "JPEG quality", "quantizer": "quantizer"}


@dataclass(frozen=True, eq=False)
class Result:
    """What was measured.

    given: what was asked for, by the names of `networks`. labelled: as in `benchmark.measure.Measuring`. skipped: why
    examples were left out. kept: rows that were there already. seconds: by what they were spent on.
    """

    sweep: Sweep
    networks: dict[str, Task]
    given: Mapping[str, str]
    examples: DataSet
    labelled: Mapping[str, Sequence[int] | None]
    rows: Sequence[Row]
    skipped: Sequence[str]
    kept: int
    seconds: Mapping[str, float]


def write_report(
    out: Path,
    result: Result,
    *,
    task_name: str,
    drawn: Example,
    audit_level: float | None,
    lose_at_most: float | None,
    bootstrap: int,
    seed: int,
    settings: dict[str, Any],
) -> str:
    """Write every file; returns the tables and the path of report.md, for the terminal.

    drawn: the example in the pictures. audit_level: None: the middle one. lose_at_most: of the metric; None: by its kind.
    settings: all of the command, for the report.
    """
    sweep, networks, rows, labelled = result.sweep, result.networks, result.rows, result.labelled
    finest_first = sorted(sweep.levels, reverse=sweep.rate in ("quality", "abr"))
    levels: list[float | str] = [UNCODED, NOISE, *finest_first]
    summary = summarise(rows, networks, levels, labelled=labelled, bootstrap=bootstrap, seed=seed)
    principal = {name: task.metric_name for name, task in networks.items()}  # reconstruction's differ from network to network
    better = bool(next(iter(networks.values())).metric().higher_is_better)
    at = audit_level if audit_level is not None else finest_first[len(finest_first) // 2]
    allowed = lose_at_most if lose_at_most is not None else _LOSE_AT_MOST[better]
    coded = {name: [p for p in points if p["bits_per_pixel"] is not None] for name, points in summary.items()}
    report = {
        "summary": summary,
        "audit": {
            name: audit(points, summary[name][0], principal[name], higher_is_better=better, at=at, lose_at_most=allowed)
            for name, points in coded.items()
        },
        "not_monotone": {name: not_monotone(points, principal[name], higher_is_better=better) for name, points in coded.items()},
        "metric": principal,
        "lose_at_most": allowed,
        "rate": sweep.rate,
        "examples": len({row.example for row in rows}),
        "groups": len({row.group for row in rows}),
        "skipped": list(result.skipped),
        "rows": len(rows),
        "rows_kept": result.kept,
        "networks": {name: {"given": result.given[name], "taken_for": taken_for(task)} for name, task in networks.items()},
        "coded_before": coded_before(result.examples),
        "labels_left_out": labels_left_out(result.examples, task_name, networks),
        "labels_merged": {name: list(classes) for name, classes in labelled.items() if classes is not None},
        "labels_compared": any(row.measured.absolute is not None for row in rows),
        "codec": repr(sweep.codec),
        "protocol": str(sweep.protocol),
        "seconds": dict(result.seconds),
        "config": settings,
        "versions": versions(),
    }
    write_atomic(out / "report.json", json.dumps(report, indent=1, allow_nan=False))
    lines = [line for row in rows for line in _flat(row, networks[row.network], labelled.get(row.network))]
    write_atomic(out / "rows.csv", csv_text(lines))
    pictures = draw_curves(out, coded, sweep.rate, _LABELS[sweep.rate], principal)
    kinds = {name: list(task.metrics()) for name, task in networks.items()}
    pictures += draw_panels(out, summary, kinds, task_name, _LABELS[sweep.rate])
    pictures += draw_strips(out, drawn, sweep, networks, finest_first, _LABELS[sweep.rate])
    metrics_by_table = [principal]
    if any(row.num_frames > 1 for row in rows) and all(_TRACKING in task.metrics() for task in networks.values()):
        metrics_by_table.append(dict.fromkeys(networks, _TRACKING))
    tables = "\n".join([*[_metric_table(report, coded, metrics) for metrics in metrics_by_table], _audit_table(report)])
    notes = _notes(report, sweep)
    images = [f"![{path}]({path})" for path in pictures]
    text = "\n".join([f"# What coding costs: {task_name}", "", tables, *notes, "", *images, ""])
    write_atomic(out / "report.md", text)
    return "\n".join([tables, *notes, f"report: {out / 'report.md'}"])


def _flat(row: Row, task: Task, classes: Sequence[int] | None) -> list[dict[str, Any]]:
    """Return a row as numbers, one line per metric."""
    about = {name: value for name, value in vars(row).items() if name != "measured"}
    about |= {"bits": row.measured.bits, "file_bits": row.measured.file_bits, "seconds": row.measured.seconds}
    lines = []
    kinds = metrics_of(task, classes)
    for name in task.metrics():
        both = {"relative": row.measured.relative, "absolute": row.measured.absolute}
        values = {kind: states and pooled(kinds[kind][name], [states[name]]) for kind, states in both.items()}
        lines.append({**about, "metric": name, **values})
    return lines


def _metric_table(report: dict[str, Any], coded: dict[str, list[dict[str, Any]]], metrics: dict[str, str]) -> str:
    """Every level's bits, and a metric of every network."""
    title = ", ".join(dict.fromkeys(metrics.values()))
    head = [_LABELS[report["rate"]], "bits / pixel", "kB / frame", "with container", *coded]
    body = []
    for row in zip(*coded.values(), strict=True):
        cells = [number(row[0]["level"], "g"), number(row[0]["bits_per_pixel"], ".3f"), number(row[0]["kilobytes"], ".1f")]
        cells.append(number(row[0]["file_kilobytes"], ".1f"))
        body.append([*cells, *[_figure(point["relative"][metrics[name]]) for name, point in zip(coded, row, strict=True)]])
    noise = {name: next(p for p in points if p["level"] == NOISE) for name, points in report["summary"].items()}
    body.append(["+-1 noise", "-", "-", "-", *[_figure(point["relative"][metrics[name]]) for name, point in noise.items()]])
    intervals = " (95 % intervals)" if report["groups"] >= LEAST_CLUSTERS else ""
    text = f"{title} against the network's own answer on the uncoded pictures{intervals}\n\n{markdown_table(head, body)}"
    if not any(point["absolute"] for points in coded.values() for point in points):
        return text
    body = []
    for points in zip(*report["summary"].values(), strict=True):
        level = points[0]["level"]
        cells = [_figure(p["absolute"][metrics[name]]) if p["absolute"] else "-" for name, p in zip(coded, points, strict=True)]
        body.append([level if isinstance(level, str) else f"{level:g}", *cells])
    return f"{text}\n{title} against the labels of the data set\n\n{markdown_table([head[0], *coded], body)}"


def _audit_table(report: dict[str, Any]) -> str:
    """Return the auditor's answer, one line per network."""
    allowed = report["lose_at_most"]
    label = _LABELS[report["rate"]]
    head = ["network", f"at {label}", "lost", "95 % interval", "kB / frame"]
    head += [f"loses at most {allowed:g} at", "kB / frame", "bandwidth"]
    body = []
    for name, answer in report["audit"].items():
        interval = "-" if answer["lost_ci95"] is None else "[{:.3f}, {:.3f}]".format(*answer["lost_ci95"])
        unknown = "-" if answer["lost"] is None else "none of these"
        enough = unknown if answer["enough"] is None else f"{answer['enough']:g}"
        ratio = "-" if answer["bandwidth_ratio"] is None else f"x {answer['bandwidth_ratio']:.2f}"
        cells = [name, f"{answer['at']:g}", number(answer["lost"], ".3f"), interval, number(answer["kilobytes"], ".1f")]
        body.append([*cells, enough, number(answer["enough_kilobytes"], ".1f"), ratio])
    at = next(iter(report["audit"].values()))["at"]
    setting = f"at your setting, {label} {at:g}"
    if report["config"]["audit_level"] is None:
        setting = f"at {label} {at:g}, the middle one of the levels (say which is yours with audit_level=)"
    return f"Audit: what is lost {setting}, and which setting loses at most {allowed:g}\n\n{markdown_table(head, body)}"


def _figure(figure: dict[str, Any]) -> str:
    interval = "" if figure["ci95"] is None else " [{:.3f}, {:.3f}]".format(*figure["ci95"])
    return f"{number(figure['value'], '.3f')}{interval}"


def _notes(report: dict[str, Any], sweep: Sweep) -> list[str]:
    data = report["config"]["data"]
    total = sum(report["seconds"].values())
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in report["seconds"].items())
    lines = [
        f"- {counted(report['examples'], 'picture or clip', 'pictures or clips')} in {counted(report['groups'], 'group')} "
        f"({data['name']}, {data['root']})",
        *[f"- {name}: {_network_words(**network)}" for name, network in report["networks"].items()],
        f"- Pictures before coding: {sweep.protocol}.",
        f"- Codec: {_codec_words(sweep.codec)}; bits without container and settings text, but where it says so.",
        f"- {total:.0f} s: {shares}.",
    ]
    if report["rows_kept"]:
        lines.append(f"- {report['rows_kept']} of {report['rows']} rows were there already, in {data['cache']}")
    if report["groups"] < LEAST_CLUSTERS:
        lines.append(f"- No intervals: {counted(report['groups'], 'group')} cannot say how others differ; {LEAST_CLUSTERS} can")
    lines += [f"- {sentence}" for sentence in [*report["coded_before"], *report["labels_left_out"]]]
    lines += [f"- {name}: its classes were merged to those of the labels" for name in report["labels_merged"]]
    empty = [name for name, points in report["summary"].items() if points[1]["relative"][report["metric"][name]]["value"] is None]
    lines += [f"- {name} finds nothing in the uncoded pictures: there is nothing to lose, and no curve to draw" for name in empty]
    lines += [f"- {name}: not monotone within its interval at {odd}" for name, odd in report["not_monotone"].items() if odd]
    if report["skipped"]:
        more = ", ..: report.json has all" if len(report["skipped"]) > 5 else ""
        lines.append(f"- {len(report['skipped'])} left out that cannot be used: {'; '.join(report['skipped'][:5])}{more}")
    return lines


def _network_words(given: str, taken_for: str) -> str:
    return ", ".join([given, *([f"taken for {taken_for}"] if taken_for else [])])


def _rate_words(rate: Any) -> str:
    return f"{type(rate).__name__} {rate.value:g}"


def _codec_words(codec: Codec) -> str:
    if isinstance(codec, JPEG):
        kinds = [word for word, on in (("optimised", codec.optimised), ("progressive", codec.progressive)) if on]
        return " ".join(["JPEG", *kinds, "4:2:0"])
    if isinstance(codec, PlainCodec):
        return f"{codec.library} {codec.preset}, GOP {codec.gop}, {codec.pixel_format}"
    if isinstance(codec, Chain):
        return f"{_codec_words(codec.first)} at {_rate_words(codec.first_rate)} first, then {_codec_words(codec.second)}"
    assert isinstance(codec, X264)
    more = " ".join([codec.flags, *(f"{name}={value}" for name, value in codec.params.items())]).strip()
    return f"x264 {codec.preset}, GOP {codec.gop}, {more or 'its defaults'}, 4:2:0"
