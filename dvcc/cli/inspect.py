"""`dvcc inspect`: what a coded file says of itself, and how near it is to what it was coded from."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dvcc._files import why_not_writable
from dvcc._packaged import require
from dvcc._words import counted
from dvcc.cli import limits
from dvcc.codecs.bitstream import CodedFrame, CodedStream
from dvcc.errors import ConfigError, VideoError
from dvcc.inspect.regions import Reference, RegionQuality, is_full_range, luma, ssim_every
from dvcc.inspect.summary import StreamSummary
from dvcc.media.container import LIMITS

_TYPES_SHOWN, _PLACES_SHOWN = 100, 12


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the words of `dvcc inspect`."""
    parser = commands.add_parser("inspect", help="realised QPs, GOPs, frame types, bits and quality of an H.264 file")
    parser.add_argument("coded", help="an H.264 file")
    parser.add_argument("--json", action="store_true", help="print JSON, every frame, second and macroblock in it")
    parser.add_argument("--heat-map", metavar="PNG", help="write the mean QP of every macroblock over the first frame")
    parser.add_argument("--reference", metavar="FILE", help="what it was coded from: PSNR and SSIM, by place and by QP")
    limits.add_words(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    if arguments.heat_map:
        _check_picture(Path(arguments.heat_map))
    stream = CodedStream(arguments.coded)
    summary, quality, reference = StreamSummary(stream), None, None
    if arguments.reference:
        reference = Reference(arguments.reference, size=(stream.height, stream.width))
        quality = RegionQuality(ssim_every=ssim_every(stream.expected))
    first_frame: np.ndarray = np.empty(0)
    for frame in _with_progress(stream):
        if not len(summary):
            first_frame = frame.picture.to_ndarray(format="rgb24")
        summary.add(frame)
        LIMITS.check_seconds(len(summary) / float(stream.fps), arguments.coded)
        if reference is not None and quality is not None:
            _compare(frame, reference, quality, stream)
    if reference is not None and quality is not None and reference.next_luma(frame.picture) is not None:
        raise _uneven(reference, "more", stream)
    figures = summary.figures() | ({"reference": quality.figures()} if quality is not None else {})
    if arguments.json:
        print(json.dumps(figures))
    else:
        notes = [f"note   {note}" for note in stream.corrections.sentences()]
        print("\n".join(_lines(arguments.coded, figures) + notes))
        if quality is not None:
            print("\n".join(_reference_lines(arguments.reference, figures["reference"])))
    if arguments.heat_map:
        _draw(arguments.heat_map, first_frame, summary.mean_qp, figures.get("reference"))
        print(f"heat map: {arguments.heat_map}", file=sys.stderr)


def _compare(frame: CodedFrame, reference: Reference, quality: RegionQuality, stream: CodedStream) -> None:
    wanted = reference.next_luma(frame.picture)
    if wanted is None:
        raise _uneven(reference, "fewer", stream)
    quality.add(luma(frame.picture, full_range=is_full_range(frame.picture)), wanted, frame.placed_qp)


def _uneven(reference: Reference, how: str, stream: CodedStream) -> VideoError:
    lost = f" ({stream.lost} lost to damage)" if stream.lost else ""
    return VideoError(f"{reference.name} has {how} frames than {stream.name}{lost}: give what it was coded from, frame for frame")


def _with_progress(stream: CodedStream) -> Iterator[CodedFrame]:
    """Yield the frames, and say how far they have come on a terminal's stderr once it takes more than two seconds."""
    next_print = time.monotonic() + 2
    of = f" of {stream.expected}" if stream.expected else ""
    for done, frame in enumerate(stream):
        yield frame
        if sys.stderr.isatty() and time.monotonic() > next_print:
            next_print = time.monotonic() + 0.5
            print(f"\rframe {done}{of}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _check_picture(path: Path) -> None:
    """Raise `ConfigError` unless `path` can be drawn and written: before a long file is decoded for it."""
    require("matplotlib", wanted_by="--heat-map")
    if path.is_dir():
        raise ConfigError(f"--heat-map {path} is a folder: give the name of a PNG file")
    if path.suffix.lower() != ".png":  # a video's name in the wrong place would cost the video
        raise ConfigError(f"--heat-map {path} is no name of a picture: end it in .png")
    if reason := why_not_writable(path.parent):
        raise ConfigError(f"--heat-map {path} cannot be written ({reason}): choose another place")


def _lines(name: str, figures: dict[str, Any]) -> list[str]:
    """Return what is printed of a stream."""
    (height, width), frames = figures["size"], counted(figures["frames"], "frame")
    assumed = " (assumed: the stream does not say)" if figures["fps_assumed"] else ""
    lines = [
        f"{name}: {width}x{height}, {frames} at {figures['fps']:g} fps{assumed}, {figures['kbps']:.1f} kbit/s",
        f"coded  H.264 {figures['profile']}, {figures['pixel_format']}, in {figures['container']}",
    ]
    for kind, of_type in figures["frame_types"].items():
        lines.append(
            f"  {kind}  {counted(of_type['frames'], 'frame'):<12}"
            f"QP {of_type['qp_mean']:5.2f} ({of_type['qp_min']}..{of_type['qp_max']}, "
            f"four in five within {of_type['qp_p10']}..{of_type['qp_p90']})  {of_type['bits_mean']:9.0f} bits per frame"
        )
    lines.append(f"rate   {_rate_of_seconds(figures['kbits_per_second'])}")
    lines.append(f"GOPs   {_gops(figures['gops'])}")
    types = figures["types"]
    lines.append(f"types  {types[:_TYPES_SHOWN]}{' ..' if len(types) > _TYPES_SHOWN else ''}")
    lines += _wrapped("x264", figures["settings"] or "no settings text")
    if figures["interlaced_frames"]:
        lines.append(
            f"note   {counted(figures['interlaced_frames'], 'frame is', 'frames are')} interlaced: QPs are as coded, "
            f"but which lines of a pair of rows a macroblock covers is not known, so maps show the mean of each pair"
        )
    if figures["lost_frames"] or figures["damaged_frames"]:
        lines.append(
            f"note   the file is damaged: {counted(figures['lost_frames'], 'frame')} lost and counted nowhere, "
            f"{figures['damaged_frames']} made up in part by the decoder"
        )
    return lines


def _wrapped(title: str, text: str) -> list[str]:
    """No wider than the terminal, or than 80 columns where there is none; settings are not broken."""
    width = shutil.get_terminal_size().columns
    lines = textwrap.wrap(text, max(40, width - 7), break_long_words=False, break_on_hyphens=False)
    return [f"{start:7}{line}" for start, line in zip([title, *[""] * (len(lines) - 1)], lines, strict=True)]


def _rate_of_seconds(seconds: list[list[float]]) -> str:
    whole = [kbits for _, kbits in seconds[:-1]] or [seconds[0][1]]  # the last second is seldom a whole one
    return f"{min(whole):.1f} to {max(whole):.1f} kbit/s, by the second; median {np.median(whole):.1f}"


def _gops(gops: dict[str, Any]) -> str:
    lengths, early = gops["lengths"], gops["early_i_frames"]
    if not lengths:
        return "none: no frame that decoding can start at"
    kind = "closed" if gops["closed"] else "open"
    whole = lengths[:-1] or lengths
    of = counted(whole[0], "frame")
    if min(whole) < max(whole):
        of = f"{min(whole)} to {max(whole)} frames (median {np.median(whole):g})"
    text = f"{len(lengths)}, {kind}, of {of}"
    if early:
        places = ", ".join(map(str, early[:_PLACES_SHOWN])) + (", .." if len(early) > _PLACES_SHOWN else "")
        text += f"; I frames before {gops['regular_length']} had passed, as at scene cuts: {len(early)}, at frame {places}"
    return text


def _reference_lines(name: str, figures: dict[str, Any]) -> list[str]:
    def line(title: str, of: dict[str, Any]) -> str:
        qp = f"QP {of['qp_mean']:5.2f}" if "qp_mean" in of else ""
        psnr = "identical" if of["psnr"] is None else f"{of['psnr']:.2f} dB"
        return f"  {title:27}{qp:10}PSNR {psnr:10}SSIM {'-' if of['ssim'] is None else format(of['ssim'], '.4f')}"

    psnrs = [value for row in figures["psnr_map"] for value in row if value is not None]
    some = "" if figures["ssim_frames"] in (0, figures["frames"]) else f", SSIM of {figures['ssim_frames']} of them"
    return [
        f"against {name}: luma of {counted(figures['frames'], 'frame')}{some}",
        line("whole picture", figures),
        *(line(f"third of {third} QPs" if third != "middle" else "middle third", of) for third, of in figures["by_qp"].items()),
        f"  macroblocks: PSNR {min(psnrs):.2f} to {max(psnrs):.2f} dB, median {np.median(psnrs):.2f}"
        if psnrs
        else "  no difference",
    ]


def _draw(path: str, frame: np.ndarray, mean_qp: np.ndarray, quality: dict[str, Any] | None) -> None:
    """Draw the first frame, and maps over it, each with a scale of its own."""
    from matplotlib import pyplot as plt

    from dvcc.visuals import draw_qp, save_figure

    maps = {"mean realised QP": mean_qp}
    if quality is not None:
        maps["PSNR (dB)"] = np.array(quality["psnr_map"], float)  # None becomes NaN, which is left blank
        if quality["ssim"] is not None:
            maps["SSIM"] = np.array(quality["ssim_map"], float)
    columns, shape = min(2, 1 + len(maps)), frame.shape[0] / frame.shape[1]
    rows = -(-(1 + len(maps)) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.4 * columns, (5.0 * shape + 0.4) * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    axes.flat[0].imshow(frame)
    axes.flat[0].set_title("first frame", fontsize=9)
    for axis, (title, values) in zip(axes.flat[1:], maps.items(), strict=False):
        least = 8.0 if "QP" in title else 0.0  # a nearly flat map of QPs looks nearly flat
        finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
        middle, half = (finite.min() + finite.max()) / 2, max(least, finite.max() - finite.min()) / 2
        axis.set_title(title, fontsize=9)
        scale = draw_qp(axis, frame, values, bounds=(middle - half, middle + half))
        scale.set_cmap("viridis_r" if "QP" in title else "viridis")  # yellow is better, in all of them
        figure.colorbar(scale, ax=axis, shrink=0.8)
    save_figure(figure, path)
