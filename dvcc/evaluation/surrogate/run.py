"""`evaluate.py surrogate`: predictions against real encodes of maps never seen, on videos never seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kornia.metrics import ssim
from rich.progress import Progress
from torch.utils.data import default_collate

from dvcc._storage import open_folder, write_results
from dvcc.codecs import Codec, EncodedClip
from dvcc.codecs.cache import EncodeCache
from dvcc.config import DataConfig, EvaluateSurrogateConfig
from dvcc.config.build import build_clips, build_codec, build_task, check_surrogate, data_root
from dvcc.config.parse import to_dict
from dvcc.datasets.clips import ClipDataset
from dvcc.datasets.splits import split_data
from dvcc.datasets.table import choose
from dvcc.errors import ConfigError
from dvcc.evaluation.surrogate.cost import measure_cost
from dvcc.evaluation.surrogate.descent import RealLoss, averaged_descent, descent_test
from dvcc.evaluation.surrogate.report import write_surrogate_report
from dvcc.evaluation.surrogate.rows import AveragedRow, DescentRow, Found, MapRow, TestClip
from dvcc.pixels import as_float
from dvcc.qp import QPMap
from dvcc.surrogate import Surrogate, load_surrogate, one_hot_qp
from dvcc.surrogate.base import activity, per_macroblock
from dvcc.surrogate.data import load_predicted
from dvcc.surrogate.judged import judge_ladder
from dvcc.surrogate.ladder import FRAME_TYPES
from dvcc.surrogate.predicted import PredictedLadders
from dvcc.surrogate.random_maps import jittered, maps_of_equal_mean
from dvcc.surrogate.samples import LadderSamples
from dvcc.training.record import refuse_training_videos, versions

_PRESETS = ("veryfast", "medium")
"""What the frames of another encoder are worth: of the same map, with the first of these that is not the surrogate's own."""

_MSE_FLOOR = 1e-5
"""50 dB, less than a grey level: an exact prediction of a nearly flat map should not outweigh all others."""


def run(config: EvaluateSurrogateConfig) -> str:
    """Evaluate as configured, write the report, return its table and path.

    Raises `ConfigError` when the surrogate was trained for another encoder or rungs, or on a test video.
    """
    codec, cache = build_codec(config.codec), EncodeCache(config.data.cache)
    loaded = {path: _load(path, config) for path in (config.checkpoint, *config.beside)}
    surrogate, stored = loaded[config.checkpoint]
    predicted, files = None, {path: of_path for path, (_, of_path) in loaded.items()}
    if config.ladder is not None:
        predicted, files[config.ladder] = load_predicted(config.ladder, reader=surrogate)
        check_surrogate(config.ladder, files[config.ladder], codec=config.codec, rungs=None)
    other = build_codec(replace(config.codec, preset=next(preset for preset in _PRESETS if preset != config.codec.preset)))
    torch.set_flush_denormal(True)
    task = build_task(config.task).eval().requires_grad_(False)
    videos = held_out(config.data)
    for path, of_path in files.items():
        refuse_training_videos(path, of_path, videos)
    judges = [task]
    if config.second_judge is not None:
        second = build_task(replace(config.task, model=config.second_judge, weights=None))
        judges.append(second.eval().requires_grad_(False))
    open_folder(config.out).check_writable()
    tested = build_clips(config.data, videos)
    clips = list(load_clips(tested, codec, cache, rungs=config.data.rungs, predicted=predicted))
    maps: dict[str, list[MapRow]] = {path: [] for path in loaded}
    steps, averaged = [], []
    with Progress(transient=True) as progress:
        bar = progress.add_task("encoding and judging", total=len(clips) * len(config.mean_qps))
        for test in clips:
            real = RealLoss(task, test.clip, codec, cache)
            test.sample["ladder_degradation"] = judge_ladder(task, test.sample)
            for mean_qp in config.mean_qps:
                # Of the video too: else the first clips of all videos, which start at 0, would get the same draws.
                video = hashlib.sha256(test.video.encode()).digest()[:8]
                rng = np.random.default_rng([config.seed, *video, test.start, mean_qp])
                group = maps_of_equal_mean(test.clip, rng, mean_qp=mean_qp, count=config.maps)
                coded = [[cache.encode(codec, test.clip, qp_map) for qp_map in (qp, jittered(qp, rng))] for qp in group]
                losses = [(real(x), real(y)) for x, y in coded]
                others = [cache.encode(other, test.clip, qp) for qp in group[: config.pictured_maps]]
                for path, (model, _) in loaded.items():
                    maps[path] += compare_group(model, test, group, coded, others, real, losses, mean_qp=mean_qp)
                descent = descent_test(surrogate, test.sample, real, mean_qp=mean_qp, rng=rng)
                steps.append(DescentRow(test.video, test.start, mean_qp, **asdict(descent)))
                if config.draws:
                    reals = [real, *(RealLoss(judge, test.clip, codec, cache) for judge in judges[1:])]
                    steps_of = averaged_descent(surrogate, test.sample, reals, mean_qp=mean_qp, draws=config.draws)
                    averaged += [AveragedRow(test.video, test.start, mean_qp, *words) for words in steps_of]
                progress.advance(bar)
    about = {
        "config": to_dict(config),
        "surrogate": stored["surrogate"],
        "trained_on": stored["trained_on"],
        "versions": versions(),
    }
    first = clips[0]
    costs = {path: measure_cost(model, first, codec, predicted) for path, (model, _) in loaded.items()}
    rows = Found(maps.pop(config.checkpoint), steps, averaged, maps, costs)
    of_chance = {"bootstrap": config.bootstrap, "seed": config.seed}
    return write_results(config.out, lambda out: write_surrogate_report(out, about, rows, surrogate, first, codec, **of_chance))


