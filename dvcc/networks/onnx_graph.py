"""ONNX graphs written node by node: it takes milliseconds, and the same weights give the same bytes with every PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

_OPSET, _IR_VERSION = 18, 9  # what onnxruntime 1.20 reads

Shapes = Mapping[str, Sequence[int | str]]
"""By name of an input or output: its sides, or words for those that are open."""


class Graph:
    """Nodes that are added one after the other; every one has one output, whose name `add` returns."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node. name: of its output."""
        output = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, values: torch.Tensor | np.ndarray | float | Sequence[int]) -> str:
        """Add a constant; floats are float32."""
        array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(self, x: str, layer: nn.Module, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None) -> str:
        """Add a convolution as of `layer`, with its own weights or others."""
        assert isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str)
        weight, bias = layer.weight if weight is None else weight, layer.bias if bias is None else bias
        pads = [*layer.padding, *layer.padding]
        shape: dict[str, Any] = {"strides": layer.stride, "dilations": layer.dilation, "pads": pads, "group": layer.groups}
        return self.add("Conv", x, *(self.constant(values) for values in (weight, bias) if values is not None), **shape)

    def linear(self, x: str, layer: nn.Module) -> str:
        """Add a linear layer."""
        assert isinstance(layer, nn.Linear)
        return self.add("Gemm", x, self.constant(layer.weight), self.constant(layer.bias), transB=1)

    def silu(self, x: str) -> str:
        """Add x times its sigmoid."""
        return self.add("Mul", x, self.add("Sigmoid", x))

    def scaled(self, x: str, *, less: float, over: float) -> str:
        """Add (x - less) / over."""
        return self.add("Mul", self.add("Sub", x, self.constant(float(less))), self.constant(1 / over))

    def part(self, x: str, start: int, stop: int, *, axis: int) -> str:
        """Add a slice along an axis."""
        ends = (self.constant(np.array([place])) for place in (start, stop, axis))
        return self.add("Slice", x, *ends)

    def model(self, name: str, inputs: Shapes, outputs: Shapes) -> Any:
        """Return the graph as a model with these inputs and outputs, all float32."""
        given, answers = (
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, list(shape)) for value, shape in shapes.items()]
            for shapes in (inputs, outputs)
        )
        return helper.make_model(
            helper.make_graph(self.nodes, name, given, answers, self.constants),
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="dvcc",
        )
