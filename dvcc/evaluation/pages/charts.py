"""Curves as inline SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib import pyplot as plt

INK = "#000001"
"""What stands for the page's ink in a figure."""

_OTHERS = 6
_STYLES: dict[str, dict[str, Any]] = {
    "abr2": {"color": "#000002", "marker": "o", "linestyle": "-", "linewidth": 2.2},
    "control": {"color": "#000003", "marker": "s", "linestyle": "--", "linewidth": 2.2},
}
_MARKERS, _DASHES = ("^", "v", "D", "P", "X", "*"), ((0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_COLOURS = {INK: "currentColor", "#000002": "var(--abr2)", "#000003": "var(--control)"}
_COLOURS |= {f"#00001{number}": f"var(--other{number})" for number in range(_OTHERS)}


def style_of(name: str) -> dict[str, Any]:
    """Return colour, marker and dashes of "abr2" or "control"."""
    return dict(_STYLES[name])


def style_of_other(number: int) -> dict[str, Any]:
    """Return colour, marker and dashes of another curve: told apart without colours as well."""
    place = number % _OTHERS
    return {
        "color": f"#00001{place}",
        "marker": _MARKERS[place],
        "linestyle": _DASHES[number % len(_DASHES)],
        "linewidth": 1.3,
    }


def axes(y_label: str, x_label: str, *, size: tuple[float, float] = (6.0, 3.6)) -> tuple[plt.Figure, plt.Axes]:
    """Return a figure of `size` inches and its axes, in the page's ink."""
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.set_ylabel(y_label, color=INK)
    axis.set_xlabel(x_label, color=INK)
    axis.tick_params(colors=INK, which="both", labelsize=9)
    axis.grid(color=INK, alpha=0.15)
    axis.set_facecolor("none")
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axis


def metric_over_rate(axis: plt.Axes, points: Sequence[tuple[float, float]], label: str, **style: Any) -> None:
    """Draw a curve through (rate, metric)."""
    axis.plot(*zip(*sorted(points), strict=True), label=label, markersize=5, **style)


def svg(figure: plt.Figure, axis: plt.Axes, name: str) -> str:
    """Return the figure as inline SVG, with identifiers that begin with `name`, and release it."""
    axis.legend(frameon=False, labelcolor=INK, fontsize=9, handlelength=3.2)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", buffer.getvalue())
    for sentinel, colour in _COLOURS.items():
        text = text.replace(sentinel, colour)
    return text[text.index("<svg") :]
