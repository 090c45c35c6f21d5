"""An ONNX network that finds the red rectangle of a picture exactly, and answers it in any layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvcc.networks.detectors import LAYOUTS
from dvcc.networks.feed import Feed

SIDE, CLASSES, LABEL, SCORE = 128, 3, 1, 0.9
CELL = 256 + 64 + 2 * 4 + 2  # of strides 8, 16, 32, 64: row 2, column 2 of stride 32
RED, GREY = (1.0, 0.0, 0.0), (0.35, 0.35, 0.35)

PICTURE = (120, 200)
BOX = (60, 40, 140, 90)
"""Height and width of the test picture, and left, top, right, bottom of its rectangle in pixels."""


def picture(box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = PICTURE) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    image = np.full((*size, 3), 90, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    return image


def shares(box: tuple[int, int, int, int] = BOX, size: tuple[int, int] = PICTURE) -> np.ndarray:
    """The rectangle as shares of the sides."""
    return np.array(box) / (size[1], size[0], size[1], size[0])


_FIND = """
  difference = Conv(picture, pick)
  mask = Greater(difference, threshold)
  red = Cast<to = 1>(mask)
  across = ReduceMax<axes = [1, 2], keepdims = 0>(red)
  down = ReduceMax<axes = [1, 3], keepdims = 0>(red)
  far_x = Mul(across, up)   far_y = Mul(down, up)
  near_x = Mul(across, back)   near_y = Mul(down, back)
  any = ReduceMax<axes = [1], keepdims = 1>(across)   room = Mul(any, side)
  x1 = ReduceMax<axes = [1], keepdims = 1>(far_x)   y1 = ReduceMax<axes = [1], keepdims = 1>(far_y)
  from_x = ReduceMax<axes = [1], keepdims = 1>(near_x)   from_y = ReduceMax<axes = [1], keepdims = 1>(near_y)
  x0 = Sub(room, from_x)   y0 = Sub(room, from_y)
  score = Mul(any, sure)
  width = Sub(x1, x0)   height = Sub(y1, y0)   sum_x = Add(x0, x1)   sum_y = Add(y0, y1)
  x = Mul(sum_x, half)   y = Mul(sum_y, half)
  none = Sub(score, score)
  xywh = Concat<axis = 1>(x, y, width, height)
  xyxy = Concat<axis = 1>(x0, y0, x1, y1)
  hot = Concat<axis = 1>(none, score, none)
