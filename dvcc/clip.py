"""A clip: the 4:2:0 planes that the encoder is given, and the RGB view of them that networks see."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from dvcc._packaged import require
from dvcc.errors import ConfigError, VideoError
from dvcc.units import quarter_turns

if TYPE_CHECKING:
    import torch

Matrix = Literal["bt601", "bt709", "bt2020"]
SWSCALE_MATRIX = {"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709, "bt2020": Colorspace.BT2020}
MATRIX_OF_TAG: dict[int, Matrix] = {1: "bt709", 9: "bt2020"}  # every other tag, and none, is read as BT.601 by swscale
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, eq=False, repr=False)
class Clip:
    """Frames in planar 4:2:0, 8 bit.

    y: uint8 (T, H, W); u, v: uint8 (T, H/2, W/2). H and W are even, as H.264 4:2:0 needs. `fps` is the rate at
    which these frames are shown (divided by the stride they were read with). `matrix` and `full_range` are the
    colour tags; the encoder writes them into the bitstream.

    Raises `ConfigError` when the planes do not belong together.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    fps: Fraction
    matrix: Matrix = "bt601"
    full_range: bool = False

    def __post_init__(self) -> None:
        if self.y.ndim != 3 or 0 in self.y.shape:
            raise ConfigError(f"Clip needs a luma plane of shape (T, H, W), got {self.y.shape}")
        t, h, w = self.y.shape
        if h % 2 or w % 2:
            raise ConfigError(f"4:2:0 needs an even height and width, got {h}x{w}: crop to {h - h % 2}x{w - w % 2}")
        for name, plane in (("u", self.u), ("v", self.v)):
            if plane.shape != (t, h // 2, w // 2):
                raise ConfigError(f"plane {name} has shape {plane.shape}, but luma {self.y.shape} needs {(t, h // 2, w // 2)}")
        for name, plane in (("y", self.y), ("u", self.u), ("v", self.v)):
            if plane.dtype != np.uint8:
                raise ConfigError(f"plane {name} has type {plane.dtype}, but a Clip is 8 bit: give uint8")
        if self.fps <= 0:
            raise ConfigError(f"fps must be positive, got {self.fps}")
        object.__setattr__(self, "fps", Fraction(self.fps))

    @property
    def num_frames(self) -> int:
        """Return the number of frames, T."""
        return int(self.y.shape[0])

    @property
    def height(self) -> int:
        """Return the number of luma rows, H."""
        return int(self.y.shape[1])

    @property
    def width(self) -> int:
        """Return the number of luma columns, W."""
        return int(self.y.shape[2])

    def __repr__(self) -> str:
        return f"Clip(frames={self.num_frames}, size={self.height}x{self.width}, fps={float(self.fps):g}, {self.matrix})"

    @cached_property
    def frames(self) -> torch.Tensor:
        """RGB view, uint8 (T, 3, H, W): what a network is shown, for coded and uncoded clips alike."""
        require("torch", wanted_by="Clip.frames")
        import torch

        frames = (self.frame(t) for t in range(self.num_frames))
        size = self.num_frames, self.height, self.width
        return torch.from_numpy(_planar_rgb(frames, size, matrix=self.matrix, full_range=self.full_range))

    def rgb(self, t: int) -> np.ndarray:
        """Return the RGB of frame `t`, uint8 (H, W, 3)."""
        return frame_to_rgb(self.frame(t), matrix=self.matrix, full_range=self.full_range)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the planes, fps and colour tags: the content half of every cache key."""
        state = hashlib.sha256(repr((self.y.shape, self.fps, self.matrix, self.full_range)).encode())
        for plane in (self.y, self.u, self.v):
            state.update(np.ascontiguousarray(plane).data)
        return state.hexdigest()

    def frame(self, t: int) -> av.VideoFrame:
        """Frame `t` as a PyAV frame (yuv420p, no timestamp)."""
        return planar_frame(self.y[t], self.u[t], self.v[t])

    def crop(self, *, top: int, left: int, height: int, width: int, flip: bool = False) -> Clip:
        """Return a window of every frame, mirrored left to right if `flip`; all four numbers even, inside the frame."""
        if any(value % 2 for value in (top, left, height, width)):
            raise ConfigError(f"a 4:2:0 crop needs even numbers, got top={top} left={left} height={height} width={width}")
        if min(top, left) < 0 or top + height > self.height or left + width > self.width:
            raise ConfigError(f"crop {height}x{width} at ({top}, {left}) leaves the {self.height}x{self.width} frame")
        step = -1 if flip else 1

        def cut(plane: np.ndarray, factor: int) -> np.ndarray:
            rows = slice(top // factor, (top + height) // factor)
            columns = slice(left // factor, (left + width) // factor)
            return np.ascontiguousarray(plane[:, rows, columns][:, :, ::step])

        return Clip(cut(self.y, 1), cut(self.u, 2), cut(self.v, 2), self.fps, self.matrix, self.full_range)

    def slice(self, start: int, stop: int, *, stride: int = 1) -> Clip:
        """Frames start, start + stride, .. below `stop`; fps is divided by the stride."""
        picked = slice(start, stop, stride)
        return Clip(self.y[picked], self.u[picked], self.v[picked], self.fps / stride, self.matrix, self.full_range)

    @classmethod
    def from_rgb(cls, frames: torch.Tensor | np.ndarray, fps: Fraction | int, *, matrix: Matrix = "bt601") -> Clip:
        """Convert uint8 RGB (T, 3, H, W) to limited-range 4:2:0, once. Raises `ConfigError` for another type or shape."""
        rgb = np.asarray(frames)
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[1] != 3:
            raise ConfigError(f"Clip.from_rgb needs uint8 of shape (T, 3, H, W), got {rgb.dtype} {rgb.shape}")
        if rgb.shape[2] % 2 or rgb.shape[3] % 2:
            raise ConfigError(f"4:2:0 needs an even height and width, got {rgb.shape[2]}x{rgb.shape[3]}: crop one row or column")
        rgb = np.ascontiguousarray(rgb.transpose(0, 2, 3, 1))
        return convert_frames((av.VideoFrame.from_ndarray(image, format="rgb24") for image in rgb), Fraction(fps), None, matrix)


def write_plane(plane: av.video.plane.VideoPlane, pixels: np.ndarray) -> None:
    """Copy `pixels` (uint8 (H, W)) into a PyAV plane, whose rows may be padded."""
    _rows(plane)[:] = pixels


def read_plane(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """Return the pixels of a PyAV plane, uint8 (H, W), copied."""
    return _rows(plane).copy()


def _rows(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """Return the pixels where they are, uint8 (H, W)."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def planes_of(frame: av.VideoFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the planes of a yuv420p frame where they are, uint8 (H, W) and twice (H/2, W/2)."""
    y, u, v = map(_rows, frame.planes)
    return y, u, v


def planar_frame(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> av.VideoFrame:
    """Planes uint8 (H, W) and twice (H/2, W/2) as a PyAV frame (yuv420p, no timestamp), copied."""
    frame = av.VideoFrame(y.shape[1], y.shape[0], "yuv420p")
    for plane, pixels in zip(frame.planes, (y, u, v), strict=True):
        write_plane(plane, pixels)
    return frame


def frame_to_rgb(frame: av.VideoFrame, *, matrix: Matrix, full_range: bool, size: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 (H, W, 3), scaled to `size` if that is given; bit-exact swscale, so that every machine sees the same pixels."""
    return _to_rgb(frame, "rgb24", matrix=matrix, full_range=full_range, size=size).to_ndarray()


def _planar_rgb(frames: Iterable[av.VideoFrame], size: tuple[int, int, int], *, matrix: Matrix, full_range: bool) -> np.ndarray:
    """uint8 (T, 3, H, W) of yuv420p frames. size: (T, H, W)."""
    shown = np.empty((size[0], 3, *size[1:]), np.uint8)
    for planes, frame in zip(shown, frames, strict=True):
        rgb = _to_rgb(frame, "gbrp", matrix=matrix, full_range=full_range)
        for number, plane in enumerate((2, 0, 1)):  # stored as G, B, R
            planes[number] = _rows(rgb.planes[plane])
    return shown


def _to_rgb(
    frame: av.VideoFrame,
    layout: Literal["rgb24", "gbrp"],
    *,
    matrix: Matrix,
    full_range: bool,
    size: tuple[int, int] | None = None,
) -> av.VideoFrame:
    """Return the same pixels pixel by pixel, or, which takes half as long, plane by plane."""
    height, width = size or (frame.height, frame.width)
    return frame.reformat(
        width=width,
        height=height,
        format=layout,
        src_colorspace=SWSCALE_MATRIX[matrix],
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BILINEAR | _EXACT,
        threads=1,
    )


def frames_to_clip(frames: list[av.VideoFrame], fps: Fraction) -> Clip:
    """Return decoded yuv420p frames, as they are, with their colour tags."""
    y, u, v = (np.stack([read_plane(frame.planes[i]) for frame in frames]) for i in range(3))
    return Clip(y, u, v, fps, *_tags(frames[0]))


def _tags(frame: av.VideoFrame) -> tuple[Matrix, bool]:
    """Matrix, and whether it is of full range."""
    return MATRIX_OF_TAG.get(int(frame.colorspace), "bt601"), frame.color_range == ColorRange.JPEG


def frames_to_rgb(frames: list[av.VideoFrame]) -> np.ndarray:
    """Convert decoded yuv420p frames, by their colour tags, to uint8 (T, 3, H, W).

    The same as `frames_to_clip(frames, fps).frames`, with one frame's planes at a time.
    """
    matrix, full_range = _tags(frames[0])
    # A decoded frame says where its chroma lies, and swscale would heed it here and not in a clip.
    bare = (planar_frame(*planes_of(frame)) for frame in frames)
    return _planar_rgb(bare, (len(frames), frames[0].height, frames[0].width), matrix=matrix, full_range=full_range)


def frame_to_planar(
    frame: av.VideoFrame, size: tuple[int, int] | None, rgb_matrix: Matrix = "bt601"
) -> tuple[av.VideoFrame, Matrix, bool]:
    """Return a frame of any pixel format as yuv420p, with its matrix and whether it is of full range.

    It is scaled to `size` (H, W) if that is another. RGB becomes limited-range `rgb_matrix`.
    """
    matrix, full_range = rgb_matrix, False
    if frame.format.is_rgb:
        source = {"dst_colorspace": SWSCALE_MATRIX[rgb_matrix], "dst_color_range": ColorRange.MPEG}
    else:
        matrix = MATRIX_OF_TAG.get(int(frame.colorspace), "bt601")
        full_range = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
        kept = ColorRange.JPEG if full_range else ColorRange.MPEG
        source = {"src_color_range": kept, "dst_color_range": kept}
    height, width = size or (frame.height, frame.width)
    shrinks = height < frame.height or width < frame.width
    scaler = (Interpolation.AREA if shrinks else Interpolation.BICUBIC) | _EXACT
    return frame.reformat(width, height, "yuv420p", interpolation=scaler, threads=1, **source), matrix, full_range


def orientation(frame: av.VideoFrame) -> tuple[int, bool]:
    """Degrees anticlockwise by which a player turns a frame, 0..359, and whether it mirrors it, left and right, after that."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(float)
    if a * d - b * c >= 0:
        return frame.rotation % 360, False
    return round(np.degrees(np.arctan2(-b, -a))) % 360, True


def convert_frames(
    frames: Iterator[av.VideoFrame], fps: Fraction, size: tuple[int, int] | None = None, rgb_matrix: Matrix = "bt601"
) -> Clip:
    """Any pixel format and size to one clip of planes, upright; RGB input becomes limited-range `rgb_matrix`.

    Raises `VideoError` for no frame and for frames of different sizes.
    """
    planes: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = ([], [], [])
    matrix, full_range = rgb_matrix, False
    for frame in frames:
        degrees, mirrored = orientation(frame)
        turns = quarter_turns(degrees)
        height, width = size or (frame.height, frame.width)
        if size and turns % 2:
            height, width = width, height
        frame, matrix, full_range = frame_to_planar(frame, (height, width), rgb_matrix)
        for store, plane in zip(planes, frame.planes, strict=True):
            pixels = read_plane(plane)[: height // 2 if plane.height < height else height - height % 2]
            pixels = pixels[:, : width // 2 if plane.width < width else width - width % 2]
            store.append(np.rot90(pixels, turns)[:, :: -1 if mirrored else 1])
    if not planes[0]:
        raise VideoError("no frame could be decoded")
    if any(y.shape != planes[0][0].shape for y in planes[0]):
        raise VideoError("the frames have different sizes: give size=(H, W) to scale them to one")
    y, u, v = (np.stack(store) for store in planes)
    return Clip(y, u, v, fps, matrix, full_range)
