"""An ONNX file as it is, run by onnxruntime: any operator set, no conversion. torch is not imported."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dvcc.errors import CheckpointError, ConfigError
from dvcc.networks.feed import Feed, NetworkOptions, canvas_size

PROBE = (64, 128)
"""Height and width of the pictures that a file of open size is tried on: networks halve them up to six times."""

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
_MOST_LETTERS = 200  # of what another library says
_AT_ONCE = 8  # pictures of an open batch: more only takes memory
_EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x80-\xff]*[\x00-\x7f])", re.DOTALL)
"""The key of an ONNX tensor that lies in another file, and the length of that file's name, seven bits a byte."""


class OnnxFile:
    """A network from an ONNX file whose first input is pictures, [N, 3, H, W] or [N, H, W, 3] (or one picture, without N).

    Inputs beside it that say how a picture lies on the canvas are given that it fills it: `orig_target_sizes` of DETR's family,
    (width, height) in the order of the exports of RT-DETR, D-FINE and DEIM; DETR's `pixel_mask`; PaddleDetection's `im_shape`
    (height, width) and `scale_factor`. threads: of onnxruntime; None: all cores. outputs: numbers of the outputs that it answers
    with, in order; all of them, unless a reader of the answers sets others. lone: whether answers to one picture get the axis of
    pictures that they lack; set by a reader of maps, whose first axis is never 1 by chance.

    Raises `CheckpointError` for a file that is missing, cannot be run, or has another input; `ConfigError` without onnxruntime.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        check_onnx(path)
        self.path = Path(path)
        self._session = _open(self.path, threads)
        inputs = self._session.get_inputs()
        self.takes = [_words(value) for value in inputs]
        pictures = [value for value in inputs if len(value.shape) in (3, 4) and value.type in _TYPES]
        beside = [value for value in inputs if value not in pictures]
        if len(pictures) != 1 or not all(map(_says_size, beside)):
            raise self._refused()
        self._input, self._beside = pictures[0], beside
        self.input_names = [value.name for value in inputs]
        self.dtype = _TYPES[self._input.type]
        shape = _sides(self._input.shape)
        self.batch = shape[0] if len(shape) == 4 else 1
        self.without_batch = len(shape) == 3
        shape = shape[-3:]
        if shape[0] == 3 or (shape[0] == 0 and shape[2] != 3):
            self.channels_last, self.fixed = False, (shape[1], shape[2])
        elif shape[2] == 3:
            self.channels_last, self.fixed = True, (shape[0], shape[1])
        else:
            raise self._refused()
        self.output_names = [value.name for value in self._session.get_outputs()]
        self.outputs = list(range(len(self.output_names)))
        self.one_by_one = self.batch == 1
        self.lone = False

    def canvas(self, picture: tuple[int, int], options: NetworkOptions, *, multiple: int) -> tuple[int, int]:
        """Height and width of what it sees of a picture (height, width). Raises `ConfigError` for a size that it has not."""
        if options.size and any(fixed and fixed != side for fixed, side in zip(self.fixed, options.size, strict=True)):
            raise ConfigError(f"{self.path} takes pictures of {self.fixed[0]}x{self.fixed[1]} alone: leave task.size out")
        return canvas_size(self.fixed, picture, options, multiple=multiple)

    def feed(self, usual: Feed) -> Feed:
        """How pictures are fed to it unless a user says otherwise: as is usual, but bytes as they are."""
        if self.dtype is not np.uint8:
            return usual
        return replace(usual, range=255.0, mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 1.0))

    def run(self, canvases: np.ndarray) -> list[np.ndarray]:
        """Its answers to float32 canvases (N, 3, H, W), already in its colours and range; floats as float32.

        Raises `CheckpointError` where it cannot be run, or answers NaN or infinity.
        """
        if self.one_by_one:
            parts = [self._run(canvases[i : i + 1]) for i in range(len(canvases))]
        else:
            count = self.batch or _AT_ONCE
            parts = [self._run(canvases[i : i + count]) for i in range(0, len(canvases), count)]
        return [np.concatenate(answers) if answers[1:] else answers[0] for answers in zip(*parts, strict=True)]

    def run_each(self, canvases: np.ndarray) -> list[list[np.ndarray]]:
        """Answers to every picture by itself, for a network whose answers have no axis of pictures.

        Where the network takes several pictures, it is given the picture and as many copies of it.
        """
        return [self._run(canvases[i : i + 1], cut=False) for i in range(len(canvases))]

    def beside(self, count: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return what its inputs beside the pictures are given for `count` canvases of a size (height, width), by name."""
        return {value.name: _size_said(value, count, size) for value in self._beside}

    def probe(self, canvases: np.ndarray) -> list[np.ndarray]:
        """Answers to two pictures. A file that says it takes many, and cannot, is run picture by picture from then on."""
        if not self.one_by_one:
            try:
                answers = self.run(canvases)
                if all(value.ndim and len(value) == len(canvases) for value in answers):
                    return answers
            except CheckpointError:
                if self.batch:
                    raise
            self.one_by_one = True
        return self.run(canvases)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's bytes, and of those of the files that it keeps weights in."""
        content = self.path.read_bytes()
        total = hashlib.sha256(content)
        for match in _EXTERNAL.finditer(content):
            length = sum((byte & 127) << (7 * place) for place, byte in enumerate(match[1]))
            name = content[match.end() : match.end() + length].decode(errors="replace")
            if (beside := self.path.parent / name).is_file():
                total.update(beside.read_bytes())
        return total.hexdigest()

    def _run(self, canvases: np.ndarray, *, cut: bool = True) -> list[np.ndarray]:
        """cut: leave the answers to what fills up a fixed batch out."""
        count, size = len(canvases), canvases.shape[2:]
        if self.batch > count:
            canvases = np.concatenate([canvases, np.repeat(canvases[-1:], self.batch - count, 0)])
        pictures = canvases.transpose(0, 2, 3, 1) if self.channels_last else canvases
        if self.dtype is np.uint8:
            pictures = np.rint(np.clip(pictures, 0, 255))
        given = {self._input.name: np.ascontiguousarray(pictures[0] if self.without_batch else pictures, self.dtype)}
        try:
            answers = self._session.run([self.output_names[i] for i in self.outputs], given | self.beside(len(canvases), size))
        except Exception as error:  # onnxruntime has a dozen types, none of which is exported
            raise CheckpointError(
                f"{self.path} cannot be run on pictures of {size[0]}x{size[1]} ({first_line(error)}): "
                "export it for those that it takes, or set task.size"
            ) from error
        named = zip((self.output_names[i] for i in self.outputs), answers, strict=True)
        cut = cut and self.batch > 1
        arrays = [self._checked(name, np.asarray(value)[:count] if cut else np.asarray(value)) for name, value in named]
        return [value[None] if self.lone and value.shape[:1] != (1,) else value for value in arrays]

    def _checked(self, name: str, value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        value = value.astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            what = "NaN" if np.isnan(value).any() else "infinity"
            raise CheckpointError(
                f"{self.path} answers {what} (output {name}), so nothing it says can be measured: export it again"
            )
        return value

    def _refused(self) -> CheckpointError:
        return CheckpointError(
            f"{self.path} takes {' and '.join(self.takes) or 'nothing'}: "
            "export it with one input of pictures, float or uint8 [1 or N, 3, H, W] or [1 or N, H, W, 3]"
        )


def _words(value: Any) -> str:
    """Return an input's name and shape, and its type where pictures cannot have it."""
    words = f"{value.name} {shape_words(_sides(value.shape))}"
    return words if value.type in _TYPES else f"{words} of {value.type.removeprefix('tensor(').removesuffix(')')}"


def _says_size(value: Any) -> bool:
    """Whether an input tells how pictures lie on the canvas."""
    rank, whole = len(value.shape), value.type == "tensor(int64)"
    return (rank == 2 and (whole or value.name in ("im_shape", "scale_factor"))) or (rank == 3 and whole)


def _size_said(value: Any, count: int, size: tuple[int, int]) -> np.ndarray:
    """Say that the pictures fill their canvases. size: height and width of these."""
    if len(value.shape) == 3:
        rows, columns = (side or own for side, own in zip(_sides(value.shape)[1:], size, strict=True))
        return np.ones((count, rows, columns), np.int64)
    if value.type == "tensor(int64)":
        return np.array([size[::-1]] * count, np.int64)
    return np.array([(1, 1) if value.name == "scale_factor" else size] * count, np.float32)


def _open(path: Path, threads: int | None) -> Any:
    import onnxruntime  # slow to import, and many commands open no file

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its warnings are about how it optimises; errors are raised as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see OnnxFile._run
        raise CheckpointError(
            f"{path} is no ONNX model that onnxruntime {onnxruntime.__version__} can read ({first_line(error)}): "
            "check that the file is complete, or export it for onnxruntime"
        ) from error


def check_onnx(path: str | Path) -> None:
    """Raise `CheckpointError` when there is no such file."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no ONNX file at {path}: set task.weights or task.model to its path")


def is_onnx(model: str) -> bool:
    """Whether the name of a model is the path of an ONNX file."""
    return model.lower().endswith(".onnx")


def probe_pictures(size: tuple[int, int]) -> np.ndarray:
    """Two RGB pictures 0..1, float32 (2, 3, *size): noise, and soft shapes."""
    rng = np.random.default_rng(0)
    noise = rng.random((3, *size), np.float32)
    rows, columns = (np.arange(side, dtype=np.float32) / side for side in size)
    waves = [np.sin((3 + k) * np.pi * rows)[:, None] * np.cos((2 + k) * np.pi * columns)[None] for k in range(3)]
    disc = ((rows - 0.5) ** 2)[:, None] + ((columns - 0.4) ** 2)[None] < 0.05
    shapes = np.stack([0.5 + 0.3 * wave + 0.2 * disc * (-1) ** k for k, wave in enumerate(waves)])
    return np.stack([noise, np.clip(shapes, 0, 1).astype(np.float32)])


def _sides(shape: Sequence[Any]) -> list[int]:
    """With 0 for what is left open."""
    return [side if isinstance(side, int) and side > 0 else 0 for side in shape]


def shape_words(shape: Sequence[int]) -> str:
    """[1, ?, 3]"""
    return f"[{', '.join(str(side) if side else '?' for side in shape)}]"


def first_line(error: Exception) -> str:
    """Return what an error of another library says, in one short line: its end, where the reason stands."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split()))
    return text if len(text) <= _MOST_LETTERS else f"..{text[-_MOST_LETTERS:]}"
