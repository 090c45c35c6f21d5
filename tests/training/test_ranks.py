"""Two processes under torchrun train what one does with twice the batch, and go on where they were killed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dvcc.training.files import first_process

ROOT = Path(__file__).parents[2]
ONE = ["data.batch_size=2", "trainer.devices=1"]
TWO = ["data.batch_size=1", "trainer.devices=2", "trainer.strategy=ddp"]


def train(stage, words, out, *, processes, stop=-1):
    notes = out.parent / f"{out.name}-notes"
    notes.mkdir(exist_ok=True)
    run = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *run, str(ROOT / "tests/training/ranks.py"), stage, str(stop), str(notes), *words, f"out={out}"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def weights_of(out):
    return torch.load(out / "last.ckpt", weights_only=True)["state_dict"]


def losses_of(out):
    return [float(row["loss"]) for row in csv.DictReader((out / "metrics.csv").read_text().splitlines())]


@pytest.fixture
def words(tiny, tmp_path):
    left_out = ("data.cache=", "data.root=scikit")
    return [
        *(word for word in tiny if not word.startswith(left_out)),
        *("data.crops_per_clip=3", "task=reconstruction", f"data.cache={tmp_path / 'cache'}", "learning_rate=0.01"),
        *("trainer.accelerator=cpu", "trainer.precision=64-true", "trainer.max_steps=10", "trainer.checkpoint_every=4"),
        *("logger.every_n_steps=1", "logger.pictures_every=1000"),
    ]


@pytest.mark.parametrize(
    "stage", [pytest.param("surrogate", marks=pytest.mark.slow), pytest.param("control", marks=pytest.mark.exhaustive)]
)
def test_two_processes_do_what_one_does_with_twice_the_batch(stage, words, trained, tmp_path):
    words = [*words, f"surrogate={trained}" if stage == "control" else "surrogate.width=8"]
    two = train(stage, [*words, *TWO], tmp_path / "two", processes=2)
    assert two.returncode == 0, two.stderr[-3000:]
    notes = [(tmp_path / "two-notes" / f"{rank}.txt") for rank in (0, 1)]
    first, second = (note.read_text().splitlines() if note.exists() else [] for note in notes)
    assert len(set(first)) > 10 and len(second) <= 6, second  # it may note the content of a clip, and makes nothing
    one = train(stage, [*words, *ONE], tmp_path / "one", processes=1)
    assert one.returncode == 0, one.stderr[-3000:]
    losses = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert len(losses[0]) == 10 and losses[0] == pytest.approx(losses[1], rel=1e-6)
    weights = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-6, atol=1e-6, msg=name)
    if stage == "surrogate":
        killed = train(stage, [*words, *TWO], tmp_path / "killed", processes=2, stop=6)
        assert killed.returncode != 0 and len(losses_of(tmp_path / "killed")) == 6
        resumed = train(stage, [*words, *TWO, "resume=true"], tmp_path / "killed", processes=2)
        assert resumed.returncode == 0, resumed.stderr[-3000:]
        assert losses_of(tmp_path / "killed") == losses[1]
        for name, value in weights_of(tmp_path / "killed").items():
            assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize(
    "variables, first",
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "3", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),  # torchrun, another machine
        ({"SLURM_PROCID": "2"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_the_first_process_is_known_by_the_variables_of_its_launcher(variables, first, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert first_process() == first
