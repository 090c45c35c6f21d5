"""A trained control on frames that come a few at a time, with what it remembers of those before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np

from dvcc import units
from dvcc.clip import Matrix
from dvcc.control.deployed.runtime import Control
from dvcc.control.eyes import Eyes
from dvcc.media.format import Planes
from dvcc.units import MACROBLOCK, macroblock_grid

T = TypeVar("T")

# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020
_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}

CHUNK = 4
"""Frames that the network is shown at once: what it makes of more does not fit into a cache."""


def reduced_planes(y: np.ndarray, u: np.ndarray, v: np.ndarray, *, matrix: str, full_range: bool) -> np.ndarray:
    """Return the reduced picture float32 0..1 (3, 4h, 4w) for an (h, w) grid of macroblocks.

    It is what `network.reduced` makes of a picture's RGB, from its 4:2:0 planes uint8 (H, W) and twice (H/2, W/2). Edges are
    repeated to whole macroblocks.

    Chroma is taken where it lies instead of interpolated: a full-size conversion to RGB would cost more than the network.
    """
    rows, columns = macroblock_grid(*y.shape)
    picked = [_diagonal(y, 4), _diagonal(u, 2), _diagonal(v, 2)]
    height, width = picked[0].shape
    side = MACROBLOCK // 4
    rgb = np.empty((3, rows * side, columns * side), np.float32)
    inside = rgb[:, :height, :width]
    # Term by term: NumPy's product would start threads that wait by spinning, beside the encoder's.
    term = np.empty((height, width), np.float32)
    for colour, (weights, bias) in zip(inside, _to_rgb(matrix, full_range), strict=True):
        np.multiply(picked[0], weights[0], out=colour)
        colour += bias
        for plane, weight in zip(picked[1:], weights[1:], strict=True):
            if weight:
                np.multiply(plane, weight, out=term)
                colour += term
    np.clip(inside, 0, 1, out=inside)
    rgb[:, height:, :width] = rgb[:, height - 1 : height, :width]
    rgb[:, :, width:] = rgb[:, :, width - 1 : width]
    return rgb


@lru_cache
def _to_rgb(matrix: str, full_range: bool) -> list[tuple[list[np.float32], np.float32]]:
    """Return the weights and the bias of red, green and blue, 0..1, as linear functions of sums of two 8-bit Y, Cb and Cr."""
    of_red, of_blue = _LUMA[matrix]
    of_green = 1 - of_red - of_blue
    red, blue = 2 * (1 - of_red), 2 * (1 - of_blue)
    weights = np.array([[1, 0, red], [1, -of_blue * blue / of_green, -of_red * red / of_green], [1, blue, 0]])
    floor, luma, chroma = (0, 255, 255) if full_range else (16, 219, 224)
    weights /= np.array([luma, chroma, chroma])
    biases = -weights @ np.array([floor, 128, 128])
    return [([np.float32(w / 2) for w in row], np.float32(bias)) for row, bias in zip(weights, biases, strict=True)]


def _diagonal(plane: np.ndarray, step: int) -> np.ndarray:
    """float32: the sum of two samples on the diagonal of every step x step square, twice the one where the square is cut off."""
    first = plane[::step, ::step].astype(np.float32)
    rest = plane[step // 2 :: step, step // 2 :: step]
    if rest.shape == first.shape:
        first += rest
        return first
    second = first.copy()
    second[: rest.shape[0], : rest.shape[1]] = rest
    second[rest.shape[0] :] = second[max(0, rest.shape[0] - 1)]
    second[:, rest.shape[1] :] = second[:, max(0, rest.shape[1] - 1)][:, None]
    return first + second


class ControlStream:
    """What a control decides for a video, a few frames at a time; clips are decided in the same way.

    matrix, full_range: the colour tags. gop: frames from one I frame to the next. quarter_turns: by which a player turns the
    picture anticlockwise; the network is shown it upright. Memory does not grow with the video.
    """

    def __init__(
        self,
        control: Control,
        target_kbps: float,
        *,
        fps: Fraction,
        height: int,
        width: int,
        matrix: Matrix,
        full_range: bool,
        gop: int,
        quarter_turns: int = 0,
    ) -> None:
        self.control, self.gop, self.quarter_turns = control, gop, quarter_turns
        self._seen = partial(Eyes.planes, matrix=matrix, full_range=full_range, quarter_turns=quarter_turns)
        self._bpp = partial(units.kbps_to_bits_per_pixel, fps=fps, height=height, width=width)
        self.retarget(target_kbps)
        self._planes: np.ndarray | None = None  # of the last look
        self._before: np.ndarray | None = None
        self._sum, self._place = np.float32(0), 0

    def retarget(self, target_kbps: float) -> None:
        """Decide for another bitrate from here on."""
        bpp = self._bpp(target_kbps)
        self._log_bpp, self._told_log_bpp = math.log(bpp), math.log(told_rate(self.control, bpp))

    def mean_qp(self, small: np.ndarray) -> float:
        """Return the QP of the flat map that meets the target, for reduced frames (T, 3, 4h, 4w) and the one before them."""
        return self._mean_qp(small, self._log_bpp)

    def decide(
        self,
        small: np.ndarray,
        pictures: Sequence[Planes],
        *,
        planes: np.ndarray | None = None,
        analysis: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return offsets from the encoder's QPs, float32 (T, h, w), 0 on average in every frame.

        They are for reduced frames (T, 3, 4h, 4w) that do not cross the start of a GOP, and the T 4:2:0 pictures that they are
        of, which eyes look at.

        planes: (T, E, h, w), if they were looked at. analysis: (T, 3, h, w), of a control that sees an analysis encode.
        """
        looks = self._look(pictures) if planes is None else self._turned(planes)
        seen = [part for part in (looks, None if analysis is None else self._turned(analysis)) if part is not None]
        upright = self._turned(small)
        before = upright[:1] if self._before is None else self._before
        delta = self.control.delta_qp(
            upright,
            np.concatenate([before, upright[:-1]]),
            log_bpp=self._told_log_bpp,
            mean_qp=self._mean_qp(upright, self._told_log_bpp),
            position=np.arange(self._place, self._place + len(upright)),
            gop=self.gop,
            planes=np.concatenate(seen, 1) if seen else None,
        )
        sums = delta.cumsum(0) + self._sum
        self._before, self._place, self._sum = upright[-1:], self._place + len(delta), sums[-1]
        if self.control.averaged:
            delta = sums / np.arange(self._place - len(delta) + 1, self._place + 1, dtype=np.float32)[:, None, None]
        if self._place >= self.gop:
            self._sum, self._place = np.float32(0), 0
        offsets = delta - delta.mean((1, 2), keepdims=True)
        return np.rot90(offsets, -self.quarter_turns, (-2, -1))

    def _mean_qp(self, small: np.ndarray, log_bpp: float) -> float:
        frames = small if self._before is None else np.concatenate([self._before, small])
        return self.control.mean_qp(frames, log_bpp)

    def _look(self, pictures: Sequence[Planes]) -> np.ndarray | None:
        """float32 (T, E, h, w): what is seen in the first picture of a GOP and one in `eyes.every` after it, held in between."""
        eyes, planes = self.control.eyes, list[np.ndarray]()
        if eyes is None:
            return None
        for place, picture in enumerate(pictures, self._place):
            if self._planes is None or place % eyes.every == 0:
                self._planes = self._turned(self._seen(eyes, picture))
            planes.append(self._planes)
        return np.stack(planes)

    def _turned(self, pictures: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(pictures, self.quarter_turns, (-2, -1)))


def told_rate(control: Control, bpp: float) -> float:
    """Bits per pixel that a control is told for a target: the nearest that it was trained at."""
    return bpp if control.rates is None else float(np.clip(bpp, *control.rates))


def outside_rates(control: object, target_kbps: float, *, fps: Fraction, height: int, width: int) -> list[str]:
    """Return a note where a target lies outside the rates that a control was trained at; none for what else decides."""
    bpp = units.kbps_to_bits_per_pixel(target_kbps, fps=fps, height=height, width=width)
    if not isinstance(control, Control) or (told := told_rate(control, bpp)) == bpp:
        return []
    least, most = control.rates or (bpp, bpp)
    trained = f"the control was trained at {least:.2g} to {most:.2g}"
    return [f"the target is {bpp:.2g} bits per pixel, and {trained}: it decides as at {told:.2g}"]


def chunks(items: Iterable[T], gop: int, *, most: int = CHUNK) -> Iterator[list[T]]:
    """Up to `most` items at a time, none across the start of a GOP."""
    chunk: list[T] = []
    for index, item in enumerate(items):
        if chunk and (index % gop == 0 or len(chunk) == most):
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk
