"""`dvcc export`: the QPs that the rule of objects or a trained control decides, for another encoder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np

from dvcc._files import open_atomic, replaced, temporary_folder
from dvcc._words import counted
from dvcc.cli import limits, objects
from dvcc.cli.closing import say_decided
from dvcc.codecs.passes import MappedFrame, Maps
from dvcc.errors import ConfigError, VideoError
from dvcc.export import FORMATS
from dvcc.media.damage import Damage
from dvcc.media.format import SourceFrame, VideoFormat
from dvcc.media.probe import open_video
from dvcc.networks.sources import control_path, published_controls
from dvcc.qp import Delivery, QPMap, QPOffsets
from dvcc.units import LONGEST_GOP, gop_of_a_second


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the words of `dvcc export`."""
    parser = commands.add_parser("export", help="write the QPs that objects or a control decide, for another encoder")
    parser.add_argument("video", help="a video file, which the other encoder is going to code")
    parser.add_argument("--format", choices=list(FORMATS), default="npz", help="which program's (default: npz, dvcc's own)")
    parser.add_argument("--target-kbps", metavar="KBPS", type=float, required=True, help="bitrate to aim at, kbit/s")
    parser.add_argument(
        "--task",
        metavar="TASK",
        help=f"what the video is for, unless --checkpoint says it: {', '.join(published_controls())}",
    )
    parser.add_argument(
        "--controller",
        choices=("objects", "learned"),
        help="learned, the default: a trained control; objects, the default where one of its options is said: bits go to where a "
        "small detector sees objects",
    )
    objects.add_words(parser)
    parser.add_argument("--delivery", choices=get_args(Delivery), help=_deliveries())
    parser.add_argument("--checkpoint", metavar="PATH", help="a control that you trained, instead of --task")
    parser.add_argument("--gop", metavar="N", type=int, help="frames per GOP (default: one second)")
    parser.add_argument("--out", metavar="FILE", help="where to write (default: VIDEO with the format's suffix, in this folder)")
    limits.add_words(parser)
    parser.set_defaults(run=run)


def _deliveries() -> str:
    offsets = [name for name, form in FORMATS.items() if form.takes[0] == "offsets"]
    return f"map: every QP; offsets: on the encoder's own QPs (default: offsets for {' and '.join(offsets)}, else map)"


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    if not 0 < arguments.target_kbps < float("inf"):
        raise ConfigError(f"--target-kbps must be positive, got {arguments.target_kbps:g}")
    if arguments.gop is not None and not 1 <= arguments.gop <= LONGEST_GOP:
        raise ConfigError(f"--gop goes from 1 to {LONGEST_GOP} frames, got {arguments.gop}")
    written = FORMATS[arguments.format]
    controller, delivery = _chosen(arguments)
    checkpoint = control_path(arguments.task, arguments.checkpoint) if controller == "learned" else None
    out = Path(arguments.out or f"{Path(arguments.video).stem}{written.suffix}")
    if written.misread and out.suffix == written.misread:
        raise ConfigError(f"{arguments.format} would take {out} for another layout: give a name that ends in {written.suffix}")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder: give the name of a file")
    source = open_video(arguments.video).upright()
    if out.exists() and out.samefile(source.path):
        raise ConfigError(f"--out {out} is the video itself: give another name")
    gop = arguments.gop or gop_of_a_second(source.picture.fps)

    # onnxruntime: only once the words and the video are known to be good
    from dvcc.control.deployed.runtime import Control, load_control
    from dvcc.encoding.plan import check_target
    from dvcc.encoding.presets import default_threads, obedient_codec
    from dvcc.encoding.report import progress_bar
    from dvcc.rate_control.learned import LearnedMap, analysed_offsets
    from dvcc.rate_control.objects import load_objects
    from dvcc.rate_control.offsets import OffsetGenerator, begin_offsets

    check_target(source, arguments.target_kbps)

    control = load_objects(**objects.options(arguments)) if checkpoint is None else load_control(checkpoint)
    codec = obedient_codec("x264", "medium", delivery, gop=gop, threads=default_threads("x264"))
    damage, given = Damage(), (source, arguments.target_kbps)
    for note in replaced(out):
        print(f"note     {note}", file=sys.stderr)
    with open_atomic(out) as file, temporary_folder() as folder, progress_bar(source) as progress:
        generate: Maps
        offsets: OffsetGenerator | None = None
        if isinstance(control, Control) and delivery == "map":
            generate = LearnedMap(control, codec).generator(*given, folder, progress).generate
        else:
            if isinstance(control, Control) and control.analysis:
                offsets = analysed_offsets(control, *given, codec, folder / "analysis.mkv", progress)[0]
            else:
                offsets = begin_offsets(control, *given, codec)
            generate = offsets.generate
        extent, times = _Extent(progress), _Times(source.picture)
        maps = by_gop(generate(times(source.frames(damage))), gop, delivery)
        command = written.write(file, extent(maps), source=source, out=out, gop=gop)
        if damage.resized:  # the other encoder would not scale them
            raise VideoError(f"{source.path}: the frames change their size: cut the video there, or scale it to one size")
    for note in (*source.notes, *damage.corrections.sentences(), *filter(None, [str(times)])):
        print(f"note     {note}", file=sys.stderr)
    if offsets is not None:
        say_decided(offsets.words())
    what = "QPs" if delivery == "map" else "offsets"
    print(
        f"{out}: {what} {extent.low} to {extent.high}, {counted(extent.frames, 'frame')}, GOP {gop}, "
        f"at {arguments.target_kbps:g} kbit/s"
    )
    if damage_text := str(damage):
        print(f"damage: {damage_text}; the other encoder may conceal it in another way")
    print(f"lost: {written.loses}")
    print(f"use: {command}")


