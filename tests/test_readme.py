"""The README's commands are real: its Python and its `dvcc` lines run; its stages parse, and other tests run them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dvcc import CRF, X264, QPMap, read_clip
from dvcc.cli import build_parser, main
from dvcc.config.parse import COMMANDS, parse
from dvcc.networks.sources import CHECKPOINTS, control_path
from tests.conftest import make_scene

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EVALUATED = (
    "targets_kbps",
    "targets_bpp",
    "rate_factors",
    "judged_every",
    "workers",
    "controllers",
    "extra_checkpoints",
    "scenario",
)
BENCHMARKED = ("codec=", "pixel_format", "levels", "networks", "weights", "protocol", "audit_level=", "lose_at_most", "skip_bad")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell_lines(program: str) -> list[list[str]]:
    lines = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(program)]


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    for name in ("video.mp4", "coded.mp4"):
        (tmp_path / name).write_bytes(X264().encode(make_scene(frames=24), CRF(20)).bitstream)
    (tmp_path / "checkpoints").symlink_to(CHECKPOINTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example_runs(workplace):
    QPMap.uniform(30, like=read_clip("video.mp4")).save("video.npz")
    names: dict[str, object] = {}
    for example in blocks("python"):
        exec(compile(example, "README.md", "exec"), names)


def test_every_dvcc_line_runs(workplace, capsys):
    lines = shell_lines("dvcc ")
    piped = [line.partition("| ")[2] for block in blocks("sh") for line in block.splitlines() if "| dvcc" in line]
    lines += [shlex.split(line) for line in piped]
    assert {line[1] for line in lines} == {"compare", "encode", "export", "inspect", "zoo"}
    for line in lines:
        if "--live" in line:  # there is no camera here
            words = build_parser().parse_args(line[1:])
            assert control_path(words.task, words.checkpoint).is_file()
            continue
        assert main(line[1:]) == 0, line
    assert (workplace / "video.npz").exists() and (workplace / "heat.png").exists()


def test_every_stage_is_shown_and_parses():
    shown = {(line[1].removesuffix(".py"), line[2]) for line in shell_lines("python ")}
    assert shown == {(program, stage) for program, stages in COMMANDS.items() for stage in stages}
    for line in shell_lines("python "):
        parse(line[1].removesuffix(".py"), line[2:])


def test_the_commands_that_made_the_checkpoints_parse_as_a_shell_reads_them():
    commands = re.findall(r"`python (train\.py [^`]+)`", (ROOT / "checkpoints/README.md").read_text())
    assert {shlex.split(command)[1] for command in commands} == {"student", "flow", "surrogate", "control"}
    for command in commands:
        program, *words = shlex.split(command)
        parse(program.removesuffix(".py"), words)


def test_every_key_in_the_table_exists():
    table = "\n".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))
    words = [
        word for code in re.findall(r"`([^`]*=[^`]*)`", table) for word in re.split(r"[ ,](?![^\[{]*[\]}])", code) if "=" in word
    ]
    of_benchmark = [word for word in words if word.startswith(BENCHMARKED)]
    assert len(of_benchmark) > 8
    for word in of_benchmark:
        parse("evaluate", ["benchmark", "data.root=x", word])
    words = [word for word in words if word not in of_benchmark]
    assert len(words) > 12
    trainable = [word.replace("=NAME", "=medium").replace("=N", "=3") for word in words if not word.startswith(EVALUATED)]
    for word in trainable:
        if word.startswith(("task", "rates_per_clip", "control.")):
            parse("train", ["control", word])
        elif word.startswith("surrogate"):
            parse("train", ["surrogate", word])
        elif word.startswith("data="):
            parse("train", ["surrogate", word, "data.root=x"])
        else:
            parse("train", ["surrogate", word])
    parse("evaluate", ["control", *[word for word in words if word.startswith(EVALUATED)]])


def test_make_demo_runs_the_three_commands_of_the_readme():
    makefile = (ROOT / "Makefile").read_text()
    for command in ("train.py surrogate", "train.py control task=segmentation", "evaluate.py control task=segmentation"):
        assert command in makefile and f"python {command}" in README
