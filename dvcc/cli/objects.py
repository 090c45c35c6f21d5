"""The words of the rule of objects, the same for `dvcc encode`, `compare` and `export`."""

from __future__ import annotations

import argparse
from typing import Any

from dvcc.errors import ConfigError

WORDS = ("detector", "layout", "classes", "strength", "zones", "max_background_offset", "look_every")


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add them to a command's parser."""
    parser.add_argument(
        "--detector",
        metavar="FILE",
        help="of objects: the network that looks, an ONNX file or a name of dvcc zoo (default: nanodet_plus); with --model its "
        "offsets are added to the control's",
    )
    parser.add_argument("--layout", metavar="NAME", help="of --detector: that of its answers, where they fit several")
    parser.add_argument(
        "--look-every",
        metavar="N",
        type=int,
        help="of objects: frames from one look to the next; 1 takes longer and saves more (default: 12, above 640x360 8)",
    )
    parser.add_argument(
        "--classes",
        metavar="A,B",
        help="of objects: which count, by COCO's names, as person,car, or by numbers where --detector has others (default: all)",
    )
    parser.add_argument(
        "--strength",
        metavar="QPS",
        type=float,
        help="of objects: QPs from the background to a sure object, 0 to 40 (default: 16; with --detector 20)",
    )
    parser.add_argument(
        "--zones",
        metavar="PNG",
        help="of objects: a picture of the video's shape, white where all counts, black where nothing does, grey elsewhere",
    )
    parser.add_argument(
        "--max-background-offset",
        metavar="QPS",
        type=int,
        help="of objects: largest offset of the background, so that a person can still view it, 0 to 40 (default: 10)",
    )


def given(arguments: argparse.Namespace) -> list[str]:
    """Which of them were said."""
    return [word for word in WORDS if getattr(arguments, word) is not None]


def check(arguments: argparse.Namespace, controller: str, *, beside: bool = False) -> None:
    """Raise `ConfigError` where they do not go with the controller, or with one another.

    beside: whether their offsets can be added to those of a control.
    """
    said = [word.replace("_", "-") for word in given(arguments)]
    if beside:
        if said and arguments.detector is None:
            raise ConfigError(f"--{said[0]} is of --detector, which looks beside --model: give both or neither")
    elif said and controller != "objects":
        raise ConfigError(f"--{said[0]} is for --controller objects, and this is {controller}: leave it out")
    if arguments.layout is not None and arguments.detector is None:
        raise ConfigError("--layout is of the answers of --detector: give both or neither")


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was said, as `load_objects` takes it."""
    words = {word: getattr(arguments, word) for word in given(arguments)}
    if "classes" in words:
        words["classes"] = [name.strip() for name in words["classes"].split(",")]
    return words