def _chosen(arguments: argparse.Namespace) -> tuple[str, Delivery]:
    """Return what decides, and as what it is written. Raises `ConfigError` for words that do not go together."""
    takes = FORMATS[arguments.format].takes
    controller, delivery = arguments.controller, arguments.delivery
    if controller is None:
        controller = "objects" if objects.given(arguments) else "learned"
    objects.check(arguments, controller)
    if controller == "objects":
        if arguments.checkpoint is not None:
            raise ConfigError("--checkpoint is a trained control, and --controller objects takes none: leave one of the two out")
        if arguments.task not in (None, "detection"):
            raise ConfigError(f"--controller objects is for detection, not for {arguments.task}: choose learned")
        if delivery == "map" or "offsets" not in takes:
            able = ", ".join(name for name, form in FORMATS.items() if "offsets" in form.takes)
            raise ConfigError(f"--controller objects decides offsets and no map: choose --format among {able}, or learned")
        return controller, "offsets"
    delivery = delivery or takes[0]
    if delivery not in takes:
        raise ConfigError(f"{arguments.format} does not take --delivery {delivery}: use --delivery {takes[0]}")
    return controller, delivery


def by_gop(decided: Iterator[MappedFrame], gop: int, delivery: Delivery) -> Iterator[QPMap | QPOffsets]:
    """One map for every `gop` frames, the last one of what is left."""
    kind, maps = QPOffsets if delivery == "offsets" else QPMap, (values for _, values in decided)
    while some := list(islice(maps, gop)):
        yield kind(np.stack(some).astype(np.int16))


class _Times:
    """Passes frames on and says whether they take another time than at a constant rate."""

    def __init__(self, picture: VideoFormat) -> None:
        self.frames, self.first, self.last, self._picture = 0, 0, 0, picture

    def __call__(self, frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
        for frame in frames:
            if not self.frames:
                self.first = frame.pts
            self.frames, self.last = self.frames + 1, frame.pts
            yield frame

    def __str__(self) -> str:
        """Empty unless it differs by more than 2 % and a tick of their clock."""
        fps, tick = self._picture.fps, self._picture.time_base
        constant, actual = self.frames / fps, (self.last - self.first) * tick + 1 / fps
        if abs(actual - constant) <= constant / 50 + tick:
            return ""
        change = "higher" if constant < actual else "lower"
        return (
            f"the frames come at uneven times: at a constant {float(fps):.4g} a second they take {float(constant):.1f} s instead "
            f"of {float(actual):.1f}, and the bitrate is as much {change}"
        )


class _Extent:
    """Passes maps on and remembers their extent."""

    def __init__(self, progress: Callable[[str, int], None]) -> None:
        self.frames, self.low, self.high, self._progress = 0, 127, -127, progress

    def __call__(self, maps: Iterator[QPMap | QPOffsets]) -> Iterator[QPMap | QPOffsets]:
        for qp in maps:
            self.frames += len(qp.values)
            self.low, self.high = min(self.low, int(qp.values.min())), max(self.high, int(qp.values.max()))
            self._progress("maps", self.frames)
            yield qp
