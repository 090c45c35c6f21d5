"""The words of a control for one's own network, which reads x264's own encode: `dvcc encode --task TASK --model MINE`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvcc._packaged import require
from dvcc.cli import objects
from dvcc.errors import ConfigError
from dvcc.networks.sources import CHECKPOINTS

if TYPE_CHECKING:
    from dvcc.control.analysis import Reader
    from dvcc.control.deployed.runtime import Control
    from dvcc.rate_control.objects import Objects


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add them to a command's parser."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        help="with --task: the network that will look, a name of dvcc zoo, an ONNX file or module:function. It reads x264's own "
        "encode, and bits go to where it has lost most there (a detector in an ONNX file needs no torch). Said again: several, "
        "for one that nobody knows yet",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights for --model, in place of its published ones")


def check(arguments: argparse.Namespace, controller: str) -> None:
    """Raise `ConfigError` where they do not go with the controller, or with one another."""
    if arguments.weights is not None and arguments.model is None:
        raise ConfigError("--weights are those of --model: give both or neither")
    if arguments.model is None:
        return
    if arguments.weights is not None and len(arguments.model) > 1:
        raise ConfigError(f"--weights are those of one network, and --model names {len(arguments.model)}: leave --weights out")
    if controller != "learned":
        raise ConfigError(f"--model reads encodes for --controller learned, and this is {controller}: leave one of the two out")
    if arguments.task is None:
        raise ConfigError(f"--model {arguments.model[0]} needs --task, which says what it answers: detection, segmentation, ..")


def checkpoint_of(arguments: argparse.Namespace) -> Path:
    """Return the control: one that was given, or the ten published numbers, which were trained for segmentation."""
    return Path(arguments.checkpoint) if arguments.checkpoint else CHECKPOINTS / "control_segmentation.onnx"


def let_read(control: Control, arguments: argparse.Namespace) -> None:
    """Let `--model` read the encodes for a control. Raises `ConfigError` for one that sees none, or a wrong word."""
    if not control.analysis:
        raise ConfigError("--model reads x264's own encode, and this control sees none: leave --checkpoint or --model out")
    control.reader = reader_of(arguments.task, arguments.model, arguments.weights)


def reader_of(task: str, models: Sequence[str], weights: str | None) -> Reader:
    """Return who reads encodes, a network or several. Raises `ConfigError` and `CheckpointError` as the networks do."""
    from dvcc.control.deployed.reader import reading

    return reading([_reader(task, model, weights) for model in models])


def _reader(task: str, model: str, weights: str | None) -> Reader:
    """Return what asks one network: onnxruntime where it is a detector's ONNX file, else its task."""
    from dvcc.networks.onnx_file import is_onnx
    from dvcc.networks.zoo import ZOO

    entry = ZOO.get(("detection", model))
    if task == "detection" and (is_onnx(model) or (entry is not None and entry.is_onnx)):
        from dvcc.control.deployed.reader import DetectorReader
        from dvcc.networks.detectors import load_detector

        return DetectorReader(load_detector(weights or model, threads=1))
    require("torch", "kornia", wanted_by=f"--model {model}")
    from dvcc.rate_control.task_reader import TaskReader
    from dvcc.tasks import build_task

    return TaskReader(build_task(task, model=model, weights=weights).eval(), model)


def objects_beside(arguments: argparse.Namespace) -> Objects | None:
    """Return the rule whose offsets are added to those of the control for `--model`; None without `--detector`."""
    if arguments.model is None or arguments.detector is None:
        return None
    from dvcc.rate_control.objects import load_objects

    return load_objects(**objects.options(arguments))
