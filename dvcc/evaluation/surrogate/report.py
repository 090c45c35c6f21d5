"""The folder of `evaluate.py surrogate`: report.json, rows.csv, descent.csv, report.md, curves.png, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from dvcc._files import write_atomic
from dvcc.codecs import Codec
from dvcc.evaluation.surrogate.rows import DescentRow, Found, MapRow, TestClip
from dvcc.evaluation.surrogate.summary import (
    averaged_shares,
    by_band,
    compare_surrogates,
    correlations,
    summarise_surrogate,
)
from dvcc.evaluation.tables import csv_text, markdown_table, number
from dvcc.pixels import as_float
from dvcc.qp import QPMap
from dvcc.surrogate import Surrogate, one_hot_qp
from dvcc.visuals import amplified_difference, rgb, save_figure, strip

PICTURED_QPS = (0, 35, 51)
MIXED_QPS = (5, 25, 45)
"""Left, middle and right third of the mixed map in the pictures."""

_PERCENT = {"size_error_median", "size_error_p90", "overestimated_share", "descent_share"}
_PERCENT |= {"descent_share_frames", "descent_share_random"}


def write_surrogate_report(
    out: Path,
    about: dict[str, Any],
    found: Found,
    surrogate: Surrogate,
    pictured: TestClip,
    codec: Codec,
    *,
    bootstrap: int,
    seed: int,
) -> str:
    """Write every file; returns the tables and the path of report.md, for the terminal."""
    maps, steps = found.maps, found.steps
    summary = summarise_surrogate(maps, steps, bootstrap=bootstrap, seed=seed)
    bands, groups = by_band(maps), correlations(maps)
    compared = compare_surrogates({about["config"]["checkpoint"]: maps, **found.beside}, found.costs)
    averaged = averaged_shares(found.averaged)
    report = {
        "summary": summary,
        "compared": _plain(compared),
        "averaged": _plain(averaged),
        "bands": _plain(bands),
        "correlations": _plain(groups),
        **about,
    }
    write_atomic(out / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_atomic(out / "rows.csv", csv_text([asdict(row) for row in maps]))
    write_atomic(out / "descent.csv", csv_text([asdict(row) for row in steps]))
    for k, rows in enumerate(found.beside.values(), 1):
        write_atomic(out / f"rows-beside-{k}.csv", csv_text([asdict(row) for row in rows]))
    if found.averaged:
        write_atomic(out / "averaged.csv", csv_text([asdict(row) for row in found.averaged]))
    _draw_curves(maps, out / "curves.png")
    draw_examples(surrogate, pictured, codec, out / "pictures" / "examples.png")
    parts = [_compared_table(compared), _averaged_table(averaged), _summary_table(summary), _band_table(bands)]
    parts += [_type_table(bands), _video_table(maps, groups, steps)]
    tables = "\n".join(part for part in parts if part)
    write_atomic(out / "report.md", f"# The surrogate against the codec\n\n{tables}\n{_notes(about, maps)}")
    return f"{tables}report: {out / 'report.md'}"


_COMPARED = {
    "size_error_median": ("size error, median", ".1%"),
    "size_error_p90": ("90th percentile", ".1%"),
    "frame_error_median": ("of a frame", ".1%"),
    "gain_share": ("PSNR gain over copying at QP 36 and up, of another preset's", ".0%"),
    "ssim_short": ("SSIM below another preset's, at most", ".4f"),
    "rho2_bits": ("rho2 bits", ".3f"),
    "rho2_task": ("rho2 task", ".3f"),
    "rho2_task_frames": ("through frames", ".3f"),
    "num_encodes": ("encodes", "d"),
    "encodes": ("s of real encodes", ".2f"),
    "analysis": ("s of analysis", ".2f"),
    "one_map": ("s a map", ".2f"),
}


def _compared_table(compared: Sequence[dict[str, Any]]) -> str:
    """One surrogate a row; the last one knows no codec but the texture of the clip."""
    body = [
        [row["surrogate"], *("-" if row.get(name) is None else number(row[name], spec) for name, (_, spec) in _COMPARED.items())]
        for row in compared
    ]
    return markdown_table(["surrogate", *(title for title, _ in _COMPARED.values())], body)


def _averaged_table(averaged: Sequence[dict[str, Any]]) -> str:
    """Nothing where nothing was averaged."""
    if not averaged:
        return ""
    judges = ("the gradient's task", "second judge")
    body = [[str(row["draws"]), judges[row["judge"]], f"{row['share']:.0%} of {row['cases']}"] for row in averaged]
    return markdown_table(["draws of noise", "judge", "real loss fell"], body)


def _summary_table(summary: dict[str, Any]) -> str:
    body = []
    for name in (key for key in summary if not key.endswith("_ci95")):
        spec = ".1%" if name.removesuffix("_mixed") in _PERCENT else ".3f"
        interval = summary[f"{name}_ci95"]
        low_high = "-" if interval is None else f"[{format(interval[0], spec)}, {format(interval[1], spec)}]"
        body.append([name, number(summary[name], spec), low_high])
    return markdown_table(["figure", "value", "95 % interval"], body)


def _band_table(bands: Sequence[dict[str, Any]]) -> str:
    head = ["mean QP", "maps", "size error, median", "90th percentile", "too high", "PSNR dB: predicted", "copy", "nearest rung"]
    head += ["second encode", "other preset", "SSIM: predicted", "copy", "nearest rung", "second encode", "other preset"]
    body = []
    for b in bands:
        bits = [f"{b['size_error_median']:.1%}", f"{b['size_error_p90']:.1%}", f"{b['sign']:.0%}"]
        psnr = [f"{b[f'{of}psnr']:.2f}" for of in ("", "copy_", "nearest_", "second_", "preset_")]
        ssim = [f"{b[f'{of}ssim']:.4f}" for of in ("", "copy_", "nearest_", "second_", "preset_")]
        body.append([str(b["mean_qp"]), f"{b['maps']} {b['kind']}", *bits, *psnr, *ssim])
    return markdown_table(head, body)


def _type_table(bands: Sequence[dict[str, Any]]) -> str:
    head = ["mean QP", "maps", *(f"{t.upper()}: mean absolute log error (bias)" for t in "ipb")]
    body = []
    for b in bands:
        body.append([str(b["mean_qp"]), b["kind"], *(f"{b[f'log_error_{t}']:.3f} ({b[f'log_bias_{t}']:+.3f})" for t in "ipb")])
    return markdown_table(head, body)


def _video_table(maps: Sequence[MapRow], groups: Sequence[dict[str, Any]], steps: Sequence[DescentRow]) -> str:
    head = ["video", "size error, median", "90th percentile", "rho2 bits", "rho2 task", "descent", "random step"]
    body = []
    for video in sorted({row.video for row in maps}):
        errors = np.abs(np.expm1([row.log_error for row in maps if row.video == video]))
        rho = [[g[key] for g in groups if g["video"] == video and np.isfinite(g[key])] for key in ("bits", "task")]
        losses = [[(getattr(s, key), s.flat) for s in steps if s.video == video] for key in ("gradient", "random")]
        # NaN, where the encodes did not enclose the bits of the flat map, is no answer, as in the summary.
        fell = [[loss < flat for loss, flat in pairs if np.isfinite(loss)] for pairs in losses]
        shares = [f"{np.mean(answers):.0%} of {len(answers)}" if answers else "-" for answers in fell]
        medians = [f"{np.median(values):.3f}" if values else "-" for values in rho]
        body.append([video, f"{np.median(errors):.1%}", f"{np.percentile(errors, 90):.1%}", *medians, *shares])
    return markdown_table(head, body)


def _notes(about: dict[str, Any], maps: Sequence[MapRow]) -> str:
    config = about["config"]
    data, codec = config["data"], config["codec"]
    clips = {(row.video, row.start) for row in maps}
    lines = [
        f"- {len(clips)} clips of {len({video for video, _ in clips})} video(s) that the surrogate was not trained on; "
        f"{data['frames']} frames, stride {data['stride']}, {data['size'][0]}x{data['size'][1]}; {len(maps)} encoded maps.",
        f"- Encoder: x264 {codec['preset']}, GOP {codec['gop']}; task: {config['task']['name']}, {config['task']['model']}.",
        "- PSNR and SSIM are against the really coded frames. Floors: the input itself, the flat map of the rung nearest to the "
        "mean QP. psnr_gain figures are over mixed maps, over copying at mean QP 36 and above.",
        "- rho2: squared correlation over the maps of one clip at one mean QP, median over clips and mean QPs. Predictors that "
        "know no codec: the map's mean, and its mean weighted by activity. Chance gives 1 / (maps - 1).",
        "- Second encode: of nearly the same map, two macroblocks in five one QP finer or coarser. What it does not share with "
        "the first is chance to any predictor: a perfect one would reach about the square root of its rho2.",
        "- Other preset: of the same map, veryfast (medium for a surrogate of veryfast). The first table measures frames by it.",
        "- Task: loss and gradient are read off the judged ladder, as a control learns them; figures named frames: of the "
        "predicted frames, through the task network.",
        "- First table: seconds of processor on one clip; the activity-only predictor is the map's mean weighted by texture.",
        "- Descent: share of (clip, mean QP) where a step of 2 QPs (root mean square) against the surrogate's gradient of the "
        "task loss, at equal bits, lowered the real loss at equal real bits; beside it a random step of that size.",
        "- Intervals: bootstrap over videos; none for fewer than three.",
        f"- Versions: {', '.join(f'{k} {v}' for k, v in about['versions'].items())}.",
        "",
        "![predicted against real](curves.png)",
        "",
        "![input, really coded, predicted, difference](pictures/examples.png)",
    ]
    return "\n".join(lines) + "\n"


def _draw_curves(maps: Sequence[MapRow], path: Path) -> None:
    """Error of the size over the real size, and predicted over real change of the task loss within each group."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for kind, marker in (("mixed", "."), ("flat", "x")):
        rows = [row for row in maps if row.kind == kind]
        bits = np.exp([row.real_log_bits for row in rows])
        left.plot(bits, 100 * np.expm1([row.log_error for row in rows]), marker, alpha=0.6, label=f"{kind} maps")
    left.axhspan(-8, 8, alpha=0.12, color="green")
    left.axhspan(-3, 3, alpha=0.15, color="green")
    left.set(xscale="log", xlabel="real bits of the clip", ylabel="error of the predicted bits, %")
    left.legend(fontsize=8)
    for mean_qp in sorted({row.mean_qp for row in maps}):
        groups: dict[tuple[str, int], list[MapRow]] = {}
        for row in maps:
            if row.mean_qp == mean_qp:
                groups.setdefault((row.video, row.start), []).append(row)
        pairs = [
            (
                row.task_loss - np.mean([r.task_loss for r in group]),
                row.predicted_task_loss - np.mean([r.predicted_task_loss for r in group]),
            )
            for group in groups.values()
            for row in group
        ]
        right.plot(*np.array(pairs).T, ".", alpha=0.6, label=f"mean QP {mean_qp}")
    right.axline((0, 0), slope=1, color="black", linewidth=0.8)
    right.set(xlabel="real task loss, less its mean over the maps of the clip", ylabel="predicted")
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    save_figure(figure, path)


