"""Pictures from Python: an iterator of arrays, coded as they come."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

import av
import numpy as np

from dvcc.clip import SWSCALE_MATRIX, Matrix, frame_to_planar
from dvcc.codecs.passes import code
from dvcc.codecs.retarget import RetargetedEncoder
from dvcc.codecs.stats import EncodeStats
from dvcc.control.deployed.runtime import Control
from dvcc.encoding.live import Asked, LiveResult, live_codec
from dvcc.encoding.target import LiveTarget
from dvcc.errors import ConfigError, VideoError
from dvcc.media.damage import Damage
from dvcc.media.format import Planes, SourceFrame, VideoFormat
from dvcc.media.output import WholeFile, check_output
from dvcc.media.source import VideoSource
from dvcc.rate_control.objects import Objects
from dvcc.rate_control.offsets import begin_offsets

Pixels = Literal["bgr", "rgb", "yuv420p"]
_LEAST_SIDE = 16
Picture = np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]
"""uint8 (H, W, 3) of "bgr", as OpenCV has it, or "rgb"; of "yuv420p" the planes (H, W) and twice (H/2, W/2), or all below one
another as OpenCV has them, (3H/2, W)."""


@dataclass(frozen=True)
class EncodedPacket:
    """A coded picture as an Annex B stream has it, parameter sets in front of key frames. frame: which of the pictures it is."""

    data: bytes
    frame: int
    is_keyframe: bool


@overload
def encode(
    frames: Iterable[Picture],
    *,
    fps: float | Fraction,
    target_kbps: float | LiveTarget,
    pixels: Pixels,
    out: None = None,
    control: Control | Objects | None = None,
    codec: str = "x264",
    preset: str = "medium",
    gop: int | None = None,
    threads: int | None = None,
) -> Iterator[EncodedPacket]: ...
@overload
def encode(
    frames: Iterable[Picture],
    *,
    fps: float | Fraction,
    target_kbps: float | LiveTarget,
    pixels: Pixels,
    out: str | Path,
    control: Control | Objects | None = None,
    codec: str = "x264",
    preset: str = "medium",
    gop: int | None = None,
    threads: int | None = None,
) -> LiveResult: ...
def encode(
    frames: Iterable[Picture],
    *,
    fps: float | Fraction,
    target_kbps: float | LiveTarget,
    pixels: Pixels,
    out: str | Path | None = None,
    control: Control | Objects | None = None,
    codec: str = "x264",
    preset: str = "medium",
    gop: int | None = None,
    threads: int | None = None,
) -> Iterator[EncodedPacket] | LiveResult:
    """Code pictures in one pass with a buffer of a second, as `encode_live` does, and hold no more than a few of them.

    frames: at `fps`, all of one size; an odd last row or column is left out. pixels: what the arrays are, which their shape does
    not tell. target_kbps: on average, or what says it for every frame. out: a file, which appears whole, .mp4, .mov, .mkv or
    .ts; None: the packets, as soon as each is ready, in coding order. control: what decides offsets, as `load_objects()` or
    `load_control(PATH)`; None: the encoder alone. gop, threads: None is what `live_codec` chooses.

    Raises `ConfigError` for pictures of another type or shape, and for a target out of reach; `VideoError` for none at all;
    `CodecError` when the encoder fails; `DvccError` when the file cannot be written. Packets raise when they are asked for.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    if rate <= 0:
        raise ConfigError(f"fps must be positive, got {fps}")
    if pixels not in ("bgr", "rgb", "yuv420p"):
        raise ConfigError(f"pixels={pixels!r} is none of bgr (as OpenCV has them), rgb and yuv420p: say what the arrays are")
    path = Path("frames" if out is None else out)
    if out is not None:
        check_output(path, path)
    run = _Run(path, rate, target_kbps, pixels, control, codec, preset, gop, threads)
    return run.packets(frames) if out is None else run.to_file(frames)


