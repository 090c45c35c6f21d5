"""Detectors that read encodes for a control: by onnxruntime what their task says, and from the files that the control names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dvcc import CheckpointError, ConfigError, read_clip
from dvcc.codecs import CRF, X264
from dvcc.control.deployed.onnx_export import export
from dvcc.control.deployed.reader import DetectorReader, MeanReader
from dvcc.control.deployed.runtime import load_control
from dvcc.control.network import ControlNetwork
from dvcc.networks.detectors import load_detector
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.task_reader import TaskReader
from dvcc.tasks import build_task

ROOT = Path(__file__).parents[2]
WEIGHTS = CHECKPOINTS / "control_segmentation.safetensors"


@pytest.fixture(scope="module")
def pictures():
    """The 4:2:0 planes of a street, uncoded and coded: 352x352 pixels, four to a cell of the detectors' map."""
    clip = read_clip(ROOT / "examples" / "street.mp4", frames=1)
    planes = [np.ascontiguousarray(plane[:, :, : plane.shape[1]]) for plane in (clip.y, clip.u, clip.v)]
    clip = type(clip)(*planes, clip.fps, clip.matrix, clip.full_range)
    coded = X264("veryfast").encode(clip, CRF(38)).clip()
    return [[(one.y[0], one.u[0], one.v[0])] for one in (clip, coded)]


def read(reader, pictures, turns=0):
    return reader.lost(*pictures, matrix="bt709", full_range=False, quarter_turns=turns)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_detector_reads_what_its_task_reads(pictures, turns):
    ours = read(DetectorReader(load_detector("fastestdet")), pictures, turns)
    task = read(TaskReader(build_task("detection", model="fastestdet").eval()), pictures, turns)
    assert ours.degradation.mean() > 0.05
    assert ours.degradation == pytest.approx(task.degradation, abs=1e-3) and ours.log_error == pytest.approx(
        task.log_error, abs=1e-4
    )


def test_a_large_picture_is_scaled_down_and_its_loss_is_on_its_own_grid(pictures):
    shown, detector = [], load_detector("nanodet_plus")
    candidates = detector.candidates
    detector.candidates = lambda images: shown.append(images.shape) or candidates(images)
    lost = read(DetectorReader(detector, side=320), pictures)
    assert shown == [(2, 3, 320, 320)] and lost.degradation.shape == lost.log_error.shape == (22, 22)


def test_a_control_names_its_detectors_and_takes_them_along(detector, tmp_path):
    out = export(WEIGHTS, tmp_path / "mine" / "control.onnx", detectors=[str(detector), "nanodet_plus"])
    assert {path.name for path in out.parent.iterdir()} == {"control.onnx", detector.name, "nanodet_plus_m_416.onnx"}
    reader = load_control(out).reader
    assert isinstance(reader, MeanReader) and len(reader.readers) == 2
    beside = out.parent / detector.name
    beside.write_bytes(beside.read_bytes() + b"\x0a\x00")
    with pytest.raises(CheckpointError, match=f"{detector.name} is another file than the one that .*control.onnx takes"):
        load_control(out)
    beside.unlink()
    with pytest.raises(CheckpointError, match=f"sees through {detector.name}, which is not beside it"):
        load_control(out)


def test_what_would_replace_a_file_is_refused(detector, tmp_path):
    own, out = tmp_path / "control.onnx", tmp_path / "out.onnx"
    own.write_bytes(detector.read_bytes())
    (tmp_path / detector.name).write_bytes(b"something else")
    blind = tmp_path / "blind.safetensors"
    ControlNetwork(width=8).save(blind, {})
    wrong = {
        "say where by --out": ([WEIGHTS], [str(detector)]),
        "control.onnx would be two files": ([WEIGHTS, own], [str(own)]),
        f"{detector.name} would be two files": ([WEIGHTS, out], [str(detector)]),
        "ends in .onnx": ([WEIGHTS, tmp_path / "out.safetensors"], []),
        "sees no analysis encode": ([blind, out], [str(own)]),
        "student is no ONNX file": ([WEIGHTS, out], ["student"]),
    }
    for reason, (paths, detectors) in wrong.items():
        with pytest.raises(ConfigError, match=reason):
            export(*paths, detectors=detectors)
    assert own.read_bytes() == detector.read_bytes() and not out.exists()


def test_a_control_for_a_detector_is_written_by_one_command(detector, tmp_path):
    words = [str(WEIGHTS), "--detector", str(detector), "--out", str(tmp_path / "mine.onnx")]
    command = [sys.executable, "-m", "dvcc.control.deployed.onnx_export", *words]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{tmp_path / 'mine.onnx'}\n"
    assert isinstance(load_control(tmp_path / "mine.onnx").reader, DetectorReader)
