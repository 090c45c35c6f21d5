"""The page of a comparison: one HTML file that needs nothing else, pictures and curves inside."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from dvcc._words import decibels, direction
from dvcc.evaluation.compare.encoding import Measured
from dvcc.evaluation.compare.measure import PicturedFrame
from dvcc.evaluation.compare.pictures import JPEG_QUALITY, WIDEST
from dvcc.units import MACROBLOCK, macroblock_grid

_COLOURS = {"#000001": "currentColor", "#000002": "var(--abr2)", "#000003": "var(--control)"}  # what CSS decides, light or dark
_INK, _LINES = "#000001", {"abr2": "#000002", "control": "#000003"}
_MAP = matplotlib.colormaps["viridis_r"]


@dataclass(frozen=True)
class Comparison:
    """What the page shows. names: of "abr2" and "control". facts: (what, value) of how it was measured. sides: whether PSNR is
    told apart inside and outside the objects."""

    title: str
    names: dict[str, str]
    metric_name: str
    higher_is_better: bool
    target_kbps: float
    measured: list[Measured]
    pictured: list[PicturedFrame]
    headline: str
    remarks: list[str]
    facts: list[tuple[str, str]]
    first_frame: int
    fps: float
    size: tuple[int, int]
    sides: bool = False


def render(comparison: Comparison) -> str:
    """The whole page."""
    folder = files("dvcc.evaluation.compare")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(folder.joinpath("page.html").read_text("utf-8"))
    low, high = _bounds(comparison.pictured)
    main = [m for m in comparison.measured if m.target_kbps == comparison.target_kbps]
    height, width = comparison.size
    rows, columns = macroblock_grid(height, width)
    return template.render(
        c=comparison,
        decibels=decibels,
        style=folder.joinpath("page.css").read_text("utf-8"),
        script=folder.joinpath("page.js").read_text("utf-8"),
        main=main,
        direction=direction(comparison.higher_is_better),
        frames=[_frame(frame, comparison, low, high) for frame in comparison.pictured],
        legend={"low": low, "high": high, "stops": [matplotlib.colors.to_hex(_MAP(i / 8)) for i in range(9)]},
        map_size=(100 * columns * MACROBLOCK / width, 100 * rows * MACROBLOCK / height),
        width=width,
        height=height,
        shown_at=f"scaled to {WIDEST} pixels across" if width > WIDEST else "at full size",
        jpeg_quality=JPEG_QUALITY,
        metric_curve=_metric_curve(comparison),
        rate_curve=_rate_curve(comparison, main),
    )


def _frame(frame: PicturedFrame, comparison: Comparison, low: float, high: float) -> dict[str, Any]:
    index = comparison.first_frame + frame.index
    return {
        "index": index,
        "seconds": index / comparison.fps,
        "pictures": {name: _uri(picture, "jpeg") for name, picture in frame.pictures.items()},
        "seen": {name: _uri(picture, "jpeg") for name, picture in frame.seen.items()},
        "maps": {name: _map_png(qp, low, high) for name, qp in frame.qp.items()},
        "mean_qp": {name: float(qp.mean()) for name, qp in frame.qp.items()},
        "kbit": {name: bits / 1000 for name, bits in frame.bits.items()},
        "types": frame.types,
    }


def _bounds(pictured: Sequence[PicturedFrame]) -> tuple[int, int]:
    """One scale for all maps; at least 8 QPs wide, so that a nearly flat map looks nearly flat."""
    values = np.concatenate([qp.ravel() for frame in pictured for qp in frame.qp.values()])
    low, high = np.percentile(values, [1, 99])
    middle, half = (low + high) / 2, max(4.0, (high - low) / 2)
    return round(middle - half), round(middle + half)


def _map_png(qp: np.ndarray, low: float, high: float) -> str:
    """One pixel per macroblock; the page scales it up."""
    buffer = io.BytesIO()
    Image.fromarray(_MAP((qp - low) / (high - low), bytes=True)).save(buffer, "png")
    return _uri(buffer.getvalue(), "png")


def _uri(file: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def _metric_curve(comparison: Comparison) -> str:
    figure, axis = _axes(f"{comparison.metric_name}, {direction(comparison.higher_is_better)}", "kbit/s taken")
    for name, colour in _LINES.items():
        points = sorted((m.bitrate_kbps, m.metric) for m in comparison.measured if m.controller == name)
        marker = "o" if name == "abr2" else "s"
        axis.plot(*zip(*points, strict=True), marker=marker, color=colour, label=comparison.names[name], linewidth=2)
    axis.axvline(comparison.target_kbps, color=_INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axis.annotate(
        "target",
        (comparison.target_kbps, 0.02),
        xycoords=("data", "axes fraction"),
        color=_INK,
        fontsize=8,
        ha="right",
        rotation=90,
    )
    return _svg(figure, axis, "metric")


def _rate_curve(comparison: Comparison, main: Sequence[Measured]) -> str:
    """kbit/s of every second; kbit of every frame of a stretch of less than four."""
    fps = comparison.fps
    by_second = main[0].num_frames >= 4 * fps
    figure, axis = _axes("kbit/s, by the second" if by_second else "kbit per frame", "seconds of the video")
    for m in main:
        times, kbits = _by_second(m) if by_second else _by_frame(m)
        axis.step(
            comparison.first_frame / fps + np.append(times, m.num_frames / fps),
            np.append(kbits, kbits[-1]),
            where="post",
            color=_LINES[m.controller],
            label=comparison.names[m.controller],
            linestyle="-" if m.controller == "abr2" else "--",
            linewidth=2,
        )
    if by_second:
        axis.axhline(comparison.target_kbps, color=_INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axis.set_ylim(bottom=0)
    return _svg(figure, axis, "rate")


def _by_frame(coded: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Seconds from the start of the stretch, and kbit."""
    return np.arange(coded.num_frames) / float(coded.fps), coded.bits_per_frame / 1000


def _by_second(coded: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Seconds, and kbit/s in each; the last one may be short."""
    seconds = (np.arange(coded.num_frames) / float(coded.fps)).astype(int)
    frames = np.bincount(seconds)
    return np.arange(len(frames)), np.bincount(seconds, coded.bits_per_frame / 1000) / frames * float(coded.fps)


def _axes(y_label: str, x_label: str) -> tuple[plt.Figure, plt.Axes]:
    figure, axis = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
    axis.set_ylabel(y_label, color=_INK)
    axis.set_xlabel(x_label, color=_INK)
    axis.tick_params(colors=_INK, labelsize=9)
    axis.grid(color=_INK, alpha=0.15)
    axis.set_facecolor("none")
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    return figure, axis


def _svg(figure: plt.Figure, axis: plt.Axes, name: str) -> str:
    """Inline SVG that takes its colours from the page, with identifiers of its own."""
    axis.legend(frameon=False, labelcolor=_INK, fontsize=9)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\1{name}-", buffer.getvalue())
    for sentinel, colour in _COLOURS.items():
        svg = svg.replace(sentinel, colour)
    return svg[svg.index("<svg") :]
