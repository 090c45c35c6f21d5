"""The process that encodes for `dvcc compare` gives what this one would, or says why not."""

import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dvcc.codecs import X264
from dvcc.errors import CheckpointError, DvccError
from dvcc.evaluation.compare.encoding import Work, encode_all, encode_apart
from dvcc.rate_control import Means, build_rate_controller
from tests.conftest import make_scene
from tests.evaluation.compare.conftest import stretch_of


@pytest.fixture
def work(tmp_path):
    """The baseline against itself, so that a process needs no network."""
    (tmp_path / "apart").mkdir()
    return partial(Work, stretch_of(make_scene(frames=6), tmp_path), [60.0, 120.0], gop=4, folder=tmp_path / "apart")


@pytest.mark.parametrize("cores", [1, 2])
def test_other_processes_give_the_same_encodes(cores, work, tmp_path, monkeypatch):
    monkeypatch.setattr("dvcc.evaluation.compare.encoding.cores", lambda: cores)
    done = []
    apart = encode_apart(work(controller="abr1", checkpoint=None), lambda: done.append(1))
    means = Means(X264(gop=4))
    controllers = {"abr2": build_rate_controller("abr2", means), "control": build_rate_controller("abr1", means)}
    here = encode_all(stretch_of(make_scene(frames=6), tmp_path), [60.0, 120.0], controllers, tmp_path, lambda: None)
    assert len(done) == 4 and [(m.controller, m.target_kbps) for m in apart] == [(m.controller, m.target_kbps) for m in here]
    for encode, other in zip(apart, here, strict=True):
        assert np.array_equal(encode.bits_per_frame, other.bits_per_frame) and encode.path.read_bytes() == other.path.read_bytes()


def test_what_goes_wrong_there_is_said_here(work, tmp_path):
    (tmp_path / "control.onnx").write_bytes(b"no control")
    with pytest.raises(CheckpointError, match=r"control\.onnx"):
        encode_apart(work(controller="learned", checkpoint=tmp_path / "control.onnx"), lambda: None)


def test_a_process_that_is_killed_is_one_sentence(work):
    def kill():
        for child in _children():
            os.kill(child, signal.SIGKILL)

    many = replace(work(controller="abr1", checkpoint=None), targets_kbps=[60.0 + i for i in range(20)])
    with pytest.raises(DvccError, match="was killed, for want of memory perhaps"):
        encode_apart(many, kill)
    assert not _children()


def _children() -> list[int]:
    """Processes that encode for this one."""
    import multiprocessing

    return [process.pid for process in multiprocessing.active_children()]
