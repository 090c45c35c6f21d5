"""The `dvcc` program. A command is one file and one line here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

from dvcc._commands import guarded
from dvcc.cli import compare, encode, export, inspect, zoo

_COMMANDS = (compare, encode, export, inspect, zoo)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence instead of argparse's usage block."""
        self.exit(2, f"error: {message}; {self.prog} --help shows what there is\n")


def build_parser() -> argparse.ArgumentParser:
    """The words that `dvcc` understands."""
    parser = _Parser(prog="dvcc", description="Learned control of standard video codecs for vision models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run `dvcc`; returns the exit status (0, or 2 after one sentence about what to mend)."""
    # before torch reads it: threads that wait by spinning take the cores from whatever else runs, and then wait for it
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = build_parser().parse_args(words)
    return guarded(lambda: arguments.run(arguments))
