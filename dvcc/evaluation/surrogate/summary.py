"""From rows to the figures of a surrogate: size error, fidelity, correlation within a clip, descent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dvcc.evaluation.statistics import cluster_samples, interval95, or_none
from dvcc.evaluation.surrogate.rows import AveragedRow, Cost, DescentRow, MapRow

COARSE_QP = 36
"""From here on coding is strong enough for a gain over copying the input to mean something."""


def summarise_surrogate(maps: Sequence[MapRow], steps: Sequence[DescentRow], *, bootstrap: int, seed: int) -> dict[str, Any]:
    """Every figure with its 95 % interval `<name>_ci95`, bootstrapped over videos (null with fewer than three).

    Figures of which nothing was measured are null.
    """
    videos = sorted({row.video for row in maps})
    samples = cluster_samples(videos, count=bootstrap, seed=seed)
    summary: dict[str, Any] = {}
    for name, figure in _figures().items():
        summary[name] = or_none(figure(maps, steps))
        values = []
        for drawn in samples:
            chosen = [videos[i] for i in drawn]
            values.append(figure(_of(maps, chosen), _of(steps, chosen)))
        interval = interval95(values)
        summary[f"{name}_ci95"] = None if interval is None else list(interval)
    return summary


def compare_surrogates(maps: Mapping[str, Sequence[MapRow]], costs: Mapping[str, Cost]) -> list[dict[str, Any]]:
    """Return the figures of every surrogate by name, on the same maps, with its cost.

    Frames are measured by an encode with another preset: that of nearly the same map is nearly the same encode where x264 codes
    no difference of one QP.
    The last is the activity-only predictor, which has only correlations.
    """
    table: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    for name, rows in maps.items():
        groups, bands = correlations(rows), by_band(rows)
        coarse = [row for row in rows if row.mean_qp >= COARSE_QP and np.isfinite(row.psnr)]
        gain, other = (_mean(getattr(row, of) - row.copy_psnr for row in coarse) for of in ("psnr", "preset_psnr"))
        short = [band["preset_ssim"] - band["ssim"] for band in bands if np.isfinite(band["ssim"])]
        table.append(
            {
                "surrogate": name,
                "size_error_median": _size_error(rows, 50),
                "size_error_p90": _size_error(rows, 90),
                "frame_error_median": _median(row.frame_error for row in rows),
                "gain_share": gain / other if other > 0 else float("nan"),
                "ssim_short": max(short, default=float("nan")),
                **{f"rho2_{of}": _median(entry[of] for entry in groups) for of in ("bits", "task", "task_frames")},
                **asdict(costs[name]),
            }
        )
    activity = {f"rho2_{of}": _median(entry[f"{of}_activity"] for entry in groups) for of in ("bits", "task")}
    return [*table, {"surrogate": "activity only", **activity}]


def averaged_shares(rows: Sequence[AveragedRow]) -> list[dict[str, Any]]:
    """How often a step lowered the real loss, by draws of noise and judge."""
    table = []
    for draws, judge in sorted({(row.draws, row.judge) for row in rows}):
        fell = [row.step < row.flat for row in rows if (row.draws, row.judge) == (draws, judge) and np.isfinite(row.step)]
        table.append({"draws": draws, "judge": judge, "cases": len(fell), "share": _share(fell)})
    return table


def by_band(maps: Sequence[MapRow]) -> list[dict[str, Any]]:
    """Figures per mean QP, of flat and of mixed maps."""
    table = []
    for mean_qp in sorted({row.mean_qp for row in maps}):
        for kind in ("flat", "mixed"):
            rows = [row for row in maps if row.mean_qp == mean_qp and row.kind == kind]
            with_frames = [row for row in rows if np.isfinite(row.psnr)]
            means = {name: _mean(getattr(row, name) for row in with_frames) for name in _FIDELITY}
            bits = {"size_error_median": _size_error(rows, 50), "size_error_p90": _size_error(rows, 90), "sign": _sign(rows)}
            types = {f"log_error_{t}": _mean(abs(getattr(row, f"log_error_{t}")) for row in rows) for t in "ipb"}
            signs = {f"log_bias_{t}": _mean(getattr(row, f"log_error_{t}") for row in rows) for t in "ipb"}
            table.append({"mean_qp": mean_qp, "kind": kind, "maps": len(rows), **bits, **types, **signs, **means})
    return table


def correlations(maps: Sequence[MapRow]) -> list[dict[str, Any]]:
    """Return rho^2 of the maps of every clip and mean QP.

    Of the surrogate, of the two predictors that know no codec, and of second real encodes of nearly the same maps.
    """
    groups: dict[tuple[str, int, int], list[MapRow]] = {}
    for row in maps:
        groups.setdefault((row.video, row.start, row.mean_qp), []).append(row)
    entries = []
    for (video, start, mean_qp), rows in groups.items():
        bits, loss = [row.real_log_bits for row in rows], [row.task_loss for row in rows]
        trivial = {"map_mean": [row.map_mean for row in rows], "activity": [row.activity_qp for row in rows]}
        second = {"bits": [row.second_log_bits for row in rows], "task": [row.second_task_loss for row in rows]}
        entry: dict[str, Any] = {"video": video, "start": start, "mean_qp": mean_qp}
        entry["bits"] = _rho2(bits, [row.real_log_bits + row.log_error for row in rows])
        entry["task"] = _rho2(loss, [row.predicted_task_loss for row in rows])
        entry |= {f"bits_{name}": _rho2(bits, values) for name, values in trivial.items()}
        entry |= {f"task_{name}": _rho2(loss, values) for name, values in trivial.items()}
        entry["task_frames"] = _rho2(loss, [row.frames_task_loss for row in rows])
        entry |= {"bits_second_encode": _rho2(bits, second["bits"]), "task_second_encode": _rho2(loss, second["task"])}
        entries.append(entry)
    return entries


_FIDELITY = tuple(f"{of}{name}" for name in ("psnr", "ssim") for of in ("", "copy_", "nearest_", "second_", "preset_"))

Figure = Callable[[Sequence["MapRow"], Sequence["DescentRow"]], float]


def _figures() -> dict[str, Figure]:
    def correlation(name: str) -> Figure:
        return lambda maps, steps: _median(entry[name] for entry in correlations(maps))

    def gain(floor: str, of: str = "psnr") -> Figure:
        return lambda maps, steps: _mean(getattr(row, of) - getattr(row, floor) for row in maps if _is_coarse_mixed(row, floor))

    def descent(name: str) -> Figure:
        return lambda maps, steps: _share(getattr(row, name) < row.flat for row in steps if np.isfinite(getattr(row, name)))

    return {
        "size_error_median": lambda maps, steps: _size_error(maps, 50),
        "size_error_p90": lambda maps, steps: _size_error(maps, 90),
        "size_error_median_mixed": lambda maps, steps: _size_error([row for row in maps if row.kind == "mixed"], 50),
        "size_error_p90_mixed": lambda maps, steps: _size_error([row for row in maps if row.kind == "mixed"], 90),
        "overestimated_share": lambda maps, steps: _sign(maps),
        "psnr_gain_over_copy_db": gain("copy_psnr"),
        "psnr_gain_over_nearest_db": gain("nearest_psnr"),
        "psnr_gain_over_nearest_db_second_encode": gain("nearest_psnr", of="second_psnr"),
        "ssim": lambda maps, steps: _mean(row.ssim for row in maps if np.isfinite(row.ssim)),
        "ssim_worst_band": lambda maps, steps: min((b["ssim"] for b in by_band(maps) if np.isfinite(b["ssim"])), default=np.nan),
        "rho2_bits": correlation("bits"),
        "rho2_bits_activity": correlation("bits_activity"),
        "rho2_bits_map_mean": correlation("bits_map_mean"),
        "rho2_bits_second_encode": correlation("bits_second_encode"),
        "rho2_task": correlation("task"),
        "rho2_task_frames": correlation("task_frames"),
        "rho2_task_activity": correlation("task_activity"),
        "rho2_task_map_mean": correlation("task_map_mean"),
        "rho2_task_second_encode": correlation("task_second_encode"),
        "descent_share": descent("gradient"),
        "descent_share_frames": descent("gradient_of_frames"),
        "descent_share_random": descent("random"),
    }


def _is_coarse_mixed(row: MapRow, floor: str) -> bool:
    """Mixed maps only, since flat ones at a rung are exact; over copying, where coding is coarse."""
    return row.kind == "mixed" and bool(np.isfinite(row.psnr)) and (floor != "copy_psnr" or row.mean_qp >= COARSE_QP)


def _of(rows: Sequence[Any], videos: Sequence[str]) -> list[Any]:
    """Return the rows of videos drawn with replacement; the k-th copy of a video counts as another one."""
    return [_renamed(row, k) for k, video in enumerate(videos) for row in rows if row.video == video]


def _renamed(row: Any, k: int) -> Any:
    return type(row)(**{**vars(row), "video": f"{row.video}#{k}"})


def _rho2(a: Sequence[float], b: Sequence[float]) -> float:
    """Squared correlation; 0 when the second does not vary, NaN when the first does not."""
    if np.std(a) < 1e-9:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1] ** 2) if np.std(b) > 1e-9 else 0.0


def _size_error(rows: Sequence[MapRow], percentile: float) -> float:
    """Percentile of |predicted / real - 1| of the clip's bits."""
    return float(np.percentile(np.abs(np.expm1([row.log_error for row in rows])), percentile)) if rows else float("nan")


def _sign(rows: Sequence[MapRow]) -> float:
    return _share(row.log_error > 0 for row in rows)


def _share(answers: Any) -> float:
    return _mean(float(answer) for answer in answers)


def _mean(values: Any) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _median(values: Any) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else float("nan")
