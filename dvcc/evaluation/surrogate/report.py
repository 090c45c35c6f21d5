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
from dvcc.evaluation.surrogate.rows import DescentRow, MapRow, TestClip
from dvcc.evaluation.surrogate.summary import by_band, correlations, summarise_surrogate
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
    maps: Sequence[MapRow],
    steps: Sequence[DescentRow],
    surrogate: Surrogate,
    pictured: TestClip,
    codec: Codec,
    *,
    bootstrap: int,
    seed: int,
) -> str:
    """Write every file; returns the tables and the path of report.md, for the terminal."""
    summary = summarise_surrogate(maps, steps, bootstrap=bootstrap, seed=seed)
    bands, groups = by_band(maps), correlations(maps)
    report = {"summary": summary, "bands": _plain(bands), "correlations": _plain(groups), **about}
    write_atomic(out / "report.json", json.dumps(report, indent=1, allow_nan=False))
    write_atomic(out / "rows.csv", csv_text([asdict(row) for row in maps]))
    write_atomic(out / "descent.csv", csv_text([asdict(row) for row in steps]))
    _draw_curves(maps, out / "curves.png")
    draw_examples(surrogate, pictured, codec, out / "pictures" / "examples.png")
    tables = f"{_summary_table(summary)}\n{_band_table(bands)}\n{_type_table(bands)}\n{_video_table(maps, groups, steps)}"
    write_atomic(out / "report.md", f"# The surrogate against the codec\n\n{tables}\n{_notes(about, maps)}")
    return f"{tables}report: {out / 'report.md'}"


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
    head += ["second encode", "SSIM: predicted", "copy", "nearest rung", "second encode"]
    body = []
    for b in bands:
        bits = [f"{b['size_error_median']:.1%}", f"{b['size_error_p90']:.1%}", f"{b['sign']:.0%}"]
        psnr = [f"{b[f'{of}psnr']:.2f}" for of in ("", "copy_", "nearest_", "second_")]
        ssim = [f"{b[f'{of}ssim']:.4f}" for of in ("", "copy_", "nearest_", "second_")]
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
        "- Task: loss and gradient are read off the judged ladder, as a control learns them; figures named frames: of the "
        "predicted frames, through the task network.",
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
    """Rows: QP 0, 35, 51, and thirds of QP 5, 25 and 45. Columns: input, really coded, predicted, difference; last frame."""
    grid = QPMap.uniform(0, like=test.clip).values.shape
    mixed = np.repeat(np.array(MIXED_QPS), -(-grid[2] // 3))[: grid[2]]
    maps = {f"QP {qp}": np.full(grid, qp) for qp in PICTURED_QPS}
    maps["/".join(map(str, MIXED_QPS))] = np.broadcast_to(mixed, grid)
    panels: dict[str, np.ndarray] = {}
    for name, values in maps.items():
        coded = as_float(codec.encode(test.clip, QPMap(values)).frames)[-1]
        predicted = surrogate(test.sample, one_hot_qp(torch.from_numpy(values.astype(np.int64)))[None]).frames[0, -1]
        psnr = -10 * torch.log10((predicted - coded).square().mean().clamp(min=1e-6))
        panels |= {
            f"{name}: input": rgb(test.sample["frames"][0, -1]),
            f"{name}: really coded": rgb(coded),
            f"{name}: predicted, {psnr:.1f} dB": rgb(predicted),
            f"{name}: 4 x (predicted - coded)": rgb(amplified_difference(predicted, coded)),
        }
    strip(panels, path)


def _plain(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON has no NaN."""
    return [{k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()} for row in rows]
