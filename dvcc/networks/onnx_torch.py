"""An ONNX file as a differentiable torch module, by onnx2torch, once it is shown to be the same network as onnxruntime's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dvcc._packaged import require
from dvcc.errors import CheckpointError
from dvcc.networks.onnx_file import OnnxFile, first_line

_TOLERANCE: dict[type, float] = {np.float16: 2e-2}  # half precision is cast to float for training, and rounds less then
_DEFAULT_TOLERANCE = 1e-3
_FLOAT, _HALF = 1, 10  # of onnx.TensorProto


class TorchNet(nn.Module):
    """What `OnnxFile.run` does, differentiable: canvases float32 (N, 3, H, W) to a list of answers."""

    def __init__(self, file: OnnxFile) -> None:
        super().__init__()
        self.net = _convert(file)
        self._input_names, self._beside = file.input_names, file.beside
        self._one_by_one, self._channels_last = file.one_by_one, file.channels_last
        self._batch, self._without_batch, self._outputs, self._lone = file.batch, file.without_batch, file.outputs, file.lone

    def forward(self, canvases: torch.Tensor) -> list[torch.Tensor]:
        if not self._one_by_one and self._batch <= 1:
            return self._run(canvases)
        step = max(1, self._batch)
        parts = [self._run(canvases[i : i + step]) for i in range(0, len(canvases), step)]
        return [torch.cat(answers)[: len(canvases)] for answers in zip(*parts, strict=True)]

    def _run(self, canvases: torch.Tensor) -> list[torch.Tensor]:
        if self._batch > len(canvases):
            canvases = torch.cat([canvases, canvases[-1:].expand(self._batch - len(canvases), -1, -1, -1)])
        pictures = canvases.permute(0, 2, 3, 1) if self._channels_last else canvases
        beside = self._beside(len(canvases), (canvases.shape[2], canvases.shape[3]))
        given = {name: torch.from_numpy(value).to(canvases.device) for name, value in beside.items()}
        shown = pictures[0] if self._without_batch else pictures
        answers = self.net(*(given.get(name, shown) for name in self._input_names))
        every = list(answers) if isinstance(answers, (tuple, list)) else [answers]
        wanted = [every[i] for i in self._outputs]
        return [value[None] if self._lone and value.shape[:1] != (1,) else value for value in wanted]


def _convert(file: OnnxFile) -> nn.Module:
    require("onnx2torch", wanted_by="a gradient through an ONNX file", extra="detection")
    import onnx
    from onnx2torch import convert

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it is unsure of, the comparison with onnxruntime decides
            graph = onnx.load(file.path)
            _to_float(graph)
            return convert(graph).eval().requires_grad_(False)
    except Exception as error:  # protobuf, onnx and onnx2torch each raise their own
        raise CheckpointError(
            f"{file.path} can be measured but not trained for: onnx2torch has no converter for it ({first_line(error)}); "
            "export it with opset 17 or lower and without post-processing, or give the torch module itself"
        ) from error


Read = Callable[[Sequence[Any], Any], Any]
"""Makes of answers of numpy or torch (the second argument) the one array that counts."""


class OnnxModule(nn.Module):
    """An ONNX file in a task: onnxruntime answers, as the file is; where a gradient is needed, onnx2torch's module does.

    canvases: two pictures as the network takes them, and read: what of their answers the two have to agree on.
    """

    def __init__(self, file: OnnxFile, *, canvases: np.ndarray, read: Read = lambda answers, _: answers[0]) -> None:
        super().__init__()
        self.file, self._canvases, self._read = file, canvases, read
        self._twin: list[TorchNet] = []  # no submodule: what a training stores of a task does not depend on it

    def forward(self, canvases: torch.Tensor) -> list[torch.Tensor]:
        """Answers to canvases float32 (N, 3, H, W)."""
        if torch.is_grad_enabled() and canvases.requires_grad:
            return self.differentiate().to(canvases.device)(canvases)
        return [torch.from_numpy(answer).to(canvases.device) for answer in self.file.run(canvases.detach().cpu().numpy())]

    def differentiate(self) -> TorchNet:
        """Return the torch module, made and compared with onnxruntime when it is first asked for.

        Raises `CheckpointError` with the largest difference, relative to the largest value, where it is another network.
        """
        if not self._twin:
            self._twin.append(_compared(self.file, self._canvases, self._read))
        return self._twin[0]

    def check_trainable(self) -> None:
        """Raise as `differentiate` does."""
        self.differentiate()


def _compared(file: OnnxFile, canvases: np.ndarray, read: Read) -> TorchNet:
    net = TorchNet(file)
    if file.dtype is np.uint8:
        canvases = np.rint(canvases)  # torch is given what lies between two bytes as it is: it needs a slope
    theirs = read(file.run(canvases), np)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = read(net(torch.from_numpy(canvases)), torch).numpy()
    except Exception as error:  # whatever its operations raise for a shape or a type
        raise CheckpointError(
            f"{file.path} can be measured but not trained for: onnx2torch's module cannot be run ({first_line(error)}); "
            "export it with opset 17, or give the torch module itself"
        ) from error
    scale = max(1e-6, float(np.abs(theirs).max()))
    difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    if not difference <= _TOLERANCE.get(file.dtype, _DEFAULT_TOLERANCE) * scale:
        raise CheckpointError(
            f"{file.path} can be measured but not trained for: onnx2torch's module is another network than onnxruntime's "
            f"(largest difference {difference:.3g} of values up to {scale:.3g}); export it with other options, or give the torch "
            "module itself"
        )
    return net


def _to_float(model: Any) -> None:
    """Half precision to single, in every place of an ONNX model where a type stands."""
    from onnx import numpy_helper

    def cast(tensor: Any) -> None:
        if tensor.data_type == _HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))

    for tensor in model.graph.initializer:
        cast(tensor)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == _HALF:
            value.type.tensor_type.elem_type = _FLOAT
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                cast(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _HALF:
                attribute.i = _FLOAT
