"""How much `dvcc encode` may spend: a bitrate, a size, or a quality with or without a cap."""

from __future__ import annotations

import argparse

from dvcc.errors import ConfigError
from dvcc.qp import MAX_QP


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser."""
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--target-kbps",
        metavar="KBPS",
        help="average bitrate of the video stream, kbit/s; with --live also a file or FIFO that says it, read while it runs",
    )
    target.add_argument(
        "--target-size", metavar="SIZE", help="of the whole file, as 20MB, instead of a bitrate: with its audio and its container"
    )
    target.add_argument(
        "--crf",
        metavar="N",
        type=float,
        help="constant quality in one pass, 0 (best) to 51, instead of a bitrate; for objects and abr",
    )
    parser.add_argument("--max-kbps", metavar="KBPS", type=float, help="with --crf: the most that is spent in any second, kbit/s")


def check(arguments: argparse.Namespace, controller: str) -> None:
    """Raise `ConfigError` where they do not go with the controller, or with one another."""
    if arguments.max_kbps is not None and arguments.crf is None:
        raise ConfigError("--max-kbps is for --crf: leave it out, or give --crf instead of --target-kbps")
    if arguments.crf is not None and controller == "learned":
        raise ConfigError("--crf is for --controller objects and abr: a trained control is told a bitrate, so give --target-kbps")
    if arguments.crf is not None and controller == "objects" and 0 <= arguments.crf < 1:
        raise ConfigError(f"--crf goes from 1 to {MAX_QP} for objects, got {arguments.crf:g}: below, x264 codes without loss")


def target_kbps(arguments: argparse.Namespace) -> float:
    """Return what is asked for, kbit/s: on average, or with a rate factor at most. Raises `ConfigError` out of range."""
    if arguments.crf is None:
        return _number(arguments.target_kbps)
    if not 0 <= arguments.crf <= MAX_QP:
        raise ConfigError(f"--crf goes from 0 to {MAX_QP}, got {arguments.crf:g}")
    if arguments.max_kbps is not None and not 0 < arguments.max_kbps < float("inf"):
        raise ConfigError(f"--max-kbps must be positive, got {arguments.max_kbps:g}")
    return float("inf") if arguments.max_kbps is None else arguments.max_kbps


def _number(word: str) -> float:
    """Return a bitrate. Raises `ConfigError` for what is none."""
    try:
        kbps = float(word)
    except ValueError as error:
        raise ConfigError(f"--target-kbps {word} is no number: only --live reads a target from a file") from error
    if not 0 < kbps < float("inf"):
        raise ConfigError(f"--target-kbps must be positive, got {word}")
    return kbps
