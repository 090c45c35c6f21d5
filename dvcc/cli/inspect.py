"""`dvcc inspect`: what a coded file says of itself."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from dvcc.codecs.bitstream import StreamReport, inspect_bitstream


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The words of `dvcc inspect`."""
    parser = commands.add_parser("inspect", help="realised QPs, frame types and bits of an H.264 file")
    parser.add_argument("coded", help="an H.264 file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--heat-map", metavar="PNG", help="write the mean QP of every macroblock over the first frame")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
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
