"""A training runs on terminals that lack most characters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvcc.cli import main

ROOT = Path(__file__).parents[2]

_ONE_STEP = ["trainer.max_steps=1", "surrogate.width=8", "data.max_clips=1", "data.crops_per_clip=1"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_training_writes_what_the_terminal_has(encoding, tiny, tmp_path, monkeypatch):
    out, shown = tmp_path / "ünïcode", {}
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws its bar as on a terminal
    for name in ("stdout", "stderr"):
        shown[name] = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(shown[name], encoding=encoding, write_through=True))
    assert main(["train", "surrogate", *tiny, *_ONE_STEP, f"out={out}"]) == 0, shown["stderr"].getvalue()
    assert (out / "surrogate.safetensors").is_file() and b"training" in shown["stderr"].getvalue()


@pytest.mark.slow
def test_a_training_runs_in_the_c_locale(tiny, tmp_path):
    out = tmp_path / "run"  # in the C locale file names are ASCII
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FORCE_COLOR": "1"}
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, str(ROOT / "train.py"), "surrogate", *tiny, *_ONE_STEP, f"out={out}"]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=240)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    assert (out / "surrogate.safetensors").is_file() and b"training" in result.stderr
