"""A training runs on terminals that lack most characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SETTINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_runs_without_utf8(name, tiny, tmp_path):
    out = tmp_path / ("run" if name == "C" else "ünïcode")  # in the C locale file names are ASCII
    words = [*tiny, "trainer.max_steps=1", "surrogate.width=8", "data.max_clips=1", "data.crops_per_clip=1", f"out={out}"]
    # FORCE_COLOR: rich draws its bar as on a terminal.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FORCE_COLOR": "1", **SETTINGS[name]}
    command = [sys.executable, str(ROOT / "train.py"), "surrogate", *words]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=240)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    assert (out / "surrogate.safetensors").is_file() and b"training" in result.stderr
