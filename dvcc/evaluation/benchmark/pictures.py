"""The pictures of a benchmark: metric over level and over real bits, and strips of what the networks see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dvcc.datasets import DataSet, Example
from dvcc.errors import ConfigError
from dvcc.evaluation.benchmark.rows import Row
from dvcc.evaluation.benchmark.summary import TOGETHER
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.evaluation.statistics import or_none
from dvcc.evaluation.tables import number
from dvcc.tasks import Task
from dvcc.tasks.judging import pooled
from dvcc.visuals import Point, curves, panels, rgb, strip

_LEVELS = 4  # of a strip
_LONGEST = 3  # times the shorter side: of a longer picture, a strip shows the middle
_LETTERS = 28  # of a network's name in a title or a legend


def draw_curves(out: Path, coded: dict[str, list[dict[str, Any]]], rate: str, label: str, metrics: dict[str, str]) -> list[str]:
    """curves.png and bits.png, of the networks that have figures; returns their paths in `out`. Without any there are none.

    coded: points of every network (see `benchmark.summary.summarise`); label: of the level; metrics: the metric of every network.
    """
    figures = {
        name: [
            (point, point["relative"][metrics[name]]) for point in points if point["relative"][metrics[name]]["value"] is not None
        ]
        for name, points in coded.items()
    }
    drawn = []
    for file, key, x_label, log in (
        ("curves.png", "level", label, rate == "abr"),
        ("bits.png", "bits_per_pixel", "bits per pixel (real encodes)", True),
    ):
        series = {
            shortened(name): [(point[key], figure["value"], figure["ci95"]) for point, figure in pairs]
            for name, pairs in figures.items()
            if pairs
        }
        if series:
            y_label = f"{', '.join(dict.fromkeys(metrics.values()))}, relative to uncoded"
            curves(series, out / file, x_label=x_label, y_label=y_label, log=log)
            drawn.append(file)
        else:
            (out / file).unlink(missing_ok=True)  # an earlier run's
    return drawn


def draw_panels(out: Path, summary: dict[str, Any], metrics: dict[str, list[str]], task_name: str, label: str) -> list[str]:
    """Draw relative.png and, with labels, absolute.png: a panel for each network with the metrics that the paper draws together.

    metrics: names of each network's, the principal one first. label: of the level. Returns their paths in `out`.
    """
    drawn = []
    for kind, against in (("relative", "the uncoded answer"), ("absolute", "the labels")):
        figures: dict[str, dict[str, list[Point]]] = {}
        for name, points in summary.items():
            wanted = [metric for metric in TOGETHER.get(task_name, ()) if metric in metrics[name]] or metrics[name][:1]
            coded = [point for point in points if point["bits_per_pixel"] is not None and point[kind]]
            lines = {
                metric: [(p["level"], p[kind][metric]["value"], p[kind][metric]["ci95"]) for p in coded] for metric in wanted
            }
            lines = {metric: line for metric, line in lines.items() if any(y is not None for _, y, _ in line)}
            if lines:
                figures[shortened(name)] = lines
        path = out / f"{kind}.png"
        path.unlink(missing_ok=True)  # an earlier run's
        if figures:
            panels(figures, path, x_label=label, y_label=f"against {against}")
            drawn.append(path.name)
    return drawn


def chosen_example(examples: DataSet, wanted: str | None, rows: Sequence[Row]) -> Example:
    """Return the example of a name or a number from 0; None: the middle one of the rows. Raises `ConfigError` for another."""
    names = [example.name for example in examples]
    name = wanted if wanted is not None else rows[len(rows) // 2].example
    if name not in names and name.isdigit() and int(name) < len(names):
        name = names[int(name)]
    if name not in names:
        raise ConfigError(
            f"example={wanted} is none of the {len(names)}: give a name such as {names[0]}, or 0 to {len(names) - 1}"
        )
    return examples[names.index(name)]


def draw_strips(
    out: Path, example: Example, sweep: Sweep, networks: dict[str, Task], levels: Sequence[float], label: str
) -> list[str]:
    """Draw a picture per network, and return their paths in `out`.

    Above are coded frames with the size of the picture or clip. Below is what the network says of them and how well it agrees
    with itself. Of optical flow the first two frames are laid over each other.
    """
    clip, _ = example.load_any(sweep.protocol)
    chosen = [levels[round(i * (len(levels) - 1) / (_LEVELS - 1))] for i in range(_LEVELS)]
    coded = {level: sweep.codec.encode(clip, sweep.rate_at(level)) for level in dict.fromkeys(chosen)}
    size = "" if clip.num_frames == 1 else f" ({clip.num_frames} frames)"
    frames = {"uncoded": clip.frames}
    frames |= {f"{label} {level:g}, {encode.bits / 8000:.1f} kB{size}": encode.frames for level, encode in coded.items()}
    paths = []
    for name, task in networks.items():
        above = {title: rgb(middle_of(overlay(pixels, task.overlap))) for title, pixels in frames.items()}
        below, labels, uncoded = {}, None, None
        for title, pixels in frames.items():
            with torch.inference_mode():
                prediction = task.predict(pixels[:2][None])[0][:1]
            labels = task.labels(prediction) if labels is None else labels
            uncoded = prediction[0] if uncoded is None else uncoded
            figure = "" if pixels is clip.frames else f", {task.metric_name} {_value(task, prediction, labels)}"
            answer = task.picture(pixels[0], prediction[0], uncoded)
            below[f"{shortened(name)}: {title.partition(',')[0]}{figure}"] = rgb(middle_of(answer))
        path = f"pictures/{name.replace('/', '_')}.png"
        strip({**above, **below}, out / path, columns=len(frames))
        paths.append(path)
    return paths


def overlay(frames: torch.Tensor, overlap: int) -> torch.Tensor:
    """Return the first frame, uint8 (3, H, W); of a task that compares frames the mean of those that it compares first."""
    return frames[: 1 + overlap].float().mean(0).round().to(torch.uint8)


def _value(task: Task, prediction: torch.Tensor, labels: torch.Tensor) -> str:
    """Return the metric of a single picture; "-" where it is not defined."""
    metric = task.metric()
    metric.update(prediction, labels)
    return number(or_none(pooled(task.metric(), [metric.state])), ".2f")


def shortened(name: str) -> str:
    """Return a name with its middle left out, if need be."""
    if len(name) <= _LETTERS:
        return name
    return f"{name[: _LETTERS // 2 - 1]}..{name[1 - _LETTERS // 2 :]}"


def middle_of(picture: torch.Tensor) -> torch.Tensor:
    """(3, H, W), cut so that no side is longer than three times the other: a whole panorama would be a line."""
    height, width = picture.shape[1:]
    rows, columns = min(height, _LONGEST * width), min(width, _LONGEST * height)
    top, left = (height - rows) // 2, (width - columns) // 2
    return picture[:, top : top + rows, left : left + columns]
