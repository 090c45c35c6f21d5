"""The pictures of a benchmark: metric over level and over real bits, and strips of what the networks see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dvcc.datasets import Example
from dvcc.tasks import Task
from dvcc.visuals import curves, rgb, strip

if TYPE_CHECKING:
    from dvcc.evaluation.benchmark.run import Sweep

_LEVELS = 4  # of a strip
_LONGEST = 3  # times the shorter side: of a longer picture, a strip shows the middle
_LETTERS = 28  # of a network's name in a title or a legend


def draw_curves(out: Path, coded: dict[str, list[dict[str, Any]]], rate: str, label: str, metrics: dict[str, str]) -> list[str]:
    """curves.png and bits.png, of the networks that have figures; returns their paths in `out`. Without any there are none.

    coded: points of every network (see `benchmark_summary.summarise`); label: of the level; metrics: the metric of every network.
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
            shortened(name): [(point[key], figure["value"], figure["ci95"]) for point, figure in known]
            for name, known in figures.items()
            if known
        }
        if series:
            y_label = f"{', '.join(dict.fromkeys(metrics.values()))}, relative to uncoded"
            curves(series, out / file, x_label=x_label, y_label=y_label, log=log)
            drawn.append(file)
        else:
            (out / file).unlink(missing_ok=True)  # an earlier run's
    return drawn


def draw_strips(
    out: Path, example: Example, sweep: Sweep, networks: dict[str, Task], levels: Sequence[float], label: str
) -> list[str]:
    """One picture per network: coded frames above, what the network says of them below; returns their paths in `out`."""
    clip, _ = example.load(sweep.protocol)
    chosen = [levels[round(i * (len(levels) - 1) / (_LEVELS - 1))] for i in range(_LEVELS)]
    coded = {level: sweep.codec.encode(clip, sweep.rate_at(level)) for level in dict.fromkeys(chosen)}
    frames = {"uncoded": clip.frames}
    frames |= {
        f"{label} {level:g}, {one.bits / 8000 / clip.num_frames:.1f} kB / frame": one.frames for level, one in coded.items()
    }
    above = {title: rgb(middle_of(shown[0])) for title, shown in frames.items()}
    paths = []
    for name, task in networks.items():
        with torch.inference_mode():
            answers = [task.picture(shown[0], task.predict(shown[:2][None])[0][0]) for shown in frames.values()]
        below = {
            f"{shortened(name)}: {title.partition(',')[0]}": rgb(middle_of(a)) for title, a in zip(frames, answers, strict=True)
        }
        path = f"pictures/{name.replace('/', '_')}.png"
        strip({**above, **below}, out / path, columns=len(frames))
        paths.append(path)
    return paths


def shortened(name: str) -> str:
    """A name with its middle left out, if need be."""
    if len(name) <= _LETTERS:
        return name
    return f"{name[: _LETTERS // 2 - 1]}..{name[1 - _LETTERS // 2 :]}"


def middle_of(picture: torch.Tensor) -> torch.Tensor:
    """(3, H, W), cut so that no side is longer than three times the other: a whole panorama would be a line."""
    height, width = picture.shape[1:]
    rows, columns = min(height, _LONGEST * width), min(width, _LONGEST * height)
    top, left = (height - rows) // 2, (width - columns) // 2
    return picture[:, top : top + rows, left : left + columns]
