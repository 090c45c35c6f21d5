"""Does training on coded pictures make a network robust? The segmentation student with and without, and curves over levels.

    python benchmarks/augmentation.py [OUT] [seeds=0] [steps=80] [views=160]

Trained on the corpus' training videos of traffic, measured on labelled pictures of CamVid that no training looked at: assets are
found as `evaluate.py benchmark preset=paper` finds them. Both students of a seed begin with the published one, and have the same
steps, the same pictures and the teacher's same answers about them as they are; for one of them half of the pictures are coded by
x264 or as JPEG, which is `data.coded=0.5 data.codecs=[x264,jpeg] data.robust=true` of `train.py student`. A student that is in
OUT (runs/augmentation) is not trained again, and what was measured is kept there. Writes OUT/augmentation.png and prints tables.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import lightning as L
import numpy as np
import torch

from dvcc._guard import guarded
from dvcc.codecs import CRF, JPEG, X264
from dvcc.codecs.plain import PerspectiveX264
from dvcc.datasets import build_dataset
from dvcc.datasets.table import of_kinds, on_side, read_table
from dvcc.evaluation.benchmark.measure import Clock, Measuring, measure
from dvcc.evaluation.benchmark.paper.result import figure, make_curves
from dvcc.evaluation.benchmark.rows import UNCODED, RowStore
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.evaluation.labels import label_classes
from dvcc.evaluation.statistics import interval95
from dvcc.evaluation.tables import markdown_table
from dvcc.media.clips import read_clip
from dvcc.media.protocols import Protocol
from dvcc.networks.sources import assets_folder
from dvcc.networks.student import StudentSegmenter
from dvcc.networks.weights import load_weights
from dvcc.networks.zoo import ZOO
from dvcc.pretraining.distillation import SegmentationDistillation
from dvcc.pretraining.student import fit_student
from dvcc.pretraining.student_views import VIEW_SIZES, Coding, LabelledViews, View, read_runs, render_view
from dvcc.tasks import build_task
from dvcc.visuals import panels

ARMS = ("without", "with")
CODING = Coding(0.5, ("x264", "jpeg"), robust=True)
SWEEPS = {
    "JPEG quality": Sweep(JPEG(), "quality", (1, 5, 10, 20, 40, 60, 80, 95), Protocol()),
    "QP of H.264": Sweep(PerspectiveX264(), "cqp", (15, 22, 28, 34, 40, 45, 51), Protocol()),
}
TRAFFIC = ("driving", "street/traffic")


class FromThePublished(SegmentationDistillation):
    """The student goes on from the one in the repository."""

    def new_student(self) -> StudentSegmenter:
        """Return the published student."""
        stored = load_weights(Path(ZOO["segmentation", "student"].weights.path), kind="student")
        net = StudentSegmenter(**stored.config)
        net.load_state_dict(stored.state)
        return net.to(memory_format=torch.channels_last)


class Views(LabelledViews):
    """Pictures with answers that somebody has asked for already."""

    def __init__(self, images: list[torch.Tensor], labels: list[torch.Tensor], groups: list[list[int]]) -> None:
        self.images, self.labels, self.groups = images, labels, groups


def paired(distillation: SegmentationDistillation, videos: list[Path], count: int) -> dict[str, tuple]:
    """Return pictures, answers and groups for both students: the same ones, as they are and half of them coded."""
    runs = [read_runs(video, count=20) for video in videos]
    views: list[View] = []
    labels: list[torch.Tensor] = []
    groups = []
    for size in VIEW_SIZES[1::2]:  # the smaller ones
        first = len(views)
        for _ in range(count // 2 // 8):
            batch = [render_view(runs, chances=torch.ones(len(runs)), size=size, coding=CODING) for _ in range(8)]
            with torch.inference_mode():
                answers = distillation.label(torch.stack([view.asked for view in batch]))
            labels += [torch.from_numpy(answer) for answer in answers.numpy()]
            views += batch
        groups.append(list(range(first, len(views))))
    return {
        "without": ([view.asked for view in views], labels, groups),
        "with": ([view.shown for view in views], labels, groups),
    }


def train(out: Path, seeds: list[int], *, steps: int, views: int) -> dict[str, Path]:
    """Return the students' files by arm and seed, trained where they are not there."""
    listed = of_kinds(read_table(assets_folder() / "corpus"), TRAFFIC)
    held_out = out / "probe.mp4"  # a training reports on it; four frames, because it asks the teacher about all
    held_out.write_bytes(X264().encode(read_clip(on_side(listed, "val")[0].path, frames=4), CRF(18)).bitstream)
    paths = {f"{arm} {seed}": out / f"{arm}-{seed}-{steps}-{views}.safetensors" for seed in seeds for arm in ARMS}
    for seed in seeds:
        if all(paths[f"{arm} {seed}"].exists() for arm in ARMS):
            continue
        began = time.process_time()
        L.seed_everything(seed, verbose=False)
        distillation = FromThePublished()
        labelled = out / f"views-{seed}-{views}.pt"
        if not labelled.exists():
            torch.save(paired(distillation, [row.path for row in on_side(listed, "train")], views), labelled)
        data = {arm: Views(*parts) for arm, parts in torch.load(labelled, weights_only=True).items()}
        print(f"seed {seed}: {views} views labelled after {time.process_time() - began:.0f} s of processor", flush=True)
        for arm in ARMS:
            L.seed_everything(seed, verbose=False)
            unfinished = out / "unfinished.safetensors"
            fit_student(distillation, data[arm], held_out=held_out, steps=steps, out=unfinished, report_every=steps // 4)
            unfinished.rename(paths[f"{arm} {seed}"])
        (out / f"{seed}-{steps}-{views}.json").write_text(json.dumps({"processor_seconds": time.process_time() - began}))
    return paths


def curves_of(paths: dict[str, Path], sweep: Sweep, out: Path) -> dict[tuple[str, str], np.ndarray]:
    """Return mIoU by arm and kind ("relative", "absolute"), (1 + resamples, 1 + levels), uncoded first; the mean over seeds."""
    examples = build_dataset("camvid", assets_folder() / "labelled" / "segmentation" / "camvid_pictures").spread(10)
    networks = {name: build_task("segmentation", model="student", weights=path).eval() for name, path in paths.items()}
    labelled = {name: label_classes(examples, task) for name, task in networks.items()}
    rows = measure(Measuring(examples, sweep, networks, RowStore(out / "cache"), labelled, skip_bad=False), Clock()).rows
    levels = (UNCODED, *sweep.levels)
    curves, _ = make_curves(rows, networks, "segmentation", levels, labelled=labelled, blocks=True, bootstrap=200, seed=0)
    return {
        (arm, kind): np.mean([curves[name, kind, "mIoU"] for name in networks if name.startswith(f"{arm} ")], axis=0)
        for arm in ARMS
        for kind in ("relative", "absolute")
    }


def main(words: list[str]) -> None:
    """Train, measure, draw and print."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    out = Path(next((word for word in words if "=" not in word), "runs/augmentation"))
    out.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in options.get("seeds", "0").split(",")]
    steps, views = int(options.get("steps", "80")), int(options.get("views", "160"))
    paths = train(out, seeds, steps=steps, views=views)
    figures = {}
    for label, sweep in SWEEPS.items():
        found = curves_of(paths, sweep, out)
        body = []
        for i, level in enumerate((UNCODED, *sweep.levels)):
            without, coded = (found[arm, "absolute"][:, i] for arm in ARMS)
            best = found["without", "absolute"][:, 0]
            lost = interval95((best - without)[1:].tolist())
            left = figure((best - coded) / (best - without)) if lost and lost[0] > 0 else "-"
            relative = [figure(found[arm, "relative"][:, i]) for arm in ARMS]
            body.append([str(level), figure(without), figure(coded), left, *relative])
        print(f"\n{markdown_table([label, 'without', 'with', 'of the loss left', 'relative, without', 'with'], body)}")
        figures[label] = {
            f"{arm} coded pictures": [
                (float(level), float(values[0, i]), interval95(values[1:, i].tolist())) for i, level in enumerate(sweep.levels, 1)
            ]
            for arm in ARMS
            for values in [found[arm, "absolute"]]
        }
    panels(figures, out / "augmentation.png", x_label="level", y_label="mIoU against the labels")
    seconds = [json.loads((out / f"{seed}-{steps}-{views}.json").read_text())["processor_seconds"] for seed in seeds]
    print(f"\ntraining: {sum(seconds):.0f} s of processor for {len(paths)} students")


if __name__ == "__main__":
    raise SystemExit(guarded(lambda: main(sys.argv[1:])))
