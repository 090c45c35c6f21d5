"""What every engine does with pieces of work: results, states, errors, killed workers."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from dvcc.cli import encode
from dvcc.engines import ENGINES, check_engine, given, open_workers
from dvcc.errors import ConfigError, DvccError, MissingExtraError, VideoError

no_ray = importlib.util.find_spec("ray") is None
RAY = pytest.param("ray", 2, marks=[pytest.mark.slow, pytest.mark.skipif(no_ray, reason="needs the extra ray")])
KINDS = pytest.mark.parametrize("engine, workers", [("processes", 1), ("processes", 3), RAY])
SEVERAL = pytest.mark.parametrize("engine, workers", [("processes", 3), RAY])


def run(engine, workers, work, pieces, *, build=None, **options):
    with open_workers(engine, build or given(10), pieces=len(pieces), workers=workers) as started:
        return sorted(started.run(work, pieces, **options))


def add(state, piece):
    return state + piece, os.getpid()


def build_in(folder):
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return folder


def nothing(state, piece):
    time.sleep(0.01)
    return piece


def fail_at_two(state, piece):
    if piece == 2:
        raise VideoError("two is broken: give another")
    return piece


def divide(state, piece):
    return 1 / piece


def cannot_build():
    raise ConfigError("there is no network: give one")


def die_once(folder, piece):
    """Keep a file for every attempt; the worker of piece 3 is killed at the first."""
    attempts = len(list(folder.glob(f"{piece}-*")))
    (folder / f"{piece}-{attempts}").touch()
    time.sleep(0.2)
    if piece == 3 and attempts == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return piece


def write_slowly(folder, piece):
    (folder / f"begun-{piece}").touch()
    try:
        time.sleep(120)
    finally:
        (folder / f"cleaned-{piece}").touch()


def hang(folder, piece):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f"begun-{piece}").touch()
    time.sleep(120)


def pid(state, piece):
    return os.getpid()


@KINDS
def test_results_have_the_numbers_of_their_pieces(engine, workers):
    results = run(engine, workers, add, list(range(20)))
    assert [(number, value) for number, (value, _) in results] == [(n, 10 + n) for n in range(20)]
    assert (os.getpid() in {process for _, (_, process) in results}) == (workers == 1)
    with open_workers(engine, given(1), pieces=3, workers=workers) as started:
        ended = []
        assert [value for value, _ in started.map(add, [5, 4, 3], advance=lambda: ended.append(1))] == [6, 5, 4]
        assert len(ended) == 3 and started.map(add, []) == []


@KINDS
def test_a_worker_builds_its_state_once(engine, workers, tmp_path):
    run(engine, workers, nothing, list(range(30)), build=partial(build_in, tmp_path))
    processes = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert 1 <= len(processes) <= workers and len(set(processes)) == len(processes)


@KINDS
def test_errors_of_pieces_and_of_states_are_those_of_the_sweep(engine, workers):
    with pytest.raises(VideoError, match=r"^two is broken: give another$"):
        run(engine, workers, fail_at_two, list(range(6)))
    with pytest.raises(ConfigError, match=r"^there is no network: give one$"):
        run(engine, workers, nothing, [1, 2], build=cannot_build)
    with pytest.raises(ZeroDivisionError):
        run(engine, workers, divide, [1, 0])


@KINDS
def test_pieces_are_asked_for_as_they_are_needed(engine, workers):
    asked = []
    with open_workers(engine, given(0), pieces=100, workers=workers) as started:
        results = started.run(nothing, (asked.append(n) or n for n in range(100)))
        next(results)
        assert len(asked) <= 2 * workers
        assert len(list(results)) == 99


@SEVERAL
def test_a_killed_worker_loses_no_more_than_it_was_given(engine, workers, tmp_path):
    pieces = list(range(12))
    results = run(engine, workers, die_once, pieces, build=given(tmp_path), when_lost=lambda error: f"lost: {error}")
    attempts = {piece: len(list(tmp_path.glob(f"{piece}-*"))) for piece in pieces}
    if engine == "ray":  # which runs that piece again, and no other
        assert results == [(piece, piece) for piece in pieces]
        assert attempts == {piece: 2 if piece == 3 else 1 for piece in pieces}
    else:
        lost = [piece for piece, result in results if result != piece]
        assert 3 in lost and len(lost) <= 2 * workers and set(attempts.values()) <= {0, 1}
        assert all("the same command goes on" in result for piece, result in results if piece in lost)


def test_a_killed_worker_ends_a_sweep_that_cannot_do_without(tmp_path):
    with pytest.raises(DvccError, match="a worker was killed, for want of memory perhaps: take fewer workers"):
        run("processes", 2, die_once, [3, 4], build=given(tmp_path))


def interrupt(work, folder):
    """Interrupt a sweep of two pieces that have begun; return the seconds until it had ended."""
    with suppress(KeyboardInterrupt), open_workers("processes", given(folder), pieces=2, workers=2) as started:
        for piece in range(2):
            started.submit(work, piece)
        while len(list(folder.glob("begun-*"))) < 2:
            time.sleep(0.05)
        interrupted = time.monotonic()
        raise KeyboardInterrupt
    return time.monotonic() - interrupted


def test_an_interrupted_sweep_does_not_wait_for_its_pieces_and_they_clean_up(tmp_path):
    assert interrupt(write_slowly, tmp_path) < 60
    assert len(list(tmp_path.glob("cleaned-*"))) == 2


def test_an_interrupted_piece_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("dvcc.engines.processes.GRACE_S", 0.5)
    assert interrupt(hang, tmp_path) < 60


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the signals of a process from /proc")
def test_a_waiting_worker_leaves_sigterm_to_the_system():
    """A handler could leave it after it has taken the lock that the other workers wait for: they would wait for ever."""
    with open_workers("processes", given(0), pieces=4, workers=2) as started:
        worker = started.map(pid, range(4))[0]
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{worker}/status").read_text())
    assert not int(caught[1], 16) >> (signal.SIGTERM - 1) & 1


def test_an_unknown_engine_and_a_missing_one_are_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"no engine 'dask': choose processes or ray"):
        check_engine("dask")
    assert list(ENGINES) == ["processes", "ray"] == list(encode._ENGINES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None if name == "ray" else True)
    with (
        pytest.raises(MissingExtraError, match=r"the engine ray needs ray, which is not installed: pip install .*\[ray\]"),
        open_workers("ray", given(0), pieces=1),
    ):
        pass


def test_the_number_of_workers_is_that_of_the_cores_or_of_the_pieces(monkeypatch):
    monkeypatch.setattr("dvcc.engines.processes.cores", lambda: 4)
    for pieces, workers, expected in ((9, None, 8), (3, None, 6), (9, 2, 4), (1, None, 1), (9, 1, 1)):
        with open_workers("processes", given(0), pieces=pieces, workers=workers) as started:
            assert started.in_flight == expected
