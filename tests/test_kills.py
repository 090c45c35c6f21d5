"""A short form of `benchmarks/kills.py`: a command that is killed and run again leaves what an undisturbed one leaves."""

from __future__ import annotations

import hashlib
import random

import pytest

from benchmarks import kills


@pytest.mark.slow
def test_killed_commands_lose_nothing(tmp_path):
    """Training is in `tests/training/test_kill.py`; the full count of kills is in docs/faults.md."""
    seed = random.randrange(2**32)
    outcomes = kills.survive(tmp_path, kills=2, seed=seed, only="cache,encode,export")
    assert len(outcomes) == 3 and not [sentence for o in outcomes for sentence in o.wrong], kills.report(outcomes, seed=seed)
    assert sum(o.kills for o in outcomes) >= 4


def test_what_a_kill_could_leave_is_found(tmp_path):
    command = kills.Command("none", [], tmp_path / "out", tmp_path / "cache")
    command.out.mkdir()
    for name, data in (("whole.bin", b"abc"), (".whole.bin.x1", b"a"), ("report.md", b"1 s")):
        (command.out / name).write_bytes(data)
    assert kills.files_of(command) == {command.out / "whole.bin": hashlib.sha256(b"abc").hexdigest()}
    (command.out / "last.ckpt").write_bytes(b"PK\3\4 no zip")
    assert not kills.is_whole(command.out / "last.ckpt")
