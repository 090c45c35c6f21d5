"""The page of an evaluation: findings, curves, pictures and tables of its report in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dvcc._words import direction
from dvcc.evaluation.pages import charts
from dvcc.evaluation.pages.document import document, fill, uri
from dvcc.evaluation.tables import Section

_CONTROLS = ("learned", "objects")
"""How the names of controllers begin that the page is about; the others are what they are compared with."""


def render(report: dict[str, Any], sections: Sequence[Section], notes: Sequence[str], picture: bytes) -> str:
    """Return the page of a report. notes: how it was measured. picture: the PNG of maps and predictions."""
    task = report["config"]["task"]["name"]
    title = f"Rate control for {task}: {len(report['clips'])} test clips, judged by {report['judge']}"
    article = fill(
        __package__,
        "evaluation.html",
        title=title,
        findings=findings(report),
        curve=_curve(report),
        metric=report["metric"],
        direction=direction(report["higher_is_better"]),
        picture=uri(picture, "image/png"),
        sections=sections,
        baseline=report["baseline"],
        controls=_controls(report),
        notes=notes,
    )
    return document(title, [article])


def findings(report: dict[str, Any]) -> list[str]:
    """Return what was found of every control against the baseline: bits at equal metric and at equal task loss."""
    sentences = []
    for name in _controls(report):
        figures = report["summary"][name]
        for kind, what in (("bd_rate", report["metric"]), ("bd_rate_of_loss", "task loss")):
            percent, interval = figures[f"{kind}_percent"], figures[f"{kind}_ci95"]
            sentences.append(_finding(name, report["baseline"], what, percent, interval))
    return sentences


def _finding(name: str, baseline: str, what: str, percent: float | None, interval: Sequence[float] | None) -> str:
    if percent is None:
        return f"At equal {what}: no figure for {name}, because its curve and that of {baseline} cannot be compared."
    bits = f"At equal {what}, {name} takes {abs(percent):.1f} % {'fewer' if percent < 0 else 'more'} bits than {baseline}"
    if interval is None:
        return f"{bits}; there are too few groups of videos for an interval."
    low, high = interval
    doubt = " The difference is not statistically significant." if low <= 0 <= high else ""
    return f"{bits} (95 % interval {low:+.1f} to {high:+.1f} %).{doubt}"


def _controls(report: dict[str, Any]) -> list[str]:
    return [name for name in report["summary"] if name.startswith(_CONTROLS) and name != report["baseline"]]


def _curve(report: dict[str, Any]) -> str:
    """Return the metric over bits per pixel, a curve for each controller; baseline and first control drawn as on all pages."""
    figure, axis = charts.axes(
        f"{report['metric']}, {direction(report['higher_is_better'])}", "bits per pixel of real encodes", size=(9.0, 4.4)
    )
    known = {report["baseline"]: "abr2"} | dict.fromkeys(_controls(report)[:1], "control")
    others = [name for name in report["summary"] if name not in known]
    for name, figures in report["summary"].items():
        rates = zip(figures["bits_per_pixel"], figures["metric"], strict=True)
        points = [(rate, metric) for rate, metric in rates if rate is not None and metric is not None]
        style = charts.style_of(known[name]) if name in known else charts.style_of_other(others.index(name))
        if points:
            charts.metric_over_rate(axis, points, name, **style)
    return charts.svg(figure, axis, "evaluation")
