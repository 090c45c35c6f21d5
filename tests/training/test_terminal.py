"""Commands run on terminals that lack most characters, and with warnings as errors."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dvcc.cli import main

ROOT = Path(__file__).parents[2]

_FEW_MAPS = ["mean_qps=[30]", "maps=3", "pictured_maps=2", "data.clips_per_video=1", "bootstrap=2"]
_FEW_TARGETS = ["targets_kbps=[60,100,200,400]", "stability=0", "bootstrap=2", "workers=1"]
_FEW_LEVELS = ["data.frames=2", "data.max_clips=1", "levels=[20,30,40,50]", "bootstrap=2"]
_ONE_STEP = ["trainer.max_steps=1", "surrogate.width=8", "data.max_clips=1", "data.crops_per_clip=1"]

_COMMANDS = """
import sys
from pathlib import Path

from dvcc.cli import main

if __name__ == "__main__":
    for line in Path("commands.txt").read_text("ascii").splitlines():
        words = line.split(" ")
        if (status := main(words)) != 0:
            sys.exit(f"{words[:2]} ends in {status}")
"""


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
def test_every_command_runs_in_the_c_locale_with_warnings_as_errors(tiny, videos, tmp_path):
    """In one process, which imports once: training, the three evaluations, an encode and a comparison."""
    surrogate, control = tmp_path / "surrogate", tmp_path / "control"
    video, student = str(next(Path(videos).glob("*.mp4"))), "task=segmentation"
    root = next(word for word in tiny if word.startswith("data.root"))
    cache = next(word for word in tiny if word.startswith("data.cache="))
    weights = f"surrogate={surrogate}/surrogate.safetensors"
    commands = [
        ["train", "surrogate", *tiny, *_ONE_STEP, f"out={surrogate}"],
        ["train", "control", *tiny, student, weights, "recipe=surrogate", "trainer.max_steps=1", f"out={control}"],
        ["evaluate", "surrogate", *tiny, *_FEW_MAPS, f"checkpoint={surrogate}/surrogate.safetensors", f"out={tmp_path}/fit"],
        ["evaluate", "control", *tiny, *_FEW_TARGETS, student, f"checkpoint={control}/control.onnx"]
        + ["controllers=[abr2,learned]", f"out={tmp_path}/evaluation"],
        ["evaluate", "benchmark", "data=folder", root, cache, student, *_FEW_LEVELS, f"out={tmp_path}/benchmark"],
        ["encode", video, f"{tmp_path}/coded.mp4", "--target-kbps", "100", "--task", "detection"],
        ["compare", video, "--target-kbps", "100", "--task", "detection", "--model", "student", "--out", f"{tmp_path}/compare"],
    ]
    (tmp_path / "commands.txt").write_text("\n".join(" ".join(words) for words in commands), "ascii")
    (tmp_path / "commands.py").write_text(_COMMANDS)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FORCE_COLOR": "1"}
    env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONWARNINGS": "error"}
    result = subprocess.run([sys.executable, "commands.py"], cwd=tmp_path, env=env, capture_output=True, timeout=1800)
    printed = result.stderr.decode(errors="replace")
    assert result.returncode == 0, printed[-2000:]
    assert "Warning" not in printed and "Traceback" not in printed
    for path in ("fit/report.md", "evaluation/report.md", "benchmark/report.md", "coded.mp4", "compare/index.html"):
        assert (tmp_path / path).stat().st_size > 0
