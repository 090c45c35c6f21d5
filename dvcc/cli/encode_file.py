"""`dvcc encode VIDEO OUT`: one video to a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dvcc._words import counted
from dvcc.cli import objects, reading, targets
from dvcc.cli.closing import closing, missed_rate, missed_size, say, say_decided
from dvcc.codecs import VIDEO_CODECS
from dvcc.errors import ConfigError
from dvcc.units import gop_of_a_second

if TYPE_CHECKING:
    from dvcc.control.deployed.runtime import Control
    from dvcc.encoding.size import SizePlan
    from dvcc.media.source import VideoSource
    from dvcc.rate_control.objects import Objects


def encode_file(arguments: argparse.Namespace, controller: str, control_of: Callable[[], Control | Objects | None]) -> str:
    """Code one video as the words say; notes go to stderr. Returns the closing line, "" for a dry run.

    control_of: returns what decides: asked once the words and the video are known to be good.
    """
    from dvcc.media.probe import open_video

    VIDEO_CODECS[arguments.codec](arguments.preset)  # raises for an unknown preset

    if arguments.input_format or arguments.clock:
        word = "--input-format" if arguments.input_format else "--clock"
        raise ConfigError(f"{word} is for --live: leave it out for a file")
    twice = "a file is read twice, and {} cannot be: add --live for one pass"
    if arguments.video == "-":
        raise ConfigError(twice.format("stdin"))
    if "://" in arguments.video:
        raise ConfigError(f"{twice.format(arguments.video)}, or a / at the end of a folder's address")
    source = open_video(arguments.video, stream=arguments.stream, fps=arguments.fps)
    look = None if arguments.target_size is None else _sized(arguments, source)
    target_kbps = targets.target_kbps(arguments) if look is None else look.kbps
    gop = arguments.gop if arguments.gop is not None else gop_of_a_second(source.picture.fps)

    from dvcc.control.deployed.runtime import Control
    from dvcc.encoding.file import encode_video  # onnxruntime: only once the words and the video are known to be good
    from dvcc.encoding.plan import EncodePlan
    from dvcc.encoding.presets import default_threads, obedient_codec
    from dvcc.encoding.report import EncodeReport, progress_bar
    from dvcc.encoding.size import encode_to_size
    from dvcc.rate_control.abr import AverageBitrate
    from dvcc.rate_control.analysed import AnalysedControl
    from dvcc.rate_control.constant import ConstantQuality
    from dvcc.rate_control.learned import LearnedMap

    control, beside = control_of(), reading.objects_beside(arguments)
    threads = arguments.threads or default_threads(arguments.codec)
    codec = obedient_codec(arguments.codec, arguments.preset, arguments.delivery, gop=gop, threads=threads)
    rate_controller: AverageBitrate | AnalysedControl | ConstantQuality | LearnedMap = AverageBitrate(codec, control=control)
    if arguments.crf is not None and not isinstance(control, Control):
        rate_controller = ConstantQuality(codec, arguments.crf, control)
    if arguments.delivery == "map" and isinstance(control, Control):
        rate_controller = LearnedMap(control, codec, beside, corrected=True)
    elif isinstance(control, Control) and control.analysis:
        rate_controller = AnalysedControl(control, codec, objects=beside)
    plan = EncodePlan(source, Path(arguments.out), target_kbps, rate_controller)
    report = EncodeReport(plan, Path(arguments.report)) if arguments.report and not arguments.dry_run else None
    print(plan, file=sys.stderr)
    say(outside_rates(control, target_kbps, source), "")
    if arguments.dry_run:
        return ""
    with progress_bar(source) as progress:
        encode = partial(encode_video, progress=progress, look=report.look if report else None)
        result = encode(plan) if look is None else encode_to_size(look, plan, encode)
    if report:
        report.write(result)
    say_decided(result.decided)
    missed = [] if arguments.crf is not None else missed_rate(target_kbps, result.stats)
    missed = missed if look is None else missed_size(look.size, plan.out)
    say((*result.damage.corrections.sentences(), *missed), result.damage)  # the plan has told the others
    asked = f"of {target_kbps:g} asked" if look is None else f"of about {target_kbps:.0f} asked"
    asked = asked if arguments.crf is None else f"at CRF {arguments.crf:g}"
    passes = f"{counted(result.num_encodes, 'encode')} in {result.elapsed_seconds:.1f} s"
    return f"{closing(arguments.out, result.stats, asked)} {passes}"


def load_control_of(arguments: argparse.Namespace, controller: str, checkpoint: Path | None) -> Control | Objects | None:
    """Return what decides, loaded."""
    if controller == "objects":
        from dvcc.rate_control.objects import load_objects

        return load_objects(**objects.options(arguments))
    if checkpoint is None:
        return None
    from dvcc.control.deployed.runtime import load_control

    control = load_control(checkpoint)
    if arguments.model is not None:
        reading.let_read(control, arguments)
    return control


def _sized(arguments: argparse.Namespace, source: VideoSource) -> SizePlan:
    from dvcc.encoding.size import SizePlan, size_of
    from dvcc.media.output import check_output

    size = size_of(arguments.target_size)
    check_output(Path(arguments.out), source.path)
    return SizePlan.look(size, source, Path(arguments.out))


def outside_rates(control: object, target_kbps: float, source: VideoSource) -> list[str]:
    """Return a note where a control was trained at other rates."""
    from dvcc.control.deployed import stream

    picture = source.picture
    return stream.outside_rates(control, target_kbps, fps=picture.fps, height=picture.height, width=picture.width)
