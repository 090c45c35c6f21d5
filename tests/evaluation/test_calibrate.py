"""`train.py calibrate` chooses by real encodes of one side of the videos, and says what that gains on the other."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dvcc import ConfigError
from dvcc.config.parse import parse
from dvcc.control.deployed.reader import SegmenterReader
from dvcc.control.deployed.runtime import load_control
from dvcc.control.network import load_network
from dvcc.errors import DvccError
from dvcc.evaluation.control import calibrate
from dvcc.evaluation.control.measure import Bench
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.task_reader import TaskReader
from dvcc.tasks import build_task
from tests.videos import lively_network

CODEC = {"name": "x264", "preset": "medium", "gop": 8, "bframes": None}


def configure(tiny, out, *words):
    return parse(
        "train",
        [
            "calibrate",
            *tiny,
            f"out={out}",
            "bootstrap=0",
            "workers=1",
            "targets_bpp=[0.2,0.4,0.8,1.6]",
            "rate_factors=[1.0]",
            *words,
        ],
    )[1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("lively") / "control.safetensors"
    lively_network(scale=1.0).save(path, {"run": {"codec": CODEC, "task": {"name": "reconstruction"}}, "trained_on": []})
    return path


def test_the_strength_that_needs_the_fewest_bits_is_delivered(tiny, weights, tmp_path, monkeypatch):
    """As a control with so many times the offsets; what is chosen was measured on the training videos alone."""
    sources, measure = [], Bench.measure

    def watched(bench, index, targets):
        sources.append(({path.name for path in bench.tests.sources}, set(bench.controllers)))
        return measure(bench, index, targets)

    monkeypatch.setattr(Bench, "measure", watched)
    bits = {"1 times the offsets": -2.0, "0.5 times the offsets": -5.0}
    monkeypatch.setattr(calibrate, "_bits", lambda figures: bits[figures["name"]])
    summarise = calibrate.summarise
    monkeypatch.setattr(
        calibrate, "summarise", lambda *a, **k: {name: {**s, "name": name} for name, s in summarise(*a, **k).items()}
    )
    words = ["task=reconstruction", f"checkpoint={weights}", "strengths=[0.5,1.0]"]
    printed = calibrate.run(configure(tiny, tmp_path / "out", *words))
    fit, held = sources[0], sources[-1]
    assert not fit[0] & held[0] and held[0] == {"test.mp4"}
    assert fit[1] == {"x264 alone", *bits} and held[1] == {"x264 alone", "0.5 times the offsets"}
    assert f"--checkpoint {tmp_path / 'out' / 'control.onnx'}" in printed and "held out: " in printed
    assert json.loads((tmp_path / "out" / "calibration.json").read_text())["strength"] == 0.5
    before, after = (load_network(path)[0] for path in (weights, tmp_path / "out" / "control.safetensors"))
    assert after.config["max_delta_qp"] == before.config["max_delta_qp"] / 2
    assert load_control(tmp_path / "out" / "control.onnx").config["calibrated"]["strength"] == 0.5


@pytest.mark.parametrize(("model", "reads"), [("efficientvit_b0", SegmenterReader), ("student", TaskReader)])
def test_the_network_that_is_calibrated_for_reads(model, reads, tiny, tmp_path):
    """The one beside the published control where it is the same, else the task's."""
    published = CHECKPOINTS / "control_segmentation.safetensors"
    words = ["task=segmentation", f"task.model={model}", f"checkpoint={published}", "codec.gop=8"]
    config = configure(tiny, tmp_path, *words)
    control = calibrate._running(published, 0.5, config, build_task("segmentation", model="student"))
    assert isinstance(control.reader, reads)
    assert ("--model student" in calibrate._deliver(config, 0.5, tmp_path)) == (reads is TaskReader)
    assert (tmp_path / "efficientvit_b0.onnx").is_file() == (reads is SegmenterReader)


def test_x264_is_left_alone_where_offsets_lose(tiny, weights, tmp_path):
    """Random offsets cost bits before PSNR, by real encodes."""
    words = ["task=reconstruction", f"checkpoint={weights}", "strengths=[3.0]"]
    printed = calibrate.run(configure(tiny, tmp_path / "out", *words))
    assert "use --controller abr" in printed and not list((tmp_path / "out").glob("control.*"))
    result = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert result["strength"] == 0 and result["fit"]["summary"]["3 times the offsets"]["bd_rate_of_loss_percent"] > 0


def test_the_rule_keeps_its_shape_at_any_strength(detector):
    task = build_task("detection", model=str(detector))
    whole, half = (calibrate.rule_at(task, strength).rule for strength in (1.0, 0.5))
    assert (half.background, half.strength) == (whole.background / 2, whole.strength / 2) and half.every_small == 1
    with pytest.raises(ConfigError, match="from 0 to 40 QPs, got 60"):  # which dvcc encode would refuse
        calibrate.rule_at(task, 3.0)
    with pytest.raises(ConfigError, match="is for task=detection"):
        calibrate.rule_at(build_task("reconstruction", model="psnr"), 1.0)


def test_wrong_words_are_refused_before_any_encode(tiny, weights, tmp_path):
    for words, match in {
        "strengths=[0,1]": "multiples above 0",
        "strengths=[]": "multiples above 0",
        "targets_bpp=[0.1,0.2]": "4 positive numbers or more",
        "codec.preset=veryfast": "medium",
        "checkpoint=none.safetensors": "none.safetensors",
    }.items():
        given = [f"checkpoint={weights}", "task=reconstruction", words]
        with pytest.raises(DvccError, match=match):
            calibrate.run(configure(tiny, tmp_path / "out", *given))
    with pytest.raises(ConfigError, match="is for task=detection"):
        calibrate.run(configure(tiny, tmp_path / "out", "task=reconstruction"))
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    assert np.isinf(calibrate._bits({"bd_rate_of_loss_percent": None}))
