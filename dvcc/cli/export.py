"""`dvcc export`: the QP map that a trained control decides, for another program."""

from __future__ import annotations

import argparse
from pathlib import Path

from dvcc.clip import read_clip
from dvcc.errors import ConfigError


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The words of `dvcc export`."""
    parser = commands.add_parser("export", help="write the QP map that a trained control decides")
    parser.add_argument("video", help="a video file or a folder of frames")
    parser.add_argument("--format", choices=["npz"], default="npz", help="npz: one int8 array `qp` (frames, rows, columns)")
    parser.add_argument("--target-kbps", type=float, required=True, help="bitrate to aim at, kbit/s")
    parser.add_argument("--checkpoint", default="runs/control-segmentation/control.safetensors", help="a trained control")
    parser.add_argument("--out", help="where to write (default: IN with the format's suffix, in this folder)")
    parser.add_argument("--frames", type=int, help="how many frames (default: all)")
    parser.add_argument("--start", type=int, default=0, help="first frame")
    parser.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="scale to this size")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    if not 0 < arguments.target_kbps < float("inf"):
        raise ConfigError(f"--target-kbps must be positive, got {arguments.target_kbps:g}")
    size = tuple(arguments.size) if arguments.size else None
    clip = read_clip(arguments.video, frames=arguments.frames, start=arguments.start, stride=arguments.stride, size=size)

    from dvcc.control import load_control  # torch: only once the words and the video are known to be good
    from dvcc.export import FORMATS
    from dvcc.qp import QPMap
    from dvcc.rate_control import LEARNED

    control, _ = load_control(arguments.checkpoint)
    qp = LEARNED[control.mode](control).map_of(clip, arguments.target_kbps)
    if not isinstance(qp, QPMap):
        raise ConfigError(
            f"{arguments.checkpoint} decides offsets on top of x264's rate control, not QPs: "
            f"export a control of absolute or analysed mode"
        )
    out = Path(arguments.out or f"{Path(arguments.video).stem}.{arguments.format}")
    FORMATS[arguments.format](qp, out)
    print(f"{out}: {qp!r} for {clip!r} at {arguments.target_kbps:g} kbit/s")
