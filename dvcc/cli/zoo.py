"""`dvcc zoo`: the networks that can judge, and whether their weights are on this machine."""

from __future__ import annotations

import argparse
import json


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the words of `dvcc zoo`."""
    parser = commands.add_parser("zoo", help="the networks that can judge, and whether their weights are on this machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Do what they say."""
    from dvcc.networks.zoo import DEFAULTS, PAPER

    entries = (*DEFAULTS, *PAPER)
    local_files = [entry.weights.local_path() for entry in entries]
    if arguments.json:
        rows = [
            {
                "name": entry.name,
                "task": entry.task,
                "source": entry.source,
                "identifier": entry.identifier,
                "label": entry.label,
                "protocol": str(entry.protocol),
                "present": path is not None,
                "weights": str(path or entry.weights.path),
                "note": entry.note,
                "remedy": "" if path else entry.weights.remedy,
            }
            for entry, path in zip(entries, local_files, strict=True)
        ]
        print(json.dumps(rows))
        return
    table = [["name", "in the paper", "task", "source", "input", "weights"]]
    for entry, path in zip(entries, local_files, strict=True):
        state = "present" if path else "missing"
        table.append([entry.name, entry.label or "-", entry.task, entry.source, str(entry.protocol), state])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print("in the paper: its labels and its identifiers disagree in places ('ResNet-18' beside resnet50); the identifier rules")
    print("missing weights are downloaded when they are needed; dvcc zoo --json says which file to put where without a network")
