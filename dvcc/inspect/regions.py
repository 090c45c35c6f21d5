"""PSNR and SSIM of a coded video against its reference: of the picture, of every macroblock, of the thirds of its QPs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from dvcc.clip import SWSCALE_MATRIX, read_plane
from dvcc.errors import VideoError
from dvcc.inspect.ssim import WINDOW, ssim_map
from dvcc.media.container import open_container
from dvcc.media.streams import main_video
from dvcc.qp import MAX_QP
from dvcc.units import MACROBLOCK

THIRDS = ("lowest", "middle", "highest")
_SSIM_FRAMES = 250  # about: it costs several times what decoding does


class RegionQuality:
    """Luma of the same frames, coded and not; `add` all of them, then ask for `figures`. Nothing is kept of a frame but sums.

    Thirds are of every frame: its macroblocks in the order of their QPs, equal QPs shared out, so that they say where in the
    picture quality was put, and not which frames got it. ssim_every: SSIM is measured of every n-th frame.
    """

    def __init__(self, *, ssim_every: int = 1) -> None:
        self.ssim_every = ssim_every
        self.frames = self.ssim_frames = 0
        self._error: np.ndarray | None = None  # (h, w), squared
        self._ssim: np.ndarray | None = None  # (h, w)
        self._pixels: np.ndarray | None = None
        self._thirds = np.zeros((3, 5))  # QP, macroblocks, squared error, pixels; SSIM times pixels
        self._ssim_pixels = np.zeros(3)

    def add(self, coded: np.ndarray, reference: np.ndarray, qp: np.ndarray) -> None:
        """coded, reference: uint8 (H, W); qp: int (h, w) by place."""
        error = _of_macroblocks((coded.astype(np.float32) - reference) ** 2)
        if self._pixels is None:
            self._pixels = _of_macroblocks(np.ones(coded.shape, np.float32))
            self._error, self._ssim = np.zeros_like(error), np.zeros_like(error)
        self._error += error
        columns = [qp, np.ones_like(error), error, self._pixels]
        similar = np.zeros_like(error)
        measured = self.frames % self.ssim_every == 0 and min(coded.shape) >= WINDOW
        if measured:
            similar = _of_macroblocks(ssim_map(coded, reference))
            self._ssim += similar
            self.ssim_frames += 1
        self.frames += 1
        flat = qp.ravel()
        by_qp = [np.bincount(flat, weights=column.ravel(), minlength=MAX_QP + 1) for column in (*columns, similar)]
        shares = _shares_of_thirds(np.bincount(flat, minlength=MAX_QP + 1))
        self._thirds += shares @ np.stack(by_qp, 1)
        self._ssim_pixels += shares @ by_qp[3] if measured else 0

    def figures(self) -> dict[str, Any]:
        """psnr in dB, None where nothing differs; ssim 0..1, None in pictures too small for it."""
        assert self._error is not None and self._ssim is not None and self._pixels is not None
        return {
            "frames": self.frames,
            "ssim_frames": self.ssim_frames,
            "psnr": _psnr(self._error.sum(), self._pixels.sum() * self.frames),
            "ssim": _share(self._ssim.sum(), self._pixels.sum() * self.ssim_frames),
            "by_qp": {
                name: {
                    "qp_mean": qp / count,
                    "psnr": _psnr(error, pixels),
                    "ssim": _share(similar, ssim_pixels),
                }
                for name, (qp, count, error, pixels, similar), ssim_pixels in zip(
                    THIRDS, self._thirds, self._ssim_pixels, strict=True
                )
            },
            "psnr_map": [
                [_psnr(error, pixels * self.frames) for error, pixels in zip(*rows, strict=True)]
                for rows in zip(self._error, self._pixels, strict=True)
            ],
            "ssim_map": [
                [_share(similar, pixels * self.ssim_frames) for similar, pixels in zip(*rows, strict=True)]
                for rows in zip(self._ssim, self._pixels, strict=True)
            ],
        }


def ssim_every(expected_frames: int) -> int:
    """Of which frames to measure SSIM in a video of so many frames (0: not known): about 250 of them."""
    return max(1, round(expected_frames / _SSIM_FRAMES))


class Reference:
    """Luma of a reference video of any codec, frame by frame, in the range of the coded one.

    Raises `VideoError` if it is missing, no video, or not of `size` (H, W).
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int]) -> None:
        self.name = str(path)
        if not Path(path).is_file():
            raise VideoError(f"{path} {'is a folder' if Path(path).is_dir() else 'does not exist'}: give a video as reference")
        self._file = open_container(Path(path))
        stream = main_video(self._file)
        if stream is None:
            self._file.close()
            raise VideoError(f"{path} has no video stream that can be decoded: give a video as reference")
        shape = (stream.codec_context.height, stream.codec_context.width)
        if any(not 0 <= mine - coded <= 1 for mine, coded in zip(shape, size, strict=True)):  # 4:2:0 loses an odd row or column
            self._file.close()
            raise VideoError(
                f"{path} is {shape[1]}x{shape[0]} and the coded video {size[1]}x{size[0]}: give a reference of the same size"
            )
        stream.thread_type = "FRAME"
        self._frames = self._decoded(stream)

    def _decoded(self, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        with self._file:
            try:
                yield from self._file.decode(stream)
            except av.FFmpegError as error:
                raise VideoError(
                    f"{self.name} cannot be decoded to its end ({error.strerror}): check that the file is complete"
                ) from error

    def next_luma(self, like: av.VideoFrame) -> np.ndarray | None:
        """uint8 (H, W) of the next frame, in the range of `like`; None after the last."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        if not (0 <= frame.height - like.height <= 1 and 0 <= frame.width - like.width <= 1):
            raise VideoError(f"{self.name} changes its size to {frame.width}x{frame.height}: give a reference of one size")
        return luma(frame, full_range=is_full_range(like))[: like.height, : like.width]


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether luma goes from 0 to 255, not from 16 to 235."""
    return frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")


def luma(frame: av.VideoFrame, *, full_range: bool) -> np.ndarray:
    """uint8 (H, W); RGB is converted by BT.601, which `read_clip` takes too."""
    wanted = ColorRange.JPEG if full_range else ColorRange.MPEG
    if frame.format.is_rgb:
        options: dict[str, Any] = {"dst_colorspace": SWSCALE_MATRIX["bt601"], "dst_color_range": wanted}
    elif frame.format.components[0].bits == 8 and is_full_range(frame) == full_range and frame.format.is_planar:
        return read_plane(frame.planes[0])
    else:
        source = ColorRange.JPEG if is_full_range(frame) else ColorRange.MPEG
        options = {"src_color_range": source, "dst_color_range": wanted}
    return read_plane(frame.reformat(format="yuv420p", threads=1, **options).planes[0])


def _of_macroblocks(picture: np.ndarray) -> np.ndarray:
    """float64 (h, w): sums over macroblocks of (H, W); the last ones may be narrow."""
    rows = np.arange(0, picture.shape[0], MACROBLOCK)
    columns = np.arange(0, picture.shape[1], MACROBLOCK)
    return np.add.reduceat(np.add.reduceat(picture, rows, axis=0, dtype=np.float64), columns, axis=1)


def _shares_of_thirds(counts: np.ndarray) -> np.ndarray:
    """(3, QPs): which share of the macroblocks of every QP, of which there are `counts`, is in each third."""
    ends = counts.cumsum()
    edges = np.linspace(0, ends[-1], 4)
    inside = np.minimum(ends, edges[1:, None]) - np.maximum(ends - counts, edges[:-1, None])
    return inside.clip(min=0) / counts.clip(min=1)


def _psnr(error: float, pixels: float) -> float | None:
    return float(10 * np.log10(255**2 * pixels / error)) if error else None


def _share(total: float, count: float) -> float | None:
    return float(total / count) if count else None
