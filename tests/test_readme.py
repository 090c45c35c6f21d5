"""The README and the pages of docs/: their Python and `dvcc` lines run, their stages parse, and figures stand in one place."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from dvcc import CRF, X264, QPMap, read_clip
from dvcc.cli import build_parser, main
from dvcc.config.describe import GROUPS, flat_settings
from dvcc.config.parse import COMMANDS, parse
from dvcc.networks.sources import CHECKPOINTS, control_path
from tests.conftest import make_scene

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
RUN_ELSEWHERE = {"recipes.md": "test_recipes", "own-network.md": "test_own_task"}
"""Pages whose Python is files, and the tests that run these."""
MOST_WORDS = 1000


def blocks(page: str, *languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", page, re.DOTALL)


def shell_lines(program: str) -> list[list[str]]:
    """Different commands of all pages, as a shell reads them; what is piped into them is left out."""
    lines = [line for page in PAGES.values() for block in blocks(page, "sh", "bash") for line in block.splitlines()]
    commands = [line.partition("#")[0].rpartition("| ")[2].strip(" &") for line in lines]
    return [shlex.split(line) for line in dict.fromkeys(commands) if line.startswith(program)]


def test_the_readme_is_short():
    assert len(README.split()) <= MOST_WORDS


def test_figures_of_the_readme_stand_in_the_results():
    (table,) = re.findall(r"<!-- every figure of this table stands in docs/results.md -->\n(.*?)\n\n", README, re.DOTALL)
    figures = re.findall(r"[+-]\d+\.\d %(?: \[[^\]]+\])?", table)
    assert len(figures) == 8
    for figure in figures:
        assert figure in PAGES["results.md"], f"the README has {figure}, and docs/results.md has not"


def test_no_page_says_that_the_package_is_on_an_index():
    for name, page in PAGES.items():
        assert not re.search(r"pip install '?dvcc", page), name


def test_every_link_of_the_readme_leads_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    for name in ("video.mp4", "coded.mp4"):
        (tmp_path / name).write_bytes(X264().encode(make_scene(frames=24), CRF(20)).bitstream)
    (tmp_path / "videos").mkdir()
    shutil.copy(tmp_path / "video.mp4", tmp_path / "videos")
    (tmp_path / "checkpoints").symlink_to(CHECKPOINTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if blocks(page, "python") and name not in RUN_ELSEWHERE])
def test_the_python_of_a_page_runs(name, workplace):
    QPMap.uniform(30, like=read_clip("video.mp4")).save("video.npz")
    names: dict[str, object] = {"frames": list(np.zeros((3, 64, 96, 3), np.uint8)), "send": len}
    exec("import dvcc\nfrom dvcc.rate_control.objects import load_objects", names)
    for example in blocks(PAGES[name], "python"):
        exec(compile(example, name, "exec"), names)


def test_every_dvcc_line_runs(workplace, capsys):
    lines = shell_lines("dvcc ")
    assert {line[1] for line in lines} == {"compare", "encode", "export", "inspect", "zoo"}
    for line in lines:
        if "--live" in line or any("s3://" in word for word in line):  # there is no camera and no storage here
            words = build_parser().parse_args(line[1:])
            assert control_path(words.task, words.checkpoint).is_file()
            continue
        assert main(line[1:]) == 0, line
    assert (workplace / "video.npz").exists() and (workplace / "heat.png").exists()


def test_every_stage_is_shown_and_parses():
    stage_lines = [line for line in shell_lines("python ") if line[1] in ("train.py", "evaluate.py")]
    commands = {(line[1].removesuffix(".py"), line[2]) for line in stage_lines}
    assert commands == {(program, stage) for program, stages in COMMANDS.items() for stage in stages}
    for line in shell_lines("python "):
        if line[1] in ("train.py", "evaluate.py"):
            parse(line[1].removesuffix(".py"), line[2:])
        else:
            assert (ROOT / line[1]).is_file(), line


def test_the_commands_that_made_the_checkpoints_parse_as_a_shell_reads_them():
    commands = re.findall(r"`python (train\.py [^`]+)`", (ROOT / "checkpoints/README.md").read_text())
    assert {shlex.split(command)[1] for command in commands} == {"student", "flow", "surrogate", "control"}
    for command in commands:
        program, *words = shlex.split(command)
        parse(program.removesuffix(".py"), words)


@pytest.mark.parametrize("page, program", [("train.md", "train"), ("evaluate.md", "evaluate"), ("benchmark.md", "evaluate")])
def test_every_word_in_a_table_is_a_setting(page, program):
    """Words with different keys are parsed together: to compose a config takes longest."""
    rows = [line.split("|")[1] for line in PAGES[page].splitlines() if line.startswith("| `")]
    left = dict.fromkeys(code for row in rows for code in re.findall(r"`([^`]*=[^`]*)`", row))
    assert len(left) >= 8
    stages = [page.removesuffix(".md")] if page == "benchmark.md" else list(COMMANDS[program])
    for stage in stages:
        known = [code for code in left if not any(unknown(program, stage, key) for key in keys(code))]
        while known:
            batch: dict[str, list[str]] = {"data.root=x": ["data.root"]}
            for code in known:
                if not set(keys(code)) & {key for others in batch.values() for key in others if key != "data.root"}:
                    batch[code] = keys(code)
            parse(program, [stage, *[word for code in batch for word in words(code)]])
            known = [code for code in known if code not in batch]
            left = {code: None for code in left if code not in batch}
    assert not left, f"no stage of {program} knows {', '.join(left)}"


def words(code: str) -> list[str]:
    """The words of a code of a table; a brace keeps its spaces."""
    return [code] if "{" in code else code.split(" ")


def keys(code: str) -> list[str]:
    return [word.partition("=")[0] for word in words(code)]


def unknown(program: str, stage: str, key: str) -> bool:
    """Whether a stage has neither a group nor a setting of this name."""
    settings = [name for name, _ in flat_settings(COMMANDS[program][stage])]
    inside = any(name.startswith(f"{key}.") for name in settings)
    return key not in settings and not inside and key not in GROUPS[program, stage]


def test_make_demo_runs_the_three_commands_of_the_pages():
    makefile = (ROOT / "Makefile").read_text()
    shown = [" ".join(line[:3]) for line in shell_lines("python ")]
    for command in ("train.py surrogate", "train.py control", "evaluate.py control"):
        assert command in makefile and f"python {command}" in shown
    recipe = makefile.split("\ndemo: $(VENV)/.installed\n")[1].split("\n\n")[0].splitlines()
    assert "dvcc compare" in recipe[0]  # the win comes first
    assert recipe[-1].endswith("examples/demo_page.py")  # and the page to open last
    assert "demo: export OMP_NUM_THREADS" in makefile


@pytest.mark.skipif(importlib.util.find_spec("latex2mathml") is None, reason="needs the extra docs")
def test_the_site_shows_functions_formulas_and_files_outside():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    shown = hooks.on_page_markdown(PAGES["method.md"])
    assert "def rho_squared" in shown and "<math" in shown and "```source" not in shown and "```math" not in shown
    listing = hooks.listing("dvcc/cli/__init__.py", "main")
    assert "def main" in listing and "_end_like_ctrl_c()" in listing and '"""' not in listing
    with pytest.raises(LookupError, match="defines no nothing"):
        hooks.listing("dvcc/qp.py", "nothing")
    with pytest.raises(LookupError, match="is not there"):
        hooks.on_page_markdown("[a](../nowhere.md)")
    for page in PAGES.values():
        hooks.on_page_markdown(page)
