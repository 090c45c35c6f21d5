"""Small ONNX segmenters of every form: one convolution that tells reds, greens and blues apart, and what follows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = 3

_TYPES = {"argmax": "int64", "lone_labels": "int64", "one_mask": "bool"}

_TAILS = {
    "logits": "out = Identity(map)",
    "softmax": "out = Softmax<axis = 1>(map)",
    "nhwc": "out = Transpose<perm = [0, 2, 3, 1]>(map)",
    "argmax": "out = ArgMax<axis = 1, keepdims = 1>(map)",
    "nan": "out = Log(map)",
    "one": "out = Sub(red, green)",
    "one_mask": "out = Greater(red, green)",
    "lone": "out = Squeeze(map, first)",
    "lone_labels": "labels = ArgMax<axis = 1, keepdims = 0>(map)   out = Squeeze(labels, first)",
    "one_sigmoid": "logit = Sub(red, green)   out = Sigmoid(logit)",
    "leaky": "out = LeakyRelu<alpha = ALPHA>(map)",
    "asymmetric": """out = Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">(map, none, scales)""",
    "infinite": "out = Div(map, zero)",
}


def write_segmenter(
    path: Path,
    form: str = "logits",
    *,
    size: tuple[int, int] | None = None,
    stride: int = 4,
    alpha: float = 0.1,
    seed: int = 0,
    opset: int = 17,
    half: bool = False,
    batch: int | str = "n",
) -> Path:
    """The network of a form, for pictures of any size, or of one. Its weights depend on the seed alone."""
    import onnx
    from onnx import TensorProto, numpy_helper, parser

    sides = f"{size[0]}, {size[1]}" if size else "H, W"
    kind = "float16" if half else "float"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
segmenter ({kind}[{batch}, 3, {sides}] picture) => ({_TYPES.get(form, kind)} out)
{{
  map = Conv<strides = [{stride}, {stride}]>(picture, weight)
  {_TAILS[form].replace("ALPHA", str(alpha))}
}}"""
    if form.startswith("one"):
        text = text.replace("(picture, weight)\n", "(picture, weight)\n  red, green, blue = Split<axis = 1>(map, parts)\n")
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    rng = np.random.default_rng(seed)
    weight = (rng.normal(0, 0.05, (CLASSES, 3, stride, stride)) + 0.5 * np.eye(3)[:, :, None, None]).astype(np.float32)
    values = {"weight": weight, "none": np.zeros(0, np.float32), "zero": np.zeros(1, np.float32)}
    values["scales"] = np.array([1, 1, 2, 2], np.float32)
    if form.startswith("one"):
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1]), "parts"))
    if form.startswith("lone"):
        model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    used = {name for node in model.graph.node for name in node.input}
    for name, value in values.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float16) if half else value, name))
    assert TensorProto.FLOAT == 1
    onnx.save(model, path)
    return path
