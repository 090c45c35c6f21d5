"""Every example runs as its first lines say, at tiny size."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_own_network_trains_a_control_and_compares_it(tiny, tmp_path):
    from dvcc.surrogate import training as surrogate
    from tests.training.conftest import configure

    path = surrogate.run(configure("surrogate", tiny, tmp_path / "surrogate", "trainer.max_steps=2", "data.max_clips=2"))
    words = [*tiny, f"surrogate={path}", f"out={tmp_path / 'own'}", "trainer.max_steps=2", "trainer.accelerator=cpu"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "own_network.py"), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "mIoU @ achieved kbit/s" in done.stdout and "| learned" in done.stdout
    assert (tmp_path / "own" / "control.safetensors").is_file() and (tmp_path / "own" / "report" / "report.md").is_file()