"""

# From xywh, xyxy [1, 4], score [1, 1] and hot [1, 3] to the outputs; `rows` etc. are among the constants below.
_HEADS = {
    "ultralytics": """
  full = Concat<axis = 1>(xywh, hot)   column = Unsqueeze(full, two)   more = Transpose<perm = [0, 2, 1]>(rows7)
  out = Concat<axis = 2>(more, column)""",
    "yolov5": """
  full = Concat<axis = 1>(xywh, score, hot_one)   row = Unsqueeze(full, one)   out = Concat<axis = 1>(rows8, row)""",
    "yolox": """
  whole = Div(xywh, eight)   centre = Slice(whole, zero_, two_, one_)   sides = Slice(whole, two_, four_, one_)
  least = Max(sides, small)   logs = Log(least)   full = Concat<axis = 1>(centre, logs, score, hot_one)
  row = Unsqueeze(full, one)   out = Concat<axis = 1>(row, cells8)""",
    "end_to_end": """
  label = Add(none, label_value)   full = Concat<axis = 1>(xyxy, score, label)   row = Unsqueeze(full, one)
  out = Concat<axis = 1>(row, zeros6)""",
    "deim": """
  share = Div(xyxy, side)   size = Cast<to = 1>(orig_target_sizes)   sizes = Concat<axis = 1>(size, size)
  scaled = Mul(share, sizes)   row = Unsqueeze(scaled, one)   boxes = Concat<axis = 1>(row, zeros4)
  scores = Concat<axis = 1>(score, none)   label = Cast<to = 7>(score)   ones = Sub(label, label)
  first = Add(ones, label_int)   labels = Concat<axis = 1>(first, ones)""",
    "rfdetr": """
  share = Div(xywh, side)   row = Unsqueeze(share, one)   boxes = Concat<axis = 1>(row, halves4)
  fuzzy = Clip(hot, low, high)   rest = Sub(unit, fuzzy)   odds = Div(fuzzy, rest)   logit = Log(odds)
  first = Unsqueeze(logit, one)   logits = Concat<axis = 1>(first, cold3)""",
    "detr": """
  share = Div(xywh, side)   row = Unsqueeze(share, one)   boxes = Concat<axis = 1>(row, halves4, halves4)
  rest = Sub(unit, score)   all = Concat<axis = 1>(hot, rest)   fuzzy = Clip(all, low, high)   logit = Log(fuzzy)
  first = Unsqueeze(logit, one)   logits = Concat<axis = 1>(first, nothing, nothing)""",
    "rtdetr": """
  share = Div(xywh, side)   full = Concat<axis = 1>(share, hot)   row = Unsqueeze(full, one)
  out = Concat<axis = 1>(row, halves7)""",
    "nanodet": """
  away = Mul(xyxy, signs)   moved = Add(away, corner)   sides = Div(moved, stride)   spread = Unsqueeze(sides, two)
  apart = Sub(spread, bins)   far = Abs(apart)   share = Sub(unit, far)   weight = Relu(share)   some = Add(weight, tiny)
  logs = Log(some)   flat = Reshape(logs, flat_shape)   full = Concat<axis = 1>(hot, flat)   row = Unsqueeze(full, one)
  out = Concat<axis = 1>(before35, row, after35)""",
    "picodet": """
  away = Mul(xyxy, signs)   moved = Add(away, middle)   sides = Div(moved, stride)   spread = Unsqueeze(sides, two)
  apart = Sub(spread, bins)   far = Abs(apart)   share = Sub(unit, far)   weight = Relu(share)   some = Add(weight, tiny)
  logs = Log(some)   flat = Reshape(logs, flat_shape)   side_row = Unsqueeze(flat, one)   score_row = Unsqueeze(hot, one)
  s2 = Concat<axis = 1>(before3, score_row, after3)   d2 = Concat<axis = 1>(before32, side_row, after32)
  s0 = Identity(fine3)   s1 = Identity(middle3)   s3 = Identity(coarse3)
  d0 = Identity(fine32)   d1 = Identity(middle32)   d3 = Identity(coarse32)""",
    "fastestdet": """
  share = Div(xywh, side)   centre = Slice(share, zero_, two_, one_)   sides = Slice(share, two_, four_, one_)
  twice = Add(centre, centre)   free = Sub(twice, unit)   offset = Clip(free, lowest, high)
  above = Add(unit, offset)   below = Sub(unit, offset)
  ratio = Div(above, below)   log = Log(ratio)   place = Mul(log, half)
  rest = Sub(unit, sides)   odds_ = Max(rest, tiny)   shares_ = Max(sides, tiny)   odds = Div(shares_, odds_)   size = Log(odds)
  full = Concat<axis = 1>(score, place, size, hot)   cell = Unsqueeze(full, two)   four = Concat<axis = 2>(cold8, cell)
  out = Reshape(four, grid_shape)""",
    "torchvision": """
  boxes = Concat<axis = 0>(xyxy, low_box)   both = Concat<axis = 1>(score, none)   scores = Reshape(both, flat_two)
  labels = Identity(label_pair)""",
}
_HEADS["mmdetection"] = """
  scored = Concat<axis = 1>(xyxy, score)   row = Unsqueeze(scored, one)   dets = Concat<axis = 1>(row, padding5)
  label = Cast<to = 7>(score)   ones = Sub(label, label)   first = Add(ones, label_int)   rest = Sub(ones, one_)
  labels = Concat<axis = 1>(first, rest)"""
_HEADS["yolov7_end2end"] = """
  label = Add(none, label_value)   out = Concat<axis = 1>(none, xyxy, label, score)"""
_HEADS["yolox_decoded"] = _HEADS["yolov5"]
_HEADS["ultralytics_rows"] = """
  full = Concat<axis = 1>(xywh, hot)   row = Unsqueeze(full, one)   out = Concat<axis = 1>(rows7, row)"""
_HEADS["yolo_nas"] = """
  row = Unsqueeze(xyxy, one)   boxes = Concat<axis = 1>(row, corners4)   first = Unsqueeze(hot, one)
  scores = Concat<axis = 1>(first, zeros3)"""
# What is not counted is no box, whatever it says.
_HEADS["batched_nms"] = """
  row = Unsqueeze(xyxy, one)   boxes = Concat<axis = 1>(row, corners4)   scores = Concat<axis = 1>(score, sure_row)
  counts = Cast<to = 7>(any)   ones = Sub(counts, counts)   first = Add(ones, label_int)
  classes = Concat<axis = 1>(first, first)"""
_HEADS["flat_nms"] = """
  label = Add(none, label_value)   out = Concat<axis = 1>(none, xyxy, score, label)"""
_HEADS["paddle"] = """
  scale = Concat<axis = 1>(scale_factor, scale_factor)   found = Div(xyxy, scale)   label = Add(none, label_value)
  row = Concat<axis = 1>(label, score, found)   out = Concat<axis = 0>(row, no_row)   flat = Reshape(any, one)
  count = Cast<to = 6>(flat)"""
_HEADS["tensorflow"] = """
  share = Div(xyxy, side)   turned = Gather<axis = 1>(share, y_first)   row = Unsqueeze(turned, one)
  detection_boxes = Concat<axis = 1>(row, zeros4)   detection_scores = Concat<axis = 1>(score, none)
  label = Add(none, next_label)   detection_classes = Concat<axis = 1>(label, unit_row)
  raw = Concat<axis = 1>(row, halves4, halves4)   num_detections = Reshape(any, one)"""
_OUTPUTS = {
    "deim": "int64[1, 2] labels, float[1, 2, 4] boxes, float[1, 2] scores",
    "rfdetr": "float[1, 2, 4] boxes, float[1, 2, 3] logits",
    "detr": "float[1, 3, 4] boxes, float[1, 3, 4] logits",
    "mmdetection": "float[1, 2, 5] dets, int64[1, 2] labels",
    "torchvision": "float[2, 4] boxes, int64[2] labels, float[2] scores",
    "yolo_nas": "float[1, 2, 4] boxes, float[1, 2, 3] scores",
    "batched_nms": "int64[1, 1] counts, float[1, 2, 4] boxes, float[1, 2] scores, int64[1, 2] classes",
    "paddle": "float[n, 6] out, int32[1] count",
    "tensorflow": "float[1, 2, 4] detection_boxes, float[1, 2] detection_classes, float[1, 2] detection_scores, "
    "float[1] num_detections, float[1, 3, 4] raw",
    "picodet": ", ".join([*(f"float[1, n{i}, 3] s{i}" for i in range(4)), *(f"float[1, n{i}, 32] d{i}" for i in range(4))]),
}


def _constants(feed: Feed) -> dict[str, np.ndarray]:
    def fed(colour: tuple[float, float, float]) -> np.ndarray:
        return feed.normalised(np.array(colour, np.float32)[None, :, None, None], np)[0, :, 0, 0]

    red, other = (0, 1) if feed.colours == "rgb" else (2, 1)
    ends = [fed(colour)[red] - fed(colour)[other] for colour in (RED, GREY)]
    pick = np.zeros((1, 3, 1, 1), np.float32)
    pick[0, red], pick[0, other] = 1, -1
    values = {
        "pick": pick,
        "threshold": np.float32(sum(ends) / 2),
        "up": np.arange(1, SIDE + 1)[None],
        "back": np.arange(SIDE, 0, -1)[None],
        "side": SIDE,
        "sure": SCORE,
        "half": 0.5,
        "unit": 1.0,
        "low": 1e-4,
        "lowest": 1e-4 - 1,
        "high": 1 - 1e-4,
        "tiny": 1e-6,
        "small": 0.01,
        "eight": 8.0,
        "stride": 32.0,
        "label_value": float(LABEL),
        "hot_one": np.eye(CLASSES)[LABEL][None],
        "signs": np.array([[-1, -1, 1, 1]]),
        "corner": 64 * np.array([[1, 1, -1, -1]]),
        "middle": 80 * np.array([[1, 1, -1, -1]]),
        "bins": np.arange(8)[None, None],
        "rows7": np.array([[[20, 20, 10, 10, 0, 0, 0]] * 2]),
        "rows8": np.array([[[20, 20, 10, 10, 0, 0, 0, 0]] * 2]),
        "cells8": np.zeros((1, 335, 8)),
        "zeros6": np.zeros((1, 1, 6)),
        "padding5": np.array([[[-1, -1, -1, -1, 0]]]),
        "zeros4": np.zeros((1, 1, 4)),
        "halves4": np.full((1, 1, 4), 0.5),
        "halves7": np.array([[[0.5, 0.5, 0.5, 0.5, 0, 0, 0]]]),
        "corners4": np.array([[[10, 10, 30, 30]]]),
        "zeros3": np.zeros((1, 1, 3)),
        "sure_row": np.full((1, 1), 0.8),
        "no_row": np.array([[-1, 0, 0, 0, 0, 0]]),
        "next_label": LABEL + 1.0,
        "unit_row": np.ones((1, 1)),
        "cold3": np.full((1, 1, 3), -9.0),
        "nothing": np.array([[[-9, -9, -9, 9]]]),
        "cold8": np.array([[[0], [0], [0], [0], [0], [0], [0], [0]]] * 1).repeat(3, 2),
        "low_box": np.zeros((1, 4)),
        "before35": np.full((1, CELL, 35), 0.0) + np.r_[np.zeros(3), -np.arange(32)],
        "after35": np.full((1, 340 - CELL - 1, 35), 0.0) + np.r_[np.zeros(3), -np.arange(32)],
    }
    for name, width in (("3", 3), ("32", 32)):
        values |= {f"fine{name}": np.zeros((1, 256, width)), f"middle{name}": np.zeros((1, 64, width))}
        values |= {f"before{name}": np.zeros((1, 10, width)), f"after{name}": np.zeros((1, 5, width))}
        values |= {f"coarse{name}": np.zeros((1, 4, width))}
    floats = {name: np.asarray(value, np.float32) for name, value in values.items()}
    whole = {"one": [1], "two": [2], "zero_": [0], "one_": [1], "two_": [2], "four_": [4], "flat_shape": [1, 32]}
    whole |= {"y_first": [1, 0, 3, 2]}
    whole |= {"grid_shape": [1, 8, 2, 2], "flat_two": [2], "label_pair": [LABEL + 1, 0], "label_int": [[LABEL]]}
    return floats | {name: np.asarray(value, np.int64) for name, value in whole.items()}


def write_finder(path: Path, layout: str, *, feed: Feed | None = None, half: bool = False) -> Path:
    """The network of a layout, for pictures fed as `feed` (None: as the layout's are). half: in half precision."""
    import onnx
    from onnx import numpy_helper, parser

    head = _HEADS[layout]
    inputs = f"float[1, 3, {SIDE}, {SIDE}] picture"
    if layout == "deim":
        inputs += ", int64[1, 2] orig_target_sizes"
    if layout == "paddle":
        inputs = f"float[1, 2] im_shape, {inputs}, float[1, 2] scale_factor"
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
finder ({inputs}) => ({_OUTPUTS.get(layout, "float out")})
{{{_FIND}{head}
}}"""
    model = parser.parse_model(text)
    if layout not in _OUTPUTS:  # no shape is declared
        model.graph.output[0].type.tensor_type.ClearField("shape")
    used = {name for node in model.graph.node for name in node.input}
    for name, value in _constants(feed or LAYOUTS[layout].feed).items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    if half:
        _to_half(model)
    onnx.save(model, path)
    return path


def _to_half(model) -> None:
    """As exporters do: every float of the file in half precision."""
    from onnx import TensorProto, numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
