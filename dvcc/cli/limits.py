"""Limits on what a command takes and how long it works, for services that are given the videos of strangers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from dvcc.errors import ConfigError, TimeLimitError
from dvcc.media.container import LIMITS

_GRACE = 10.0  # seconds for what is in FFmpeg or a network to come back, before the process is ended from outside of it


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add the limits of every command that reads a video."""
    parser.add_argument("--max-pixels", metavar="N", type=int, help="refuse pictures of more pixels (default: no limit)")
    parser.add_argument("--max-seconds", metavar="SECONDS", type=float, help="refuse longer videos (default: no limit)")
    parser.add_argument("--time-limit", metavar="SECONDS", type=float, help="give up after so long (default: no limit)")


@contextmanager
def applied(arguments: argparse.Namespace) -> Iterator[None]:
    """Hold a command to its limits, if it has any. Raises `ConfigError` for one that is no positive number."""
    given = {name: getattr(arguments, name, None) for name in ("max_pixels", "max_seconds", "time_limit")}
    for name, value in given.items():
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{name.replace('_', '-')} must be positive, got {value:g}")
    LIMITS.max_pixels, LIMITS.max_seconds = given["max_pixels"], given["max_seconds"]
    try:
        with _time_limit(given["time_limit"]):
            yield
    finally:
        LIMITS.max_pixels = LIMITS.max_seconds = None


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `TimeLimitError` in the block after so many seconds; where it does not come back, end the process."""
    if seconds is None:
        yield
        return
    sentence = f"not done within {seconds:g} s: give more with --time-limit, or less to do"

    def give_up(*_: object) -> NoReturn:
        raise TimeLimitError(sentence)

    def end() -> None:
        os.write(sys.stderr.fileno(), f"error: {sentence}\n".encode())
        os._exit(2)

    last = threading.Timer(seconds + _GRACE, end)
    last.daemon = True
    before = signal.signal(signal.SIGALRM, give_up)
    try:
        last.start()
        signal.setitimer(signal.ITIMER_REAL, seconds)  # from here on it may be over at any moment, on the way out, too
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            last.cancel()
            signal.signal(signal.SIGALRM, before)
