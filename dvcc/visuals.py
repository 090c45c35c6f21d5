"""Pictures: frames, QP maps and predictions side by side. Matplotlib draws, files appear whole."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")  # no window, in worker processes and on servers alike
import matplotlib.pyplot as plt
import numpy as np

from dvcc._files import write_atomic
from dvcc.units import MACROBLOCK

if TYPE_CHECKING:
    import torch


def save_figure(figure: plt.Figure, path: str | Path) -> None:
    """Write `figure` as PNG and release it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    write_atomic(path, buffer.getvalue())


def rgb(frame: torch.Tensor | np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of uint8 or float 0..1 (3, H, W)."""
    array = frame if isinstance(frame, np.ndarray) else frame.detach().cpu().numpy()
    if array.dtype != np.uint8:
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    return array.transpose(1, 2, 0)


def draw_qp(axis: plt.Axes, frame: np.ndarray, qp: np.ndarray, *, bounds: tuple[float, float]) -> plt.cm.ScalarMappable:
    """Draw the map (h, w) over a grey version of `frame` (H, W, 3), one square per macroblock; returns the colour scale."""
    height, width = frame.shape[:2]
    axis.imshow(frame.mean(2), cmap="gray", vmin=0, vmax=255)
    extent = (0, qp.shape[1] * MACROBLOCK, qp.shape[0] * MACROBLOCK, 0)
    picture = axis.imshow(qp, cmap="viridis_r", vmin=bounds[0], vmax=bounds[1], alpha=0.6, extent=extent, interpolation="nearest")
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    return picture


def strip(
    panels: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    qp: Mapping[str, np.ndarray] | None = None,
    columns: int = 4,
    label: str = "QP",
) -> None:
    """Draw a row (or rows) of titled pictures uint8 (H, W, 3). qp: maps (h, w) drawn over the panels of the same name."""
    qp = qp or {}
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    height, width = next(iter(panels.values())).shape[:2]
    size = (4.2 * columns, (4.2 * height / width + 0.35) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    # One scale for all maps; at least 8 QPs wide, so that a nearly flat map looks nearly flat.
    values = np.concatenate([np.ravel(m) for m in qp.values()]) if qp else np.zeros(1)
    middle, half = (values.min() + values.max()) / 2, max(4.0, (values.max() - values.min()) / 2)
    bounds = (middle - half, middle + half)
    scale, under_map = None, []
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=False):
        axis.set_title(title, fontsize=9)
        if title in qp:
            scale = draw_qp(axis, picture, qp[title], bounds=bounds)
            under_map.append(axis)
        else:
            axis.imshow(picture)
    if scale is not None:
        figure.colorbar(scale, ax=under_map, shrink=0.8, label=label)
    save_figure(figure, path)


Point = tuple[float, float | None, tuple[float, float] | None]
"""A point of a curve: x, y, and the interval of y; what is None is left out."""


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a7a7a")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")
"""Of curves in turn: colours that colour-blind readers can tell apart (Okabe and Ito's), and a marker each for print."""


def curves(
    series: Mapping[str, Sequence[Point]],
    path: str | Path,
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log: bool = True,
) -> None:
    """Metric over rate or level, one line per name with a band of its intervals; the baseline `abr2` in black. log: of x."""
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for number, (name, points) in enumerate(series.items()):
        style: dict[str, Any] = {"color": "black", "linewidth": 2.2} if name == "abr2" else {}
        _curve(axis, name, points, **(_style(number) | style))
    if log and any(y is not None for points in series.values() for _, y, _ in points):  # no axis without a point has a logarithm
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="x", which="both", labelsize=7)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    save_figure(figure, path)


def panels(figures: Mapping[str, Mapping[str, Sequence[Point]]], path: str | Path, *, x_label: str, y_label: str) -> None:
    """Draw one panel for each name of `figures`, with its curves by name and a band of their intervals; one scale for all."""
    columns = min(3, len(figures))
    rows = -(-len(figures) // columns)
    size = (4.2 * columns, 3.1 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis in list(axes.flat)[len(figures) :]:
        axis.axis("off")
    for axis, (name, series) in zip(axes.flat, figures.items(), strict=False):
        for number, (label, points) in enumerate(series.items()):
            _curve(axis, label, points, **_style(number))
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(x_label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    for row in axes:
        row[0].set_ylabel(y_label)
    save_figure(figure, path)


def _style(number: int) -> dict[str, Any]:
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}


def _curve(axis: plt.Axes, label: str, points: Sequence[Point], **style: Any) -> None:
    """Draw a line through the known points, and a band of their intervals."""
    finite = [(x, y) for x, y, _ in points if y is not None]
    (line,) = axis.plot([x for x, _ in finite], [y for _, y in finite], markersize=4, label=label, **style)
    bands = np.array([(x, *interval) for x, _, interval in points if interval is not None]).reshape(-1, 3)
    axis.fill_between(bands[:, 0], bands[:, 1], bands[:, 2], color=line.get_color(), alpha=0.15, linewidth=0)


def amplified_difference(a: torch.Tensor, b: torch.Tensor, *, gain: float = 4.0) -> torch.Tensor:
    """uint8 (3, H, W): grey plus `gain` times a - b, for float 0..1 frames."""
    return ((0.5 + gain * (a - b)).clamp(0, 1) * 255).round().byte()
