"""`dvcc export`: the QPs that a trained control decides, for another encoder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dvcc._files import open_atomic, replaced
from dvcc._words import counted
from dvcc.errors import ConfigError
from dvcc.export import FORMATS, Source
from dvcc.published import Mode, check_mode, control_path, published_tasks
from dvcc.qp import QPMap, QPOffsets
from dvcc.units import LONGEST_GOP, gop_of_a_second
from dvcc.video.source import Damage

if TYPE_CHECKING:
    from dvcc.clip import Clip


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The words of `dvcc export`."""
    parser = commands.add_parser("export", help="write the QPs that a trained control decides, for another encoder")
    parser.add_argument("video", help="a video file, which the other encoder is going to code")
    parser.add_argument("--format", choices=list(FORMATS), default="npz", help="which program's (default: npz, dvcc's own)")
    parser.add_argument("--target-kbps", metavar="KBPS", type=float, required=True, help="bitrate to aim at, kbit/s")
    parser.add_argument("--task", metavar="TASK", help=f"the published control for it: {published_tasks()}")
    parser.add_argument("--mode", choices=get_args(Mode), help=_modes())
    parser.add_argument("--checkpoint", metavar="PATH", help="a control that you trained, instead of --task")
    parser.add_argument("--gop", metavar="N", type=int, help="frames per GOP (default: one second)")
    parser.add_argument("--out", metavar="FILE", help="where to write (default: VIDEO with the format's suffix, in this folder)")
    parser.set_defaults(run=run)


def _modes() -> str:
    offsets = [name for name, form in FORMATS.items() if form.takes[0] == "offset"]
    return f"absolute: QPs; offset: offsets on the encoder's own (default: offset for {' and '.join(offsets)}, else absolute)"


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    if not 0 < arguments.target_kbps < float("inf"):
        raise ConfigError(f"--target-kbps must be positive, got {arguments.target_kbps:g}")
    if arguments.gop is not None and not 1 <= arguments.gop <= LONGEST_GOP:
        raise ConfigError(f"--gop goes from 1 to {LONGEST_GOP} frames, got {arguments.gop}")
    written = FORMATS[arguments.format]
    if arguments.mode not in (None, *written.takes):
        raise ConfigError(f"{arguments.format} does not take --mode {arguments.mode}: use --mode {written.takes[0]}")
    checkpoint = control_path(arguments.task, arguments.mode or written.takes[0], arguments.checkpoint)
    out = Path(arguments.out or f"{Path(arguments.video).stem}{written.suffix}")
    source = Source.open(arguments.video)
    if out.exists() and out.samefile(source.path):
        raise ConfigError(f"--out {out} is the video itself: give another name")
    gop = arguments.gop or gop_of_a_second(source.fps)

    map_of, mode = _control(checkpoint, gop, arguments.mode)  # torch: only once the words and the video are known to be good
    if mode not in written.takes:
        raise ConfigError(
            f"{checkpoint} is a control of {mode} mode, which {arguments.format} does not take: "
            f"use one of --mode {written.takes[0]}"
        )
    extent, damage = _Extent(), Damage()
    for note in replaced(out):
        print(f"note     {note}", file=sys.stderr)
    with open_atomic(out) as file:
        maps = extent(map_of(clip, arguments.target_kbps) for clip in source.gops(gop, damage))
        command = written.write(file, maps, source=source, out=out, gop=gop)
    what = "QPs" if mode == "absolute" else "offsets"
    print(
        f"{out}: {what} {extent.low} to {extent.high}, {counted(extent.frames, 'frame')}, GOP {gop}, "
        f"at {arguments.target_kbps:g} kbit/s"
    )
    if said := str(damage):
        print(f"damage: {said}; the other encoder may conceal it in another way")
    print(f"lost: {written.loses}")
    print(f"use: {command}")


class _Extent:
    """Passes maps on and remembers their extent."""

    frames, low, high = 0, 127, -127

    def __call__(self, maps: Iterator[QPMap | QPOffsets]) -> Iterator[QPMap | QPOffsets]:
        for qp in maps:
            self.frames += len(qp.values)
            self.low, self.high = min(self.low, int(qp.values.min())), max(self.high, int(qp.values.max()))
            yield qp


def _control(checkpoint: Path, gop: int, asked: Mode | None) -> tuple[Callable[[Clip, float], QPMap | QPOffsets], Mode]:
    from dvcc.codecs import X264
    from dvcc.control import load_control
    from dvcc.rate_control import LEARNED

    control, _ = load_control(checkpoint)
    return LEARNED[control.mode](control, X264(gop=gop)).map_of, check_mode(checkpoint, control.mode, asked=asked)
