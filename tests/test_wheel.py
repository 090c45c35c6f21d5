"""The wheel in an environment of its own outside the checkout, with its core dependencies and no torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from dvcc import CRF, X264
from dvcc.export import FORMATS
from tests.conftest import make_scene

ROOT = Path(__file__).parents[1]
MOST_MEGABYTES = 350


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    for name in ("dvcc", "configs", "checkpoints"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of an environment with the wheel and its core dependencies, at the versions of the lock."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    locked = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    versions = folder / "versions.txt"  # without hashes: pip asks for one of the wheel itself where any is given
    versions.write_text("\n".join(locked))
    pip("--python", folder / "bin" / "python", "install", "-c", versions, wheel)
    return folder


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, words), "--quiet", "--disable-pip-version-check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"pip {words[0]} needs the package index:\n{result.stdout}{result.stderr}"


def run(installed: Path, program: str, *words: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(installed / "bin" / program), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=environment)


def test_the_wheel_works_without_torch(installed, tmp_path):
    def succeeds(*words: str) -> str:
        result = run(installed, "dvcc", *words, cwd=tmp_path)
        assert result.returncode == 0, result
        return result.stdout

    def refuses(*words: str, reason: str) -> None:
        before = sorted(tmp_path.iterdir())
        result = run(installed, "dvcc", *words, cwd=tmp_path)
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and reason in result.stderr, result
        assert sorted(tmp_path.iterdir()) == before

    bytes_installed = sum(path.lstat().st_size for path in installed.rglob("*"))
    assert bytes_installed < MOST_MEGABYTES * 1e6
    assert "No module named 'torch'" in run(installed, "python", "-c", "import torch", cwd=tmp_path).stderr
    (tmp_path / "clip.mp4").write_bytes(X264().encode(make_scene(frames=20), CRF(16)).bitstream)
    assert succeeds("--version").startswith("dvcc ")
    always = ("--task", "segmentation", "--target-kbps", "100")
    for task in ("detection", "segmentation"):
        closing = succeeds("encode", "clip.mp4", "coded.mp4", "--task", task, "--target-kbps", "100")
        assert "20 frames" in closing and "4 encodes" in closing
    assert succeeds("encode", "clip.mp4", "map.mp4", *always, "--delivery", "map").startswith("map.mp4: ")
    refuses("encode", "clip.mp4", "live.ts", *always, "--live", reason="sees an encode of the whole video first")
    live = ("--task", "detection", "--target-kbps", "100", "--live", "--threads", "1")
    assert succeeds("encode", "clip.mp4", "live.ts", *live).startswith("live.ts: ")
    for name in FORMATS:
        assert "use: " in succeeds("export", "clip.mp4", *always, "--format", name, "--out", f"map.{name}")
    figures = json.loads(succeeds("inspect", "coded.mp4", "--reference", "clip.mp4", "--json"))
    assert figures["frames"] == 20 and 0.5 < figures["reference"]["ssim"] < 1
    needed = "needs torch, which is not installed: pip install 'WHEEL[train]'"
    refuses("compare", "clip.mp4", "--target-kbps", "100", "--task", "segmentation", reason=needed)
    refuses("train", "control", "task=segmentation", reason=needed)
    refuses("evaluate", "--help", reason=needed)
    refuses("encode", ".", "s3://bucket/coded", *always, reason="s3://bucket/coded needs fsspec, which is not installed")
    refuses("inspect", "clip.mp4", "--heat-map", "heat.png", reason="--heat-map needs matplotlib")
    refuses("encode", "clip.mp4", "other.mp4", *always, "--report", "pictures", reason="--report needs matplotlib")


def test_configs_and_checkpoints_are_inside(wheel):
    packaged = [path for folder in ("configs", "checkpoints") for path in (ROOT / folder).rglob("*") if path.is_file()]
    inside = zipfile.ZipFile(wheel).namelist()
    assert {f"dvcc/{path.relative_to(ROOT)}" for path in packaged} <= set(inside)
    assert not [name for name in inside if not name.startswith(("dvcc/", "dvcc-"))]


def test_type_checkers_are_told_that_the_package_is_typed(wheel):
    assert "dvcc/py.typed" in zipfile.ZipFile(wheel).namelist()
