"""Eyes: a pretrained network, frozen, that looks at a reduced picture, and what it says of every macroblock.

onnxruntime runs it in a training and in `dvcc encode` alike, so a control is deployed on the very planes it learned from. torch
is not imported.
"""

from __future__ import annotations

import hashlib
from abc import ABC as AbstractBase
from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dvcc._source import source_digest
from dvcc.clip import Clip, Matrix, frame_to_rgb, planar_frame
from dvcc.control.eyes.painting import paint, sure_of, turned
from dvcc.errors import CheckpointError, ConfigError
from dvcc.media.format import Planes
from dvcc.networks.detectors.base import Boxes
from dvcc.units import MACROBLOCK, macroblock_grid

SIDE, _MULTIPLE = 320, 32
"""Pixels of the longer side of what eyes are shown, and what both sides are multiples of."""

_GRAPH_TAG, _OUTPUT_TAG, _NAME_TAG = b"\x3a", b"\x62", b"\x0a"  # ModelProto.graph, GraphProto.output, ValueInfoProto.name


class Scores(NamedTuple):
    """Between which a painted value rises from 0 to 1."""

    unsure: float
    sure: float


SCORES = Scores(0.2, 0.4)
"""Those of the published rule (checkpoints/objects.json) when the first control was trained on them; a trained control needs the
same ones."""


class Look(NamedTuple):
    """What a network made of one picture.

    boxes: of objects, None from a network that has none. maps: float32 (C, rows, columns), each over the whole picture.
    """

    boxes: Boxes | None
    maps: list[np.ndarray]


class Eyes(AbstractBase):
    """One pretrained network. A member says which file it is, how it is fed, and what of its answers and features counts.

    model: the bytes of its ONNX file. features: which of `choices`; None: the first. every: frames from one look to the next in
    a deployed control; a training looks at every frame. Raises `ConfigError` for unknown features, `CheckpointError` for a file
    that is no ONNX model.

    name: for `eyes.name`. file: of the ONNX file that lies beside a control. choices: names of values inside the network by
    what `eyes.features` calls them. answers: names of its outputs. answer_planes, channels: how many planes come from its
    answers, and from each choice of features. gains: by which the features of a choice are multiplied, to be about 1. segments:
    whether the first map of a look is how probable each class is.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    answers: ClassVar[tuple[str, ...]]
    answer_planes: ClassVar[int]
    choices: ClassVar[Mapping[str, tuple[str, ...]]]
    channels: ClassVar[Mapping[str, int]]
    gains: ClassVar[Mapping[str, float]]
    segments: ClassVar[bool] = False

    def __init__(self, model: bytes, *, features: str | None = None, every: int = 1) -> None:
        if features is not None and features not in self.choices:
            raise ConfigError(f"eyes.features of {self.name} are {', '.join(self.choices)}, got {features!r}")
        self.features, self.every = features or next(iter(self.choices)), every
        self.sha256 = hashlib.sha256(model).hexdigest()
        self._inner = self.choices[self.features]
        self._session = open_session(with_outputs(model, self._inner), name=self.file)
        self._input = self._session.get_inputs()[0].name
        self._model = model

    def __reduce__(self) -> tuple[Any, ...]:  # sessions do not pickle, and eyes travel to workers
        return partial(type(self), self._model, features=self.features, every=self.every), ()

    @classmethod
    @abstractmethod
    def make_file(cls, folder: Path) -> Path:
        """Return the path of the ONNX file to train with, written into `folder` unless it is published as it is.

        Raises `CheckpointError` when the weights are missing.
        """

    @abstractmethod
    def normalised(self, pictures: np.ndarray) -> np.ndarray:
        """Return RGB pictures uint8 (N, 3, H, W) as the network takes them, float32."""

    @abstractmethod
    def read(self, answers: list[np.ndarray], size: tuple[int, int]) -> Look:
        """Return what the network's outputs (one picture each) say of a picture of (height, width) pixels, without features."""

    @property
    def num_planes(self) -> int:
        """Return the number of planes per picture, E."""
        return self.answer_planes + self.channels[self.features]

    @property
    def settings(self) -> dict[str, Any]:
        """What a control stores of its eyes, for `load_eyes`."""
        stored = {"name": self.name, "features": self.features, "every": self.every}
        return {**stored, "file": self.file, "sha256": self.sha256}

    @property
    def key(self) -> tuple[str, ...]:
        """What its planes of a clip depend on besides the clip."""
        return self.name, self.features, self.sha256, _source()

    def look(self, rgb: np.ndarray) -> Look:
        """Look at an upright RGB picture, uint8 (H, W, 3), sides in multiples of 32."""
        given = {self._input: self.normalised(np.ascontiguousarray(rgb.transpose(2, 0, 1))[None])}
        outputs = self._session.run([*self.answers, *self._inner], given)
        count = len(self.answers)
        boxes, maps = self.read(outputs[:count], (rgb.shape[0], rgb.shape[1]))
        gain = np.float32(self.gains[self.features])
        return Look(boxes, [*maps, *(inner[0] * gain for inner in outputs[count:])])

    def planes(self, picture: Planes, *, matrix: Matrix, full_range: bool, quarter_turns: int = 0) -> np.ndarray:
        """float32 (E, h, w): what is seen in a 4:2:0 picture, for its (h, w) grid of macroblocks.

        The picture is scaled down first (`shown_size`), and turned anticlockwise by so many quarters, as a player does.
        """
        height, width = picture[0].shape
        size = shown_size(height, width)
        rgb = frame_to_rgb(planar_frame(*picture), matrix=matrix, full_range=full_range, size=size)
        return self.on_grid(self.look(np.rot90(rgb, quarter_turns)), height, width, quarter_turns=quarter_turns)

    def on_grid(self, look: Look, height: int, width: int, *, quarter_turns: int = 0) -> np.ndarray:
        """float32 (E, h, w): a look at the picture turned by so many quarters, for the grid of the picture as it is coded."""
        boxes, maps = look
        maps = [np.rot90(values, -quarter_turns, (-2, -1)) for values in maps]
        resampled = [to_grid(values, height, width) for values in maps]
        painted = []
        if boxes is not None:
            painted = [paint(turned(boxes, quarter_turns), sure_of(boxes, SCORES), height, width)[None]]
        return np.concatenate([*painted, *resampled])

    def clip_planes(self, clip: Clip) -> np.ndarray:
        """float16 (T, E, h, w): what is seen in every frame of a clip."""
        planes = partial(self.planes, matrix=clip.matrix, full_range=clip.full_range)
        return np.stack([planes(picture).astype(np.float16) for picture in zip(clip.y, clip.u, clip.v, strict=True)])


