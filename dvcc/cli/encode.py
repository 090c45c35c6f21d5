"""`dvcc encode`: whole videos, or a stream, under the rule of objects or a trained control."""

from __future__ import annotations

import argparse
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dvcc._files import replaced
from dvcc._words import counted
from dvcc.cli import limits, objects, reading, targets
from dvcc.cli.closing import closing, missed_rate, say, say_decided
from dvcc.cli.encode_file import encode_file, load_control_of, outside_rates
from dvcc.codecs import VIDEO_CODECS, VideoCodec
from dvcc.errors import ConfigError
from dvcc.networks.sources import control_path, published_controls
from dvcc.qp import Delivery
from dvcc.units import LONGEST_GOP

_CONTROLLERS = ("objects", "learned", "abr")
_ENGINES = ("processes", "ray")  # named here, for to import them takes longer than to read all words; a test compares

if TYPE_CHECKING:
    from dvcc.media.source import VideoSource


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the words of `dvcc encode`."""
    parser = commands.add_parser("encode", help="code a video so that a vision network on the other side sees the most")
    parser.add_argument("video", help="a video file of any length, or a folder of them, or its address that ends in /")
    parser.add_argument(
        "out",
        help="the coded file: .mp4, .mov, .mkv or .ts; .ts, .mp4 or - (stdout) with --live; of a folder, another folder, or the "
        "address of one, as s3://bucket/coded (by fsspec)",
    )
    targets.add_words(parser)
    parser.add_argument(
        "--task",
        metavar="TASK",
        help=f"what the video is for, unless --checkpoint says it: {', '.join(published_controls())}",
    )
    parser.add_argument(
        "--controller",
        choices=_CONTROLLERS,
        help="learned, the default: a trained control, which sees what x264's own encode has lost; objects, the default for "
        "detection with --live, --crf, x265 or one of its options, and much faster: bits go to where a small detector sees "
        "objects; abr: the encoder's own decisions",
    )
    objects.add_words(parser)
    reading.add_words(parser)
    parser.add_argument(
        "--delivery",
        choices=get_args(Delivery),
        default="offsets",
        help="offsets, the default: on top of the encoder's two passes; map: every QP is given, after an analysis encode",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a control that you trained, instead of --task; with --task and --model, that network reads for it",
    )
    parser.add_argument("--codec", choices=list(VIDEO_CODECS), default="x264", help="H.264, the default, or HEVC (offsets only)")
    parser.add_argument("--preset", metavar="NAME", default="medium", help="preset of the encoder (default: medium)")
    parser.add_argument("--gop", metavar="N", type=int, help="frames from one I frame to the next (default: one second)")
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="frame threads (default: x264 1.5 per core, at most 16, or 4 with --live; x265 0.5 per core, at most 4; 1 for each "
        "video of a folder)",
    )
    parser.add_argument(
        "--fps", metavar="N", type=frame_rate, help="frames per second, in place of time stamps that are missing or wrong"
    )
    parser.add_argument("--stream", metavar="N", type=int, help="which stream of the file to code, where several are video")
    parser.add_argument("--report", metavar="DIR", help="folder for pictures: maps over frames, and the bitrate by second")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--engine",
        choices=_ENGINES,
        help="of a folder: what codes its videos side by side: processes, the default, or ray, on the cluster of RAY_ADDRESS",
    )
    parser.add_argument("--workers", metavar="N", type=int, help="of a folder: videos at once (default: one per core)")
    parser.add_argument("--live", action="store_true", help="code a stream in one pass: from stdin (-), a device or a URL")
    parser.add_argument(
        "--input-format", metavar="F", help="with --live: FFmpeg's name of the input's format, as v4l2 for a camera"
    )
    parser.add_argument(
        "--clock",
        action="store_true",
        help="with --live, for streams without time stamps: a picture's time is when it arrives",
    )
    limits.add_words(parser)
    parser.set_defaults(run=run)


def frame_rate(word: str) -> Fraction:
    """Return the rate that a word as 25, 29.97 or 30000/1001 says. Raises `ValueError`, which argparse expects, for another."""
    try:
        fps = Fraction(word)
    except ZeroDivisionError:
        fps = Fraction(0)
    if not 0 < fps <= 1000:
        raise ValueError(f"{word} is no frame rate: give a number up to 1000")
    return fps.limit_denominator(100_000)


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    controller = _controller(arguments)
    checkpoint = None
    if controller == "learned":
        by_task = arguments.model is None
        checkpoint = control_path(arguments.task, arguments.checkpoint) if by_task else reading.checkpoint_of(arguments)
    targets.check(arguments, controller)
    most_threads = VIDEO_CODECS[arguments.codec].most_threads
    for word, value, most in (("gop", arguments.gop, LONGEST_GOP), ("threads", arguments.threads, most_threads)):
        if value is not None and not 1 <= value <= most:
            raise ConfigError(f"--{word} goes from 1 to {most}, got {value}")
    if arguments.live:
        if arguments.engine is not None or arguments.workers is not None:
            raise ConfigError("--engine and --workers are for a folder of videos: leave them out with --live")
        _live(arguments, controller, checkpoint)
    elif _is_of_a_folder(arguments.video, arguments.out):
        from dvcc.cli.encode_folder import encode_folder  # and all that it takes to start processes

        encode_folder(arguments, controller, checkpoint)
    else:
        if arguments.engine is not None or arguments.workers is not None:
            raise ConfigError(f"--engine and --workers are for a folder of videos, and {arguments.video} is none: leave them out")
        if closing_line := encode_file(arguments, controller, lambda: load_control_of(arguments, controller, checkpoint)):
            print(closing_line)


def _is_of_a_folder(video: str, out: str) -> bool:
    """Whether a folder of videos is meant: a path of one, an address that ends in a slash, or what goes to an address."""
    return os.path.isdir(video) or ("://" in video and video.endswith("/")) or "://" in out


def _controller(arguments: argparse.Namespace) -> str:
    """Which one was chosen, or is the default for what else was said. Raises `ConfigError` for words that do not go together."""
    chosen = arguments.controller
    if chosen is None:
        # A control that reads an encode takes no stream and no rate factor; on x265 only the rule was measured.
        once = arguments.live or arguments.crf is not None or arguments.codec != "x264"
        published = arguments.task == "detection" and not (arguments.checkpoint or arguments.model)
        by_rule = published and once and arguments.delivery == "offsets"
        chosen = "objects" if by_rule or (objects.given(arguments) and not arguments.model) else "learned"
    if chosen != "learned":
        if arguments.checkpoint is not None:
            raise ConfigError(
                f"--checkpoint is a trained control, and --controller {chosen} takes none: leave one of the two out"
            )
        if arguments.delivery != "offsets":
            said = objects.given(arguments) if arguments.controller is None else []
            why = f"{chosen}, which --{said[0].replace('_', '-')} is of" if said else chosen
            raise ConfigError(f"--delivery map is for --controller learned, not for {why}: leave it out")
    if chosen == "objects" and arguments.task not in (None, "detection"):
        raise ConfigError(f"--controller objects is for detection, not for {arguments.task}: choose learned or abr")
    objects.check(arguments, chosen, beside=arguments.model is not None)
    reading.check(arguments, chosen)
    return str(chosen)


def _live(arguments: argparse.Namespace, controller: str, checkpoint: Path | None) -> None:
    from dvcc.media.output import check_output

    if arguments.delivery != "offsets":
        raise ConfigError("--delivery map needs an analysis encode, and a stream is coded in one pass: leave it out with --live")
    if arguments.report or arguments.dry_run or arguments.stream is not None:
        raise ConfigError("--report, --dry-run and --stream are for files: leave them out with --live")
    if arguments.target_size is not None:
        raise ConfigError("--target-size is for files: a stream has no end that is known, so give --target-kbps with --live")
    if arguments.crf is not None:
        raise ConfigError("--crf is for files: a stream has a channel, so give --target-kbps with --live")
    if arguments.clock and arguments.fps is not None:
        raise ConfigError("--clock and --fps both say the time of a picture: leave one of the two out")
    if arguments.out != "-":
        check_output(Path(arguments.out), Path(arguments.video), suffixes=(".mp4", ".ts"))

    from dvcc.encoding.live import encode_live
    from dvcc.encoding.target import WrittenTarget, target_of

    target = target_of(arguments.target_kbps)
    control = load_control_of(arguments, controller, checkpoint)
    if getattr(control, "analysis", False):
        raise ConfigError(
            "this control sees an encode of the whole video first, and a stream is coded once: choose --controller objects or "
            "abr, or another --checkpoint"
        )

    def begun(source: VideoSource, codec: VideoCodec) -> None:
        print(f"live     {source}, GOP {codec.gop}; Ctrl-C ends it", file=sys.stderr)
        say(replaced(Path(arguments.out)) if arguments.out != "-" else [], "")
        say(outside_rates(control, target.target_kbps, source), "")

    result = encode_live(
        arguments.video,
        Path(arguments.out),
        target_kbps=target if isinstance(target, WrittenTarget) else target.target_kbps,
        control=control,
        codec=arguments.codec,
        preset=arguments.preset,
        gop=arguments.gop,
        threads=arguments.threads,
        form=arguments.input_format,
        fps=arguments.fps,
        clock=arguments.clock,
        begun=begun,
    )
    say_decided(result.decided)
    missed = missed_rate(result.target_kbps, result.stats, buffered=True)
    say((*result.notes, *result.damage.corrections.sentences(), *missed), result.damage)
    line = f"{result.elapsed_seconds:.1f} s, at most {counted(result.stats.most_delay, 'frame')} behind"
    asked = f"of {result.target_kbps:g} asked"
    if result.num_targets > 1:
        asked = f"of {result.target_kbps:.0f} on average of {result.num_targets} targets asked"
    print(closing(arguments.out, result.stats, asked), line, file=sys.stderr if arguments.out == "-" else sys.stdout)
