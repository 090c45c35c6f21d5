"""The page of a comparison: one HTML file that needs nothing else, pictures, curves and videos inside."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from dvcc._words import decibels, direction
from dvcc.evaluation.compare.encoding import Measured
from dvcc.evaluation.compare.measure import PicturedFrame
from dvcc.evaluation.compare.pictures import JPEG_QUALITY, WIDEST
from dvcc.evaluation.pages import charts
from dvcc.evaluation.pages.document import document, fill, uri
from dvcc.units import MACROBLOCK, macroblock_grid

_LARGEST_VIDEO = 32_000_000
"""Bytes of a coded video that the page holds; of a larger one it gives the name."""
_MAP = matplotlib.colormaps["viridis_r"]


@dataclass(frozen=True)
class Comparison:
    """What the page shows.

    names: of "abr2" and "control". videos: the mp4 files of the stretch as coded at `target_kbps`, by the same names. facts:
    (what, value) of how it was measured. sides: whether PSNR is told apart inside and outside the objects.
    """

    title: str
    names: dict[str, str]
    metric_name: str
    higher_is_better: bool
    target_kbps: float
    measured: list[Measured]
    pictured: list[PicturedFrame]
    videos: dict[str, Path]
    headline: str
    remarks: list[str]
    facts: list[tuple[str, str]]
    first_frame: int
    fps: float
    size: tuple[int, int]
    sides: bool = False


def render(comparison: Comparison) -> str:
    """Return the whole page."""
    title = f"{comparison.title}: {comparison.names['abr2']} and {comparison.names['control']}"
    return document(title, [_article(comparison)])


def _article(comparison: Comparison) -> str:
    low, high = _bounds(comparison.pictured)
    main = [m for m in comparison.measured if m.target_kbps == comparison.target_kbps]
    height, width = comparison.size
    rows, columns = macroblock_grid(height, width)
    return fill(
        __package__,
        "comparison.html",
        c=comparison,
        decibels=decibels,
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
        videos=_videos(comparison),
    )


def _videos(comparison: Comparison) -> dict[str, str]:
    """Return the coded videos as addresses that hold them; none where one is too large."""
    if any(path.stat().st_size > _LARGEST_VIDEO for path in comparison.videos.values()):
        return {}
    return {name: uri(path.read_bytes(), "video/mp4") for name, path in comparison.videos.items()}


def _frame(frame: PicturedFrame, comparison: Comparison, low: float, high: float) -> dict[str, Any]:
    index = comparison.first_frame + frame.index
    return {
        "index": index,
        "seconds": index / comparison.fps,
        "pictures": {name: uri(picture, "image/jpeg") for name, picture in frame.pictures.items()},
        "seen": {name: uri(picture, "image/jpeg") for name, picture in frame.seen.items()},
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
    return uri(buffer.getvalue(), "image/png")


def _metric_curve(comparison: Comparison) -> str:
    figure, axis = charts.axes(f"{comparison.metric_name}, {direction(comparison.higher_is_better)}", "kbit/s taken")
    for name, title in comparison.names.items():
        points = [(m.bitrate_kbps, m.metric) for m in comparison.measured if m.controller == name]
        charts.metric_over_rate(axis, points, title, **charts.style_of(name))
    axis.axvline(comparison.target_kbps, color=charts.INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axis.annotate(
        "target",
        (comparison.target_kbps, 0.02),
        xycoords=("data", "axes fraction"),
        color=charts.INK,
        fontsize=8,
        ha="right",
        rotation=90,
    )
    return charts.svg(figure, axis, "metric")


def _rate_curve(comparison: Comparison, main: Sequence[Measured]) -> str:
    """kbit/s of every second; kbit of every frame of a stretch of less than four."""
    fps = comparison.fps
    by_second = main[0].num_frames >= 4 * fps
    figure, axis = charts.axes("kbit/s, by the second" if by_second else "kbit per frame", "seconds of the video")
    for m in main:
        times, kbits = _by_second(m) if by_second else _by_frame(m)
        axis.step(
            comparison.first_frame / fps + np.append(times, m.num_frames / fps),
            np.append(kbits, kbits[-1]),
            where="post",
            label=comparison.names[m.controller],
            **{**charts.style_of(m.controller), "marker": ""},
        )
    if by_second:
        axis.axhline(comparison.target_kbps, color=charts.INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axis.set_ylim(bottom=0)
    return charts.svg(figure, axis, "rate")


def _by_frame(coded: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Seconds from the start of the stretch, and kbit."""
    return np.arange(coded.num_frames) / float(coded.fps), coded.bits_per_frame / 1000


def _by_second(coded: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Seconds, and kbit/s in each; the last one may be short."""
    seconds = (np.arange(coded.num_frames) / float(coded.fps)).astype(int)
    frames = np.bincount(seconds)
    return np.arange(len(frames)), np.bincount(seconds, coded.bits_per_frame / 1000) / frames * float(coded.fps)
