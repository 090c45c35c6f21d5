"""The `dvcc` program: export a control's QP maps, inspect a coded file, list the networks of the zoo."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dvcc._commands import guarded
from dvcc.clip import read_clip
from dvcc.codecs.bitstream import StreamReport, inspect_bitstream
from dvcc.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of argparse's usage block."""
        self.exit(2, f"error: {message}; {self.prog} --help shows what there is\n")


def build_parser() -> argparse.ArgumentParser:
    """The words that `dvcc` understands."""
    parser = _Parser(prog="dvcc", description="Learned control of standard video codecs for vision models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="write the QP map that a trained control decides")
    export.add_argument("video", help="a video file or a folder of frames")
    export.add_argument("--format", choices=["npz"], default="npz", help="npz: one int8 array `qp` (frames, rows, columns)")
    export.add_argument("--target-kbps", type=float, required=True, help="bitrate to aim at, kbit/s")
    export.add_argument("--checkpoint", default="runs/control-segmentation/control.safetensors", help="a trained control")
    export.add_argument("--out", help="where to write (default: IN with the format's suffix, in this folder)")
    export.add_argument("--frames", type=int, help="how many frames (default: all)")
    export.add_argument("--start", type=int, default=0, help="first frame")
    export.add_argument("--stride", type=int, default=1, help="take every n-th frame")
    export.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="scale to this size")
    export.set_defaults(run=_export)

    inspect = commands.add_parser("inspect", help="realised QPs, frame types and bits of an H.264 file")
    inspect.add_argument("coded", help="an H.264 file")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.add_argument("--heat-map", metavar="PNG", help="write the mean QP of every macroblock over the first frame")
    inspect.set_defaults(run=_inspect)

    zoo = commands.add_parser("zoo", help="the networks that can be judged, and whose weights are on this machine")
    zoo.add_argument("--json", action="store_true", help="print JSON")
    zoo.set_defaults(run=_zoo)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run `dvcc`; returns the exit status (0, or 2 after one sentence about what to mend)."""
    arguments = build_parser().parse_args(words)
    return guarded(lambda: arguments.run(arguments))


def _export(arguments: argparse.Namespace) -> None:
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


def _inspect(arguments: argparse.Namespace) -> None:
    report = inspect_bitstream(arguments.coded)
    figures = _figures(report)
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(f"{arguments.coded}: {len(report.frame_types)} frames at {float(report.fps):g} fps, {figures['kbps']:.1f} kbit/s")
        print(f"types  {''.join(report.frame_types)}")
        for kind, of_type in figures["frame_types"].items():
            print(
                f"  {kind}  {of_type['frames']:4d} frames  QP {of_type['qp_mean']:5.2f} "
                f"({of_type['qp_min']}..{of_type['qp_max']})  {of_type['bits_mean']:9.0f} bits per frame"
            )
        print(f"x264   {figures['settings'] or 'no settings text'}")
    if arguments.heat_map:
        from dvcc.visuals import strip

        mean = report.realised_qp.values.mean(0)
        strip(
            {"first frame": report.first_frame, "mean realised QP": report.first_frame},
            arguments.heat_map,
            qp={"mean realised QP": mean},
        )
        print(f"heat map: {arguments.heat_map}", file=sys.stderr)


def _zoo(arguments: argparse.Namespace) -> None:
    from dvcc.zoo import DEFAULTS, PAPER

    entries = (*DEFAULTS, *PAPER)
    found = {entry.name: entry.weights.found() for entry in entries}
    if arguments.json:
        rows = [
            {
                "name": entry.name,
                "task": entry.task,
                "source": entry.source,
                "identifier": entry.identifier,
                "label": entry.label,
                "protocol": str(entry.protocol),
                "present": found[entry.name] is not None,
                "weights": str(found[entry.name] or entry.weights.path),
                "remedy": "" if found[entry.name] else entry.weights.remedy,
            }
            for entry in entries
        ]
        print(json.dumps(rows))
        return
    table = [["name", "in the paper", "task", "source", "input", "weights"]]
    for entry in entries:
        state = "present" if found[entry.name] else "missing"
        table.append([entry.name, entry.label or "-", entry.task, entry.source, str(entry.protocol), state])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print("missing weights are downloaded when they are needed; dvcc zoo --json says which file to put where without a network")


def _figures(report: StreamReport) -> dict[str, Any]:
    """Everything that `inspect` prints, ready for JSON."""
    from dvcc import units

    types = np.array(report.frame_types)
    by_type = {}
    for kind in sorted(set(report.frame_types)):
        qp, bits = report.realised_qp.values[types == kind], report.bits_per_frame[types == kind]
        by_type[kind] = {
            "frames": int((types == kind).sum()),
            "qp_mean": float(qp.mean()),
            "qp_min": int(qp.min()),
            "qp_max": int(qp.max()),
            "bits_mean": float(bits.mean()),
        }
    return {
        "frames": len(types),
        "fps": float(report.fps),
        "kbps": units.kbps(report.bits_per_frame.sum(), num_frames=len(types), fps=report.fps),
        "frame_types": by_type,
        "bits_per_frame": report.bits_per_frame.tolist(),
        "settings": report.settings,
    }


if __name__ == "__main__":
    sys.exit(main())