@torch.no_grad()
def draw_examples(surrogate: Surrogate, test: TestClip, codec: Codec, path: Path) -> None:
    """Rows: QP 0, 35, 51, and thirds of QP 5, 25 and 45. Columns: map, input, really coded, predicted, difference; last frame."""
    grid = QPMap.uniform(0, like=test.clip).values.shape
    mixed = np.repeat(np.array(MIXED_QPS), -(-grid[2] // 3))[: grid[2]]
    maps = {f"QP {qp}": np.full(grid, qp) for qp in PICTURED_QPS}
    maps["/".join(map(str, MIXED_QPS))] = np.broadcast_to(mixed, grid)
    panels: dict[str, np.ndarray] = {}
    drawn: dict[str, np.ndarray] = {}
    for name, values in maps.items():
        coded = as_float(codec.encode(test.clip, QPMap(values)).frames)[-1]
        predicted = surrogate(test.sample, one_hot_qp(torch.from_numpy(values.astype(np.int64)))[None]).frames[0, -1]
        psnr = -10 * torch.log10((predicted - coded).square().mean().clamp(min=1e-6))
        drawn[f"{name}: QP map"] = values[-1]
        panels |= {
            f"{name}: QP map": rgb(test.sample["frames"][0, -1]),
            f"{name}: input": rgb(test.sample["frames"][0, -1]),
            f"{name}: really coded": rgb(coded),
            f"{name}: predicted, {psnr:.1f} dB": rgb(predicted),
            f"{name}: 4 x (predicted - coded)": rgb(amplified_difference(predicted, coded)),
        }
    strip(panels, path, qp=drawn, columns=5)


def _plain(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON has no NaN."""
    return [{k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()} for row in rows]
