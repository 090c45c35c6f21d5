"""What runs by onnxruntime is what was trained."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from dvcc.control.deployed import onnx_export
from dvcc.control.deployed.onnx_export import control_to_onnx, deploy
from dvcc.control.deployed.runtime import Control, load_control
from dvcc.control.network import ControlNetwork, load_network
from dvcc.errors import CheckpointError
from dvcc.networks.sources import CHECKPOINTS, control_path, published_controls

SIZES = [(1, 4, 6), (5, 9, 13)]  # frames, rows and columns of macroblocks


def restless(**shape) -> ControlNetwork:
    torch.manual_seed(0)
    network = ControlNetwork(**shape).eval()
    torch.nn.init.normal_(network.head.weight, std=0.5)
    torch.nn.init.normal_(network.head.bias)
    return network


def largest_difference(network: ControlNetwork, control: Control, size: tuple[int, int, int]) -> float:
    """In QPs, over frames at every place of a GOP, at a low and a high rate; the network moves by more than half a QP."""
    frames, rows, columns = size
    generator = torch.Generator().manual_seed(1)
    small, previous = torch.rand(2, frames, 3, 4 * rows, 4 * columns, generator=generator)
    extra = network.config["extra_planes"]
    planes = torch.randn(frames, extra, rows, columns, generator=generator) if extra else None
    position, differences = torch.arange(frames) % 3, []
    for log_bpp, mean_qp in ((-5.0, 44.0), (-1.5, 21.0)):
        given = [torch.full((frames,), value) for value in (log_bpp, mean_qp)]
        with torch.no_grad():
            expected = network(small, previous, *given, position.float(), torch.full((frames,), 3.0), planes).numpy()
        deployed = control.delta_qp(
            small.numpy(),
            previous.numpy(),
            log_bpp=log_bpp,
            mean_qp=mean_qp,
            position=position.numpy(),
            gop=3,
            planes=None if planes is None else planes.numpy(),
        )
        assert deployed.shape == (frames, rows, columns) and np.ptp(expected) > 0.5
        differences.append(np.abs(deployed - expected).max())
    return float(max(differences))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "shape", [{}, {"width": 8, "blur_sigma": 0.0, "max_delta_qp": 5.0}, {"extra_planes": 3}, {"width": 0, "extra_planes": 3}]
)
def test_the_graph_decides_what_the_network_decides(shape, size):
    network = restless(**shape)
    assert largest_difference(network, deploy(network), size) < 1e-3


def test_planes_matter():
    network = restless(extra_planes=2)
    control, small = deploy(network), np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
    place = {"log_bpp": -3.0, "mean_qp": 30.0, "position": np.zeros(1), "gop": 8}
    first, second = (control.delta_qp(small, small, **place, planes=np.full((1, 2, 4, 6), x, np.float32)) for x in (0, 1))
    assert np.abs(first - second).max() > 0.1 and control.extra_planes == 2


@pytest.mark.parametrize("frames", [1, 4])
def test_the_prior_is_that_of_the_network(frames):
    network = restless(width=8)
    network.prior.coefficients.copy_(torch.tensor([12.0, -9.0, 0.3, 2.0, -1.0]))
    small = torch.rand(frames, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    expected = network.prior(small[None], torch.tensor([-3.0]))
    assert deploy(network).mean_qp(small.numpy(), -3.0) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize(("task", "detectors"), [("segmentation", []), ("detection", ["nanodet_plus", "fastestdet"])])
def test_every_published_control_is_the_network_it_was_exported_from(task, detectors, tmp_path):
    assert task in published_controls()
    network, _ = load_network(CHECKPOINTS / "control_segmentation.safetensors")
    control = load_control(control_path(task, None))
    assert max(largest_difference(network, control, size) for size in SIZES) < 1e-3
    again = onnx_export.export(CHECKPOINTS / "control_segmentation.safetensors", tmp_path / "again.onnx", detectors=detectors)
    assert load_control(again).config == control.config
    assert {path.name for path in tmp_path.glob("*_*.onnx")} == {file["file"] for file in _detectors_of(control)}


def _detectors_of(control):
    return control.config["control"]["analysis"].get("detectors", [])


def test_a_network_is_exported_by_one_command(tmp_path):
    restless(width=8).save(tmp_path / "mine.safetensors", {"run": {"seed": 7}})
    command = [sys.executable, "-m", "dvcc.control.deployed.onnx_export", "mine.safetensors"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "mine.onnx\n"
    assert load_control(tmp_path / "mine.onnx").config["run"] == {"seed": 7}
    onnx.checker.check_model(str(tmp_path / "mine.onnx"), full_check=True)
    assert (tmp_path / "mine.onnx").read_bytes() == onnx_export.export(tmp_path / "mine.safetensors").read_bytes()


def test_what_is_no_control_is_said_in_one_sentence(tmp_path, detector):
    whole = control_to_onnx(restless(width=8), {"run": {}})
    bad = {"cut.onnx": whole[:2000], "text.onnx": b"no model", "flipped.onnx": whole[:5000] + b"\x01" + whole[5001:]}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=rf"{name} (is no ONNX file|does not match its checksum)"):
            load_control(tmp_path / name)
    with pytest.raises(CheckpointError, match="but no control"):
        load_control(detector)
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        load_control(tmp_path / "none.onnx")
    (tmp_path / "c.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"give the \.onnx"):
        load_control(tmp_path / "c.safetensors")