def held_out(data: DataConfig) -> list[Path]:
    """Return the videos to test on; of a corpus those of `data.split`, and of the training side a fold.

    Raises `ConfigError` where there are none.
    """
    root = data_root(data.root)
    _, videos = split_data(data.name, root, test=data.test, exclude=data.exclude)
    if data.name == "corpus":
        videos = [row.path for row in choose(root, data.split, kinds=data.kinds, folds=data.folds, fold=data.fold)]
    if not videos:
        raise ConfigError(f"data={data.name} has no videos to test on: take data=folder or data=cityscapes_sequence")
    return videos


def _load(path: str, config: EvaluateSurrogateConfig) -> tuple[Surrogate, dict[str, Any]]:
    """Return the surrogate at `path`, ready to be asked, and its config.

    Raises `ConfigError` for one of another encoder or ladder.
    """
    surrogate, stored = load_surrogate(path)
    rungs = config.data.rungs if surrogate.reads_ladder else None
    check_surrogate(path, stored, codec=config.codec, rungs=rungs)
    return surrogate.eval().requires_grad_(False), stored


def load_clips(
    clips: ClipDataset, codec: Codec, cache: EncodeCache, *, rungs: Sequence[int], predicted: PredictedLadders | None = None
) -> Iterator[TestClip]:
    """Yield the `clips` with their ladders, encoded or `predicted`."""
    for i in range(len(clips)):
        samples = LadderSamples([clips[i]], codec=codec, cache=cache, qps=tuple(rungs), predicted=predicted)
        span = clips.spans[i]
        yield TestClip(clips[i], span.video.name, span.start, default_collate([samples[0]]), samples.qps)


@torch.no_grad()
def compare_group(
    surrogate: Surrogate,
    test: TestClip,
    group: Sequence[QPMap],
    coded: Sequence[Sequence[EncodedClip]],
    others: Sequence[EncodedClip],
    real: RealLoss,
    losses: Sequence[tuple[float, float]],
    *,
    mean_qp: int,
) -> list[MapRow]:
    """One row per map; frames are compared for the first `len(others)`, of which the first is flat.

    coded: of every map its encode and that of nearly the same map; losses: of these, real. others: with another preset.
    """
    rows = []
    weights = per_macroblock(activity(as_float(test.sample["frames"])[0].mean(1)))  # of the activity-only predictor
    analysis = surrogate.analyse(test.sample)
    for index, (qp, (first, second)) in enumerate(zip(group, coded, strict=True)):
        values = torch.from_numpy(qp.values.astype(np.int64))
        predicted = surrogate.predict(analysis, one_hot_qp(values)[None])
        log_bits = torch.log(torch.from_numpy(first.bits_per_frame).float())
        error = predicted.log_bits[0] - log_bits
        types = test.sample["frame_types"][0]
        in_i, in_p, in_b = (float(error[types == k].mean()) for k in range(len(FRAME_TYPES)))
        of_frames = float(real.task.loss(real.task.predict(predicted.frames), real.reference[None])[0])
        imitated = of_frames if predicted.degradation is None else float(real.task.loss_of(predicted.degradation)[0])
        encodes = (first, second, *others[index : index + 1])
        fidelity = _fidelity(test, predicted.frames[0], encodes, mean_qp) if index < len(others) else {}
        rows.append(
            MapRow(
                test.video,
                test.start,
                mean_qp,
                "flat" if qp.values.min() == qp.values.max() else "mixed",
                float(log_bits.logsumexp(0)),
                float(predicted.log_clip_bits[0] - log_bits.logsumexp(0)),
                in_i,
                in_p,
                in_b,
                losses[index][0],
                imitated,
                of_frames,
                float(np.log(second.bits)),
                losses[index][1],
                float(qp.values.mean()),
                float((weights * values).sum() / weights.sum()),
                float(error.expm1().abs().median()),
                **fidelity,
            )
        )
    return rows


def _fidelity(test: TestClip, predicted: torch.Tensor, encodes: Sequence[EncodedClip], mean_qp: int) -> dict[str, float]:
    """PSNR and SSIM against the first of the encodes, of the prediction, of the two floors and of the other two encodes."""
    first, second, preset = encodes
    nearest = min(range(len(test.rungs)), key=lambda k: abs(test.rungs[k] - mean_qp))
    others = {"copy_": test.sample["frames"][0], "nearest_": test.sample["ladder_frames"][0, nearest]}
    others |= {"second_": second.frames, "preset_": preset.frames}
    coded = as_float(first.frames)
    found = {}
    for name, frames in {"": predicted, **{name: as_float(x) for name, x in others.items()}}.items():
        found[f"{name}psnr"] = float(-10 * torch.log10((frames - coded).square().mean().clamp(min=_MSE_FLOOR)))
        found[f"{name}ssim"] = float(ssim(frames, coded, 11).mean())
    return found
