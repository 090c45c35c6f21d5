"""`dvcc compare`: two-pass ABR against the rule of objects or a trained control on one's own video: a table and a page."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dvcc._files import check_writable, replaced, temporary_folder, write_atomic
from dvcc._memory import return_free_blocks, return_large_blocks
from dvcc._packaged import require
from dvcc._words import counted
from dvcc.cli import limits, objects, reading
from dvcc.cli.compared import directions, finite, row, table
from dvcc.clip import Clip
from dvcc.errors import ConfigError
from dvcc.media.clips import read_clip
from dvcc.media.probe import open_video
from dvcc.networks.sources import control_path
from dvcc.networks.zoo import names as networks_of
from dvcc.qp import Delivery
from dvcc.units import gop_of_a_second

if TYPE_CHECKING:
    from dvcc.control.eyes.painting import Rule
    from dvcc.evaluation.compare.stretch import Stretch

TARGETS = (0.6, 0.8, 1.0, 1.6)
"""Factors of the target, for a curve."""

_TASKS = ("classification", "detection", "optical_flow", "reconstruction", "segmentation")
_WRITTEN = ("index.html", "compare.json", "abr2.mp4", "control.mp4")
_FRAMES, _NUM_SHOWN = 250, 6
_LARGE_BLOCK, _KEPT = 2**22, 2**24  # bytes: a picture of 1080p has 6 million, and what is smaller is soon taken again
_LARGEST_SAVED = 2**21  # pixels: above 1080p giving memory back takes a sixth of the processor
_NAMES = {"objects": "rule of objects", "learned": "learned control"}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the words of `dvcc compare`."""
    parser = commands.add_parser("compare", help="two-pass ABR against a control on your video: a table and a page")
    parser.add_argument("video", help="a video file or a folder of frames, uncoded or well coded")
    parser.add_argument(
        "--target-kbps",
        metavar="KBPS",
        type=float,
        required=True,
        help="bitrate to compare at, kbit/s, and at 0.6, 0.8 and 1.6 times it",
    )
    parser.add_argument(
        "--task",
        metavar="TASK",
        required=True,
        choices=_TASKS,
        help=f"what the video is for: {', '.join(_TASKS)}; where no control is published, with --model or --checkpoint",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the network that judges, and reads x264's encode for the control as with dvcc encode --model (default: the task's "
        "own judges, and those that the control was published with read)",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights for it, in place of its published ones")
    parser.add_argument(
        "--controller",
        choices=tuple(_NAMES),
        help="learned, the default: a trained control; objects, the default where one of its options is said: bits go to where a "
        "small detector sees objects",
    )
    objects.add_words(parser)
    parser.add_argument(
        "--delivery",
        choices=get_args(Delivery),
        default="offsets",
        help="offsets, the default: on top of x264's two passes; map: every QP is given, after an analysis encode",
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="a control that you trained (default: the published one of the task)"
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="where the stretch begins (default: 0)")
    parser.add_argument("--seconds", type=float, metavar="SECONDS", help=f"how long it is (default: up to {_FRAMES} frames)")
    parser.add_argument("--out", metavar="DIR", help="folder to write to (default: compare-VIDEO, in this folder)")
    limits.add_words(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    if not 1 <= arguments.target_kbps < float("inf"):
        raise ConfigError(f"--target-kbps must be at least 1, got {arguments.target_kbps:g}")
    require("torch", "kornia", "bjontegaard", "jinja2", "matplotlib", wanted_by="dvcc compare")
    chosen = _controller(arguments)
    checkpoint = None
    if chosen == "learned" and arguments.model is not None:
        checkpoint = reading.checkpoint_of(arguments)
    elif chosen == "learned":
        checkpoint = control_path(None if arguments.checkpoint else arguments.task, arguments.checkpoint)
    source = None if Path(arguments.video).is_dir() else open_video(arguments.video)  # refuses what cannot be coded
    probe = read_clip(arguments.video, frames=1)
    if probe.height * probe.width <= _LARGEST_SAVED:
        return_large_blocks(least=_LARGE_BLOCK, kept=_KEPT)  # before anything else is imported or decoded
    start, frames = _stretch(arguments, probe)

    from rich.console import Console
    from rich.progress import Progress

    from dvcc.control.deployed.runtime import load_control  # and torch: once the words and the video are known to be good
    from dvcc.encoding.plan import check_target
    from dvcc.evaluation.compare.encoding import Work, encode_apart
    from dvcc.evaluation.compare.measure import check_reference, judge_all
    from dvcc.evaluation.compare.stretch import copy_stretch
    from dvcc.evaluation.compare.viewed import ObjectRegions
    from dvcc.rate_control.objects import load_objects
    from dvcc.tasks import build_task

    if source is not None:
        check_target(source, arguments.target_kbps)
    control = None if checkpoint is None else load_control(checkpoint)
    reader = None
    if control is not None and control.analysis and arguments.model is not None:
        reader = partial(reading.reader_of, arguments.task, [arguments.model], arguments.weights)
    looking = load_objects(**objects.options(arguments)) if arguments.task == "detection" else None
    model = arguments.model or ("psnr" if arguments.task == "reconstruction" else networks_of(arguments.task)[0])
    task = build_task(arguments.task, model=model, weights=arguments.weights).eval()
    with temporary_folder() as folder:
        stretch = copy_stretch(Path(arguments.video), folder, start=start, frames=frames)
        if stretch.num_frames <= task.overlap:
            raise ConfigError(
                f"{arguments.task} needs more than {counted(task.overlap, 'frame')}, and the stretch has {stretch.num_frames}"
            )
        regions = None if looking is None else ObjectRegions(looking, stretch)
        check_reference(stretch, task)
        out = _folder(arguments)
        gop = gop_of_a_second(stretch.fps)
        # With offsets x264 keeps the rate; a map can miss it by half, and gets one more encode to correct that.
        ours = chosen if arguments.delivery == "offsets" else "learned_map_corrected"
        targets = sorted({max(1.0, factor * arguments.target_kbps) for factor in TARGETS})
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("encoding", total=2 * len(targets))
            work = Work(stretch, targets, ours, checkpoint, gop, folder, objects.options(arguments), reader)
            measured = encode_apart(work, lambda: progress.advance(bar))
            bar = progress.add_task("judging", total=stretch.num_frames - task.overlap)
            pictured_frames = judge_all(
                stretch,
                measured,
                task,
                block=gop,
                shown_target=arguments.target_kbps,
                num_shown=_NUM_SHOWN,
                regions=regions,
                advance=lambda done: progress.advance(bar, done),
            )
        for m in measured:
            if m.target_kbps == arguments.target_kbps:
                write_atomic(out / f"{m.controller}.mp4", m.path.read_bytes())
    return_free_blocks()  # of the decoders
    # matplotlib and scipy: no memory of theirs is held beside that of the network.
    from dvcc.evaluation.compare.page import Comparison, render
    from dvcc.evaluation.compare.verdict import compare, headline, remarks

    names = {"abr2": "two-pass ABR", "control": _NAMES[chosen]}
    baseline, controlled = ([m for m in measured if m.controller == name] for name in names)
    verdict = compare(baseline, controlled, task, target_kbps=arguments.target_kbps, block=gop)
    how = _trained(arguments, checkpoint, control.config, gop) if control is not None and checkpoint is not None else ""
    how = how or (_rule(arguments, looking.rule) if looking is not None else "")
    facts = _facts(arguments, stretch, start, gop, model, (names["control"], how))
    if regions is not None:
        facts.append(("PSNR inside, outside", regions.words()))
    sentences = remarks(verdict, measured, task, names, arguments.target_kbps)
    comparison = Comparison(
        title=Path(arguments.video).name,
        names=names,
        metric_name=task.metric_name,
        higher_is_better=bool(task.metric().higher_is_better),
        target_kbps=arguments.target_kbps,
        measured=measured,
        pictured=pictured_frames,
        videos={name: out / f"{name}.mp4" for name in names},
        headline=headline(verdict, task, names),
        remarks=sentences,
        facts=facts,
        first_frame=start,
        fps=float(stretch.fps),
        size=(stretch.height, stretch.width),
        sides=regions is not None,
    )
    write_atomic(out / "index.html", render(comparison))
    figures = {
        "metric": task.metric_name,
        "higher_is_better": comparison.higher_is_better,
        "rows": [row(m) for m in measured],
        "verdict": {name: finite(value) for name, value in asdict(verdict).items()},
        "headline": comparison.headline,
        "remarks": sentences,
        "facts": dict(facts),
    }
    write_atomic(out / "compare.json", json.dumps(figures, indent=1))
    print(table(measured, names, task.metric_name, sides=regions is not None))
    print(directions(task.metric_name, higher_is_better=comparison.higher_is_better))
    print(comparison.headline)
    print(f"page: {out / 'index.html'}")


def _stretch(arguments: argparse.Namespace, probe: Clip) -> tuple[int, int]:
    """First frame, and how many at most."""
    seconds = arguments.seconds
    if not (0 <= arguments.start < float("inf") and 0 < (1 if seconds is None else seconds) < float("inf")):
        raise ConfigError("--start must be 0 or more and --seconds positive")
    frames = _FRAMES if seconds is None else max(1, round(seconds * probe.fps))
    return round(arguments.start * probe.fps), frames


def _folder(arguments: argparse.Namespace) -> Path:
    """Where to write; what is there already is named before it is replaced."""
    video = Path(arguments.video)
    out = Path(arguments.out or f"compare-{video.stem}")
    check_writable(out, key="--out")
    paths = [out / name for name in _WRITTEN]
    if any(path.is_file() and path.samefile(video) for path in paths):
        raise ConfigError(f"{video} would be replaced by what is written to {out}: choose another folder with --out DIR")
    for note in replaced(*paths):
        print(f"note     {note}", file=sys.stderr)
    return out


def _facts(
    arguments: argparse.Namespace,
    stretch: Stretch,
    start: int,
    gop: int,
    model: str,
    ours: tuple[str, str],
) -> list[tuple[str, str]]:
    """How it was measured, in words. ours: the control's name and what it is."""
    seconds = [float(Fraction(frame) / stretch.fps) for frame in (start, start + stretch.num_frames)]
    video = Path(arguments.video)
    return [
        (
            "stretch",
            f"frames {start} to {start + stretch.num_frames - 1} ({seconds[0]:.2f} to {seconds[1]:.2f} s) of {video.name}: "
            f"{counted(stretch.num_frames, 'frame')} of {stretch.width}x{stretch.height} at {float(stretch.fps):g} fps",
        ),
        (
            "encoder",
            f"x264, preset medium, a GOP of one second ({counted(gop, 'frame')}), closed, one thread, for both; real encodes",
        ),
        ("two-pass ABR", "x264 at its best: two passes, AQ, psy and mbtree on"),
        ours,
        ("judge", f"{model}: its answer on the coded frames against its own on the uncoded ones of the stretch"),
        ("bits", "slices and parameter sets; not the container, nor x264's text about its settings"),
        ("PSNR", "of RGB, over the squared error of all frames"),
    ]


def _trained(arguments: argparse.Namespace, checkpoint: Path, stored: dict[str, Any], gop: int) -> str:
    from dvcc.datasets.clips import video_key

    trained_gop = stored.get("run", {}).get("codec", {}).get("gop", gop)
    seen = video_key(Path(arguments.video)) in stored.get("trained_on", [])
    analysis, read = stored["control"].get("analysis"), ""
    if analysis is not None:
        files = [one["file"] for one in analysis.get("detectors", [analysis]) if one]
        who = " and ".join(files) if arguments.model is None else f"{arguments.model}, which judges, too"
        read = f"; x264's own encode is read by {who}"
    return (
        f"{checkpoint.name}, delivered as {arguments.delivery}{read}"
        + ("" if arguments.delivery == "offsets" else "; coded once more where it missed its target")
        + (f"; trained with GOPs of {counted(trained_gop, 'frame')}" if trained_gop != gop else "")
        + ("; TRAINED ON THIS VIDEO, which flatters it" if seen else "")
    )


def _rule(arguments: argparse.Namespace, rule: Rule) -> str:
    changed = [
        f"--{word.replace('_', '-')} {getattr(arguments, word)}" for word in objects.given(arguments) if word != "detector"
    ]
    words = f"offsets on two-pass ABR, finer where {rule.detector} sees objects; the numbers of checkpoints/objects.json"
    return f"{words}, but for {' '.join(changed)}" if changed else words


def _controller(arguments: argparse.Namespace) -> str:
    """Return the controller that is compared. Raises `ConfigError` for words that do not go together."""
    chosen = arguments.controller
    if chosen is None:
        chosen = "objects" if objects.given(arguments) else "learned"
    if chosen == "objects":
        if arguments.task != "detection":
            raise ConfigError(f"--controller objects is for detection, not for {arguments.task}: choose learned")
        if arguments.checkpoint or arguments.delivery == "map":
            raise ConfigError(
                "--controller objects takes neither --checkpoint nor --delivery map: leave them out, or choose learned"
            )
    objects.check(arguments, chosen)
    return str(chosen)