def shown_size(height: int, width: int, *, side: int = SIDE) -> tuple[int, int]:
    """Return the height and width that eyes, or the rule's detector, see of a picture.

    Its longer side is scaled down to `side`, and both are whole multiples of 32.
    """
    factor = min(1.0, side / max(height, width))
    rows, columns = (max(_MULTIPLE, round(length * factor / _MULTIPLE) * _MULTIPLE) for length in (height, width))
    return rows, columns


def to_grid(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 (C, h, w): maps (C, rows, columns) over a picture of height x width pixels, on its grid of macroblocks.

    Bilinear where the grid is finer than the maps; where it is coarser, the triangle of weights is as wide as two macroblocks.
    """
    rows, columns = macroblock_grid(height, width)
    down, across = _weights(values.shape[1], rows, height), _weights(values.shape[2], columns, width)
    return np.ascontiguousarray(down @ values @ across.T, dtype=np.float32)


@lru_cache(maxsize=64)
def _weights(before: int, after: int, length: int) -> np.ndarray:
    """float32 (after, before): what each macroblock along a side of `length` pixels takes of each cell of a map."""
    step = MACROBLOCK * before / length  # cells per macroblock
    centre = np.clip((np.arange(after) + 0.5) * step - 0.5, 0, before - 1)
    weights = np.clip(1 - np.abs(centre[:, None] - np.arange(before)) / max(1.0, step), 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def open_session(model: bytes, *, name: str) -> Any:
    """Return an onnxruntime session of one thread: the encoder's threads need the cores. Raises `CheckpointError`."""
    import onnxruntime  # an encode without a network starts 50 ms earlier

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises half a dozen unrelated types
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{name} is no ONNX file that can be run ({reason}): copy or train it again") from error


def with_outputs(model: bytes, names: tuple[str, ...]) -> bytes:
    """Return an ONNX file with values inside it as further outputs.

    Messages of protobuf, one after the other, are read as one, with the items of their lists joined. So the file needs no
    parsing, and the core no package `onnx`.
    """
    outputs = b"".join(_field(_OUTPUT_TAG, _field(_NAME_TAG, name.encode())) for name in names)
    return model + _field(_GRAPH_TAG, outputs) if names else model


def _field(tag: bytes, content: bytes) -> bytes:
    """Return a field of bytes in protobuf's wire format."""
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return tag + size + bytes([length]) + content


@lru_cache(maxsize=1)
def _source() -> str:
    within = ("dvcc.control.eyes", "dvcc.networks.detectors", "dvcc.networks.feed", "dvcc.clip")
    return source_digest("dvcc.control.eyes", within=within)
