"""EfficientViT-B0 as an ONNX graph, node by node, with its features as further outputs.

Batch norms become part of their convolutions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from dvcc.errors import ConfigError
from dvcc.networks.efficientvit import (
    EPSILON,
    HEAD_DIM,
    WIDTHS,
    Attention,
    Attentive,
    Conv,
    EfficientViT,
    Ops,
    Plain,
    Residual,
)
from dvcc.networks.onnx_graph import Graph

_BICUBIC: dict[str, Any] = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}
_FEATURES = {1: "stride_8", 2: "stride_16", 3: "stride_32"}  # by stage


@torch.no_grad()
def to_onnx(net: nn.Module) -> bytes:
    """Return the ONNX file of a network.

    From "images" (N, 3, H, W), ImageNet-normalised RGB, to "logits" and "stride_8", "stride_16" and "stride_32". Raises
    `ConfigError` for another network.
    """
    if not isinstance(net, EfficientViT):
        raise ConfigError(f"eyes efficientvit_b0 are an EfficientViT, got {type(net).__name__}: give its weights")
    graph = Graph()
    backbone, head = net.backbone, net.head
    x, stages = _ops(graph, backbone.input_stem, "images"), []
    for block in backbone.stages:
        x = _ops(graph, block, x)
        stages.append(x)
    fine = _conv(graph, head.input_ops[2], stages[1])
    for op, stage, factor in zip(head.input_ops, (stages[3], stages[2]), (4.0, 2.0), strict=False):
        scales = graph.constant(np.array([1, 1, factor, factor], np.float32))
        fine = graph.add("Add", fine, graph.add("Resize", _ops(graph, op, stage), "", scales, **_BICUBIC))
    logits = _ops(graph, head.output_ops[0], _ops(graph, head.middle, fine))
    outputs = {"logits": logits, **{name: stages[stage] for stage, name in _FEATURES.items()}}
    for name, value in outputs.items():
        graph.add("Identity", value, name=name)
    widths = [net.num_classes, *WIDTHS[1:]]
    shapes: dict[str, list[int | str]] = {
        name: ["pictures", width, f"{name}_rows", f"{name}_columns"] for name, width in zip(outputs, widths, strict=True)
    }
    model = graph.model("efficientvit_b0", {"images": ["pictures", 3, "height", "width"]}, shapes)
    return model.SerializeToString(deterministic=True)


def _ops(graph: Graph, block: nn.Module, x: str) -> str:
    """Add a block, whichever it is."""
    if isinstance(block, Ops):
        for part in block.op_list:
            x = _ops(graph, part, x)
        return x
    if isinstance(block, Conv):
        return _conv(graph, block, x)
    if isinstance(block, Residual):
        return graph.add("Add", x, _ops(graph, block.main, x))
    if isinstance(block, Plain):
        return _ops(graph, block.main, x)
    if isinstance(block, Attentive):
        return _ops(graph, block.local_module, _ops(graph, block.context_module, x))
    if isinstance(block, Attention):
        return _attention(graph, block, x)
    for part in block.children():  # of a separable or inverted bottleneck, one after another
        x = _ops(graph, part, x)
    return x


def _conv(graph: Graph, block: nn.Module, x: str) -> str:
    """Add a convolution with its norm and activation."""
    assert isinstance(block, Conv)
    weight, bias = block.conv.weight, block.conv.bias
    if (norm := block.norm) is not None:
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = weight * scale[:, None, None, None]
        bias = norm.bias + (0.0 if bias is None else bias * scale) - norm.running_mean * scale
    x = graph.conv(x, block.conv, weight, bias)
    return graph.add("HardSwish", x) if block.act else x


def _attention(graph: Graph, block: Attention, x: str) -> str:
    """Add linear attention: every cell is the mean of all values, weighted by relu(query) . relu(key)."""
    qkv = _conv(graph, block.qkv, x)
    wide = qkv
    for layer in block.aggreg[0].children():  # 5x5 depthwise, then 1x1 in groups
        assert isinstance(layer, nn.Conv2d)
        wide = graph.conv(wide, layer)
    both = graph.add("Concat", qkv, wide, axis=1)
    heads = graph.add("Reshape", both, graph.constant(np.array([0, block.num_heads, 3 * HEAD_DIM, -1])))
    query, key = (graph.add("Relu", graph.part(heads, i * HEAD_DIM, (i + 1) * HEAD_DIM, axis=2)) for i in range(2))
    value = graph.part(heads, 2 * HEAD_DIM, 3 * HEAD_DIM, axis=2)
    weighted = graph.add("MatMul", graph.add("MatMul", value, graph.add("Transpose", key, perm=[0, 1, 3, 2])), query)
    sums = graph.add("ReduceSum", key, graph.constant(np.array([3])), keepdims=1)
    total = graph.add("ReduceSum", graph.add("Mul", sums, query), graph.constant(np.array([2])), keepdims=1)
    mean = graph.add("Div", weighted, graph.add("Add", total, graph.constant(EPSILON)))
    sides = graph.part(graph.add("Shape", qkv), 2, 4, axis=0)
    shape = graph.add("Concat", graph.constant(np.array([0, HEAD_DIM * block.num_heads])), sides, axis=0)
    return _conv(graph, block.proj, graph.add("Reshape", mean, shape))
