"""A run that is killed at any moment goes on, in another process, to the same losses: to the last bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.training.conftest import configure, losses

STEPS, KILLS, TIMEOUT = 9, 2, 240


def train(stage: str, words: list[str], out: Path) -> None:
    """Run a stage, in a process where no network has been loaded and no clip been seen."""
    import torch

    from dvcc.control import training as control
    from dvcc.surrogate import training as surrogate

    torch.set_num_threads(1)
    {"surrogate": surrogate.run, "control": control.run}[stage](configure(stage, words, out))


@pytest.fixture(scope="module")
def server():
    """Processes that start with the libraries imported, and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    forkserver._forkserver._stop()  # another test's has not imported these
    context.set_forkserver_preload(["dvcc.control.training", "dvcc.surrogate.training", "tests.training.conftest"])
    return context


def rows(out: Path) -> int:
    """How many steps the log has."""
    path = out / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.is_file() else 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["surrogate", "control"])
def test_a_killed_run_goes_on_to_the_same_losses(stage, server, tiny, trained, tmp_path):
    words = [*tiny, f"trainer.max_steps={STEPS}", "trainer.checkpoint_every=2", "data.crops_per_clip=1", "task=reconstruction"]
    words += [f"surrogate={trained}", "control.width=8"] if stage == "control" else ["losses.cv_task=0.2", "surrogate.width=8"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    process = server.Process(target=train, args=(stage, words, whole))
    process.start()
    process.join(TIMEOUT)
    assert process.exitcode == 0
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for kill in range(KILLS + 1):
        resume = f"resume={str((parts / 'config.yaml').is_file()).lower()}"
        process = server.Process(target=train, args=(stage, [*words, resume], parts))
        process.start()
        if kill < KILLS:
            farther = rows(parts) + moments.randint(1, STEPS // (KILLS + 1))
            while rows(parts) < farther and process.is_alive():
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.1))  # in the middle of a step, or of a checkpoint
            os.kill(process.pid, signal.SIGKILL)
        process.join(TIMEOUT)
    assert process.exitcode == 0, f"seed {seed}"
    assert losses(parts) == losses(whole) and list(losses(whole)) == list(range(STEPS)), f"seed {seed}"
