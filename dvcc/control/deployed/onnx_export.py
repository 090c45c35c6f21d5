"""A trained control network as an ONNX file: python -m dvcc.control.deployed.onnx_export CONTROL.safetensors.

Writes CONTROL.onnx beside it, or the file that `--out` says, which does what `ControlNetwork.forward` does, within rounding. With
`--detector A --out FILE` a detector, or several, read x264's encode in place of the network that the control was trained for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kornia.filters import get_gaussian_kernel1d
from onnx import TensorProto, helper
from torch import nn

from dvcc._files import write_atomic
from dvcc._guard import guarded
from dvcc.control.deployed.reader import detectors_settings
from dvcc.control.deployed.runtime import NO_DIGEST, Control
from dvcc.control.network import CONTEXTS, ControlNetwork, load_network
from dvcc.errors import ConfigError
from dvcc.networks.detectors import Detector, load_detector
from dvcc.networks.onnx_graph import Graph


def _contexts(graph: Graph) -> str:
    """Add the planes and their means over squares of macroblocks."""
    means = ["planes"]
    for side in CONTEXTS[1:]:
        shape: dict[str, Any] = {"kernel_shape": [side, side], "pads": [side // 2] * 4}
        means.append(graph.add("AveragePool", "planes", count_include_pad=0, **shape))
    return graph.add("Concat", *means, axis=1)


def _features(graph: Graph, network: ControlNetwork) -> str:
    """Add the features (N, width, h, w) of the picture."""
    first = network.stem[0]
    assert isinstance(first, nn.Conv2d) and first.bias is not None
    # A convolution of [small - 0.5, small - previous] is one of [small, previous].
    of_small, of_change = first.weight.chunk(2, 1)
    weight = torch.cat([of_small + of_change, -of_change], 1)
    bias = first.bias - 0.5 * of_small.sum((1, 2, 3))
    features = graph.silu(graph.conv(graph.add("Concat", "small", "previous", axis=1), first, weight, bias))
    features = graph.silu(graph.conv(features, network.stem[2]))
    if network.of_planes is not None:
        features = graph.add("Add", features, graph.conv("planes", network.of_planes))
    at_start = graph.add("Cast", graph.add("Equal", "position", graph.constant(0.0)), to=TensorProto.FLOAT)
    in_gop = graph.add("Div", "position", "gop")
    inputs = [graph.scaled("log_bpp", less=-3, over=2), graph.scaled("mean_qp", less=32, over=10), at_start, in_gop]
    hidden = graph.silu(graph.linear(graph.add("Concat", *inputs, axis=1), network.modulate[0]))
    scales = graph.linear(hidden, network.modulate[2])
    width = network.config["width"]

    def part(index: int) -> str:
        """(N, width, 1, 1)."""
        cut = graph.part(scales, index * width, (index + 1) * width, axis=1)
        return graph.add("Reshape", cut, graph.constant(np.array([-1, width, 1, 1])))

    for index, block in enumerate(network.blocks):
        scale = graph.add("Add", part(2 * index), graph.constant(1.0))
        moved = graph.add("Add", graph.add("Mul", graph.conv(features, block), scale), part(2 * index + 1))
        features = graph.add("Add", features, graph.silu(moved))
    return features


def _network(graph: Graph, network: ControlNetwork) -> str:
    """Add `ControlNetwork.forward`; returns the name of its output (N, 1, h, w)."""
    config = network.config
    features = _features(graph, network) if config["width"] else _contexts(graph)
    decided = graph.conv(features, network.head)
    mean = graph.add("ReduceMean", decided, graph.constant(np.array([1, 2, 3])), keepdims=1)
    delta = graph.add("Tanh", graph.add("Sub", decided, mean))
    delta = graph.add("Mul", delta, graph.constant(float(config["max_delta_qp"])))
    if sigma := config["blur_sigma"]:
        margin = math.ceil(2 * sigma)
        taps = get_gaussian_kernel1d(2 * margin + 1, sigma, dtype=torch.float64)[0]
        delta = graph.add("Pad", delta, graph.constant(np.array([0, 0, margin, margin] * 2)), mode="edge")
        for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
            delta = graph.add("Conv", delta, graph.constant(taps.view(shape)))
    return delta


def control_to_onnx(network: ControlNetwork, config: dict[str, Any]) -> bytes:
    """Return the ONNX file of a network, with its `config` (as of `load_network`) and a checksum inside."""
    graph, planes = Graph(), network.config["extra_planes"]
    with torch.no_grad():
        output = _network(graph, network)
    shapes: dict[str, list[int | str]] = {name: ["frames", 3, "rows", "columns"] for name in ("small", "previous")}
    shapes |= {name: ["frames", 1] for name in ("log_bpp", "mean_qp", "position", "gop")}
    shapes |= {"planes": ["frames", planes, "grid_rows", "grid_columns"]} if planes else {}
    model = graph.model("control", shapes, {output: ["frames", 1, "grid_rows", "grid_columns"]})
    prior = [float(value) for value in network.prior.coefficients]
    stored = {"kind": "control", "config": json.dumps(config | {"control": network.config}), "prior": json.dumps(prior)}
    helper.set_model_props(model, {**stored, "sha256": NO_DIGEST})
    written = model.SerializeToString(deterministic=True)
    return written.replace(NO_DIGEST.encode(), hashlib.sha256(written).hexdigest().encode())


def deploy(network: ControlNetwork, config: dict[str, Any] | None = None) -> Control:
    """Return a network as it runs in `dvcc encode`, without a file."""
    return Control(control_to_onnx(network, config or {}), name="the network")


def export(path: str | Path, out: str | Path | None = None, *, detectors: Sequence[str] = ()) -> Path:
    """Write the ONNX file of a control's .safetensors file, beside it unless `out` says where; returns its path.

    detectors: ONNX files or names of `dvcc zoo` that read analysis encodes for it; they are copied beside `out`, which has to be
    given. Raises `CheckpointError`, `ConfigError` for a control that sees no analysis encode and names that clash, `DvccError`.
    """
    network, config = load_network(path)
    if detectors and out is None:
        raise ConfigError("a control that detectors read for is a file of its own: say where by --out FILE.onnx")
    out = Path(out or Path(path).with_suffix(".onnx"))
    if out.suffix != ".onnx":
        raise ConfigError(f"{out} is to be an ONNX file: give a name that ends in .onnx")
    if detectors:
        if "analysis" not in network.config:
            raise ConfigError(f"{path} sees no analysis encode, so no detector can read one for it: take another control")
        readers = [load_detector(model) for model in detectors]
        for name, content in _copies(readers, out).items():
            write_atomic(out.parent / name, content)
        network.config["analysis"] = detectors_settings(readers)
    write_atomic(out, control_to_onnx(network, config))
    return out


def _copies(readers: Sequence[Detector], out: Path) -> dict[str, bytes]:
    """Return the files that have to lie beside `out` and do not yet, by name. Raises `ConfigError` where a name is taken."""
    contents: dict[str, bytes] = {out.name: b""}
    for file in (reader.file for reader in readers):
        content, there = file.path.read_bytes(), out.parent / file.path.name
        if file.digest != hashlib.sha256(content).hexdigest():
            raise ConfigError(f"{file.path} keeps weights in files beside it: save it as one file first")
        if contents.setdefault(there.name, content) != content or (there.is_file() and there.read_bytes() != content):
            raise ConfigError(f"{there} would be two files, {file.path} among them: give --out in another folder")
    return {name: content for name, content in contents.items() if content and not (out.parent / name).is_file()}


def main(words: Sequence[str] | None = None) -> None:
    """Export a control and print what was written."""
    parser = argparse.ArgumentParser(prog="python -m dvcc.control.deployed.onnx_export", description=main.__doc__)
    parser.add_argument("control", help="a .safetensors file that dvcc train control wrote")
    parser.add_argument(
        "--detector", metavar="NAME", action="append", default=[], help="reads x264's encode: an ONNX file, or a name of dvcc zoo"
    )
    parser.add_argument("--out", metavar="FILE", help="where to write (default, without --detector: beside it)")
    arguments = parser.parse_args(words)
    print(export(arguments.control, arguments.out, detectors=arguments.detector))


if __name__ == "__main__":
    sys.exit(guarded(main))
