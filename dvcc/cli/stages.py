"""`dvcc train STAGE` and `dvcc evaluate STAGE`: `key=value` words become the settings of a stage, and its module is run."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from dvcc._guard import guarded
from dvcc._packaged import require

PROGRAMS = {
    "train": "surrogate | control | student | flow: train one of them",
    "evaluate": "control | surrogate | benchmark: measure on real encodes",
}


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Name both in `dvcc --help`; their words are not argparse's."""
    for program, what in PROGRAMS.items():
        commands.add_parser(program, help=what)


def run_stage(program: str, words: Sequence[str]) -> int:
    """Parse `words`, then import the module of their stage and call its `run(config)`; print the path it returns.

    program: "train" or "evaluate". Returns the exit status, as `guarded` has it.
    """

    def run() -> None:
        require("torch", "lightning", "hydra", "kornia", wanted_by=f"dvcc {program}")
        from dvcc.config import parse as configs

        if any(word in ("-h", "--help") for word in words):
            print(configs.help_text(program))
            return
        stage, config = configs.parse(program, words)  # before torch: a typo fails at once
        print(importlib.import_module(configs.MODULES[program, stage]).run(config))

    return guarded(run)