@dataclass
class _Run:
    path: Path
    fps: Fraction
    target: float | LiveTarget
    pixels: Pixels
    control: Control | Objects | None
    codec: str
    preset: str
    gop: int | None
    threads: int | None

    def _begin(self, frames: Iterable[Picture]) -> Iterator[Planes]:
        """All pictures as planes. Looks at the first, and sets up what depends on its size."""
        pictures = iter(frames)
        try:
            first = next(pictures)
        except StopIteration:
            raise VideoError("there is no frame to encode: the iterator was empty") from None
        planes = planes_of(first, self.pixels, 0)
        height, width = planes[0].shape
        matrix: Matrix = "bt601"
        picture = VideoFormat(height, width, self.fps, 1 / self.fps, int(SWSCALE_MATRIX[matrix]))
        self.source = VideoSource(self.path, 0, picture, matrix, None, 0, (), by_number=True)
        self.asked = Asked(self.target)
        self.asked.check(self.source)
        self.chosen = live_codec(self.codec, self.preset, self.fps, gop=self.gop, threads=self.threads)
        self.generator = begin_offsets(self.control, self.source, self.asked.kbps, self.chosen)
        return chain([planes], self._checked(pictures, planes))

    def _checked(self, pictures: Iterator[Picture], first: Planes) -> Iterator[Planes]:
        for number, picture in enumerate(pictures, 1):
            planes = planes_of(picture, self.pixels, number)
            if planes[0].shape != first[0].shape:
                sizes = " and ".join("x".join(map(str, shape[::-1])) for shape in (planes[0].shape, first[0].shape))
                raise ConfigError(f"frames 0 and {number} have different sizes ({sizes}): scale them to one")
            yield planes

    def _decided(self, pictures: Iterator[Planes]) -> Iterator[tuple[SourceFrame, np.ndarray | None]]:
        for number, planes in enumerate(pictures):
            frame = SourceFrame(planes, number)
            if self.asked.again(self.source) and self.generator is not None:
                self.generator.retarget(self.asked.kbps)
            yield frame, None if self.generator is None else self.generator.generate_next(frame)

    def packets(self, frames: Iterable[Picture]) -> Iterator[EncodedPacket]:
        """Code them, and give each as soon as it is ready."""
        pictures = self._begin(frames)
        with av.open(os.devnull, "w", format="mpegts") as container:  # a stream whose headers are in its packets
            mapped = self.generator is not None
            encoder = RetargetedEncoder(self.chosen, container, self.asked.rate, self.source.picture, mapped=mapped)
            for frame, values in self._decided(pictures):
                yield from map(_packet, encoder.encode(frame.planes, frame.pts, values))
            yield from map(_packet, encoder.flush())

    def to_file(self, frames: Iterable[Picture]) -> LiveResult:
        """Code them into the file."""
        began, damage, pictures = time.monotonic(), Damage(), self._begin(frames)
        output = WholeFile(self.path, self.source, damage.corrections)
        with output:
            stats = code(
                self.chosen,
                self.asked.rate,
                self.source.picture,
                self._decided(pictures),
                output.container,
                EncodeStats(None, self.chosen, qps=True),
                mapped=self.generator is not None,
                mux=output.mux,
            )
        output.publish()
        decided, notes = self.generator.words() if self.generator else "", tuple(self.asked.sentences())
        return LiveResult(stats, self.asked.mean_kbps, self.asked.num_targets, time.monotonic() - began, damage, notes, decided)


def _packet(packet: av.Packet[Any]) -> EncodedPacket:
    assert packet.pts is not None
    return EncodedPacket(bytes(packet), packet.pts, packet.is_keyframe)


def planes_of(picture: Picture, pixels: Pixels, number: int) -> Planes:
    """4:2:0 planes of a picture, limited-range BT.601 where it is RGB; number: of the picture, for the error.

    Raises `ConfigError` for another type or shape.
    """
    if pixels == "yuv420p":
        y, u, v = _stored_planes(picture, number)
    else:
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ConfigError(f"frame {number} is {_described(picture)}, and {pixels} is uint8 (H, W, 3)")
        planar, _, _ = frame_to_planar(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=f"{pixels}24"), None)
        y, u, v = (
            np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in planar.planes
        )
    height, width = y.shape[0] // 2 * 2, y.shape[1] // 2 * 2
    if min(height, width) < _LEAST_SIDE:
        raise ConfigError(f"frame {number} is {y.shape[1]}x{y.shape[0]}, and the least is {_LEAST_SIDE}x{_LEAST_SIDE}")
    return y[:height, :width], u[: height // 2, : width // 2], v[: height // 2, : width // 2]


def _stored_planes(picture: Picture, number: int) -> Planes:
    """Return the planes of "yuv420p", copied: whoever gives them may use the memory for the next picture."""
    if isinstance(picture, np.ndarray) and picture.ndim == 2 and picture.shape[0] % 3 == 0 and picture.shape[1] % 2 == 0:
        height, width = picture.shape[0] * 2 // 3, picture.shape[1]
        chroma = picture[height:].reshape(2, height // 2, width // 2)
        picture = picture[:height], chroma[0], chroma[1]
    if isinstance(picture, tuple) and len(picture) == 3 and all(isinstance(p, np.ndarray) and p.ndim == 2 for p in picture):
        half = tuple(side // 2 for side in picture[0].shape)
        if all(p.dtype == np.uint8 for p in picture) and picture[1].shape == picture[2].shape == half:
            return picture[0].copy(), picture[1].copy(), picture[2].copy()
    raise ConfigError(
        f"frame {number} is {_described(picture)}, and yuv420p is uint8 (3H/2, W), or three planes (H, W), (H/2, W/2), (H/2, W/2)"
    )


def _described(picture: object) -> str:
    if isinstance(picture, tuple):
        return "planes " + ", ".join(map(_described, picture))
    return f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else f"a {type(picture).__name__}"
