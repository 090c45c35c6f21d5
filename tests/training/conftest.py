"""A run as a user starts it, and a surrogate after a few steps."""

from __future__ import annotations

import csv

import pytest

from dvcc.config import parse
from dvcc.training import surrogate


def losses(out, *, term: str = "loss", log: str = "log") -> dict[int, float]:
    """A term at every logged step."""
    with (out / log / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[term]) for row in csv.DictReader(file)}


def configure(stage: str, tiny: list[str], out, *words: str):
    always = ["logger.every_n_steps=1", "logger.pictures_every=1000", f"out={out}", "trainer.accelerator=cpu"]
    return parse("train.py", [stage, *tiny, *always, *words])[1]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A surrogate after 12 steps."""
    out = tmp_path_factory.mktemp("surrogate")
    path = surrogate.run(configure("surrogate", tiny, out, "trainer.max_steps=12", "learning_rate=0.01"))
    return path
