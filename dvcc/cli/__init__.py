"""The `dvcc` program. A command is one file and one line here."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from dvcc import __version__
from dvcc._guard import guarded
from dvcc.cli import limits, stages

_COMMANDS = ("compare", "completion", "encode", "export", "inspect", "zoo")


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse words; name a mistyped option before argparse can complain of the one that is missing for it."""
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        for word in takewhile(lambda word: self._subparsers is None or word.startswith("-"), args or ()):
            name = word.partition("=")[0]
            if name.startswith("--") and name != "--" and not any(option.startswith(name) for option in options):
                self.error(f"there is no option {name}{_meant(name.replace('_', '-'), options)}")
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            name = "/".join(action.option_strings) or action.metavar or action.dest
            self.error(f"{name} is no {value!r}{_meant(str(value), known)}; choose {', '.join(known)}")

    def error(self, message: str) -> NoReturn:
        """One sentence instead of argparse's usage block."""
        self.exit(2, f"error: {message}; {self.prog} --help shows what there is\n")


def _meant(word: str, known: list[str]) -> str:
    """Return ": did you mean .." for the nearest known word; "" where none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {near[0]}?" if near else ""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the words that `dvcc` understands; of one `command` alone if it is named: the others need not be imported."""
    parser = _Parser(prog="dvcc", description="Learned control of standard video codecs for vision models.")
    parser.add_argument("--version", action="version", version=f"dvcc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in (command,) if command in _COMMANDS else _COMMANDS:
        importlib.import_module(f"dvcc.cli.{name}").add_parser(commands)
    stages.add_parsers(commands)
    return parser


def _path_or_option(word: str) -> str:
    """Take a name that begins with one dash, as cameras give to files, for no option: "-cam.mp4" is "./-cam.mp4"."""
    if not word.startswith("-") or word.startswith("--") or word in ("-", "-h"):
        return word
    number = word.lstrip("-").replace(".", "", 1).isdigit()
    return f"./{word}" if os.path.exists(word) or ("." in word and not number) else word


def _end_like_ctrl_c() -> None:
    """Have `KeyboardInterrupt` raised for what ends a program from outside, as a service manager or a closed terminal.

    Nothing half-written is left behind then, and a live stream is finished.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, signal.default_int_handler)


def main(words: Sequence[str] | None = None) -> int:
    """Run `dvcc`; returns the exit status (0, or 2 after one sentence about what to correct)."""
    words = [_path_or_option(word) for word in (sys.argv[1:] if words is None else words)]
    _end_like_ctrl_c()
    if words and words[0] in stages.PROGRAMS:
        return stages.run_stage(words[0], words[1:])
    # before torch reads it: threads that wait by spinning take the cores from whatever else runs, and then wait for it
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = build_parser(words[0] if words else None).parse_args(words)
    return guarded(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    with limits.applied(arguments):
        arguments.run(arguments)
