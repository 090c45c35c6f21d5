"""`dvcc completion`: print a script with which bash completes commands, options, stages and keys on the tab key."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator

_SCRIPT = """\
_dvcc() {{
    local line=${{COMP_LINE:0:COMP_POINT}} known word reply
    local -a words
    word=${{line##* }}
    read -ra words <<< "$line"
    case "${{words[1]}} ${{words[2]}}" in
{cases}
    *) known="{commands}" ;;
    esac
    COMPREPLY=()
    case "$known" in *--*) case "$word" in -*) ;; *) return ;; esac ;; esac  # a word without a dash is a file
    for reply in $(compgen -W "$known" -- "$word"); do
        case "$reply" in *=) compopt -o nospace 2> /dev/null ;; esac
        case "$word" in *=*) reply=${{reply#*=}} ;; esac  # what stands before = is a word of its own in bash
        COMPREPLY+=("$reply")
    done
}}
complete -o default -o bashdefault -F _dvcc dvcc
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the words of `dvcc completion`."""
    parser = commands.add_parser("completion", help='complete words in bash: put eval "$(dvcc completion)" into ~/.bashrc')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the script."""
    from dvcc.cli import build_parser

    parsers = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)).choices
    cases = [f'    {pattern}) known="{" ".join(words)}" ;;' for pattern, words in _stages()]
    for name, parser in parsers.items():
        words = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
        if name not in ("train", "evaluate"):
            cases.append(f'    "{name} "*) known="{" ".join(words)}" ;;')
    print(_SCRIPT.format(cases="\n".join(cases), commands=" ".join(parsers)), end="")


def _stages() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of every stage as (pattern of bash, words); nothing where the extra for training is not installed."""
    if importlib.util.find_spec("hydra") is None:
        return
    from dvcc.config.describe import GROUPS, choices, flat_settings
    from dvcc.config.parse import COMMANDS

    for program, stages in COMMANDS.items():
        for stage, schema in stages.items():
            groups = [f"{group}={name}" for group in GROUPS[program, stage] for name in choices(program, stage, group)]
            yield f'"{program} {stage}"', [*groups, *(f"{key}=" for key, _ in flat_settings(schema))]
        yield f'"{program} "*', [*stages]
