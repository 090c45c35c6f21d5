"""A trained control on frames that come a few at a time, with what it remembers of those before."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from dvcc import units
from dvcc.control.network import ControlNetwork, centred
from dvcc.units import MACROBLOCK, macroblock_grid

# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020
_LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


def reduced_planes(y: np.ndarray, u: np.ndarray, v: np.ndarray, *, matrix: str, full_range: bool) -> torch.Tensor:
    """float 0..1 (3, 4h, 4w) for an (h, w) grid of macroblocks: what `reduced` makes of a picture's RGB, from its 4:2:0 planes
    uint8 (H, W) and twice (H/2, W/2); edges are repeated to whole macroblocks.

    Chroma is taken where it lies instead of interpolated: a full-size conversion to RGB would cost more than the network.
    """
    rows, columns = macroblock_grid(*y.shape)
    picked = np.stack([_diagonal(y, 4), _diagonal(u, 2), _diagonal(v, 2)])
    weights, bias = _to_rgb(matrix, full_range)
    # NumPy's product would start threads that wait by spinning, beside the encoder's
    rgb = torch.addmm(bias, weights, torch.from_numpy(picked).flatten(1)).clamp_(0, 1).view(picked.shape)
    side = MACROBLOCK // 4
    below, right = rows * side - rgb.shape[1], columns * side - rgb.shape[2]
    return F.pad(rgb[None], (0, right, 0, below), mode="replicate")[0] if below or right else rgb


@lru_cache
def _to_rgb(matrix: str, full_range: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (3, 3) and (3, 1): RGB of 0..1 as a linear function of 8-bit Y, Cb and Cr."""
    of_red, of_blue = _LUMA[matrix]
    of_green = 1 - of_red - of_blue
    red, blue = 2 * (1 - of_red), 2 * (1 - of_blue)
    weights = np.array([[1, 0, red], [1, -of_blue * blue / of_green, -of_red * red / of_green], [1, blue, 0]])
    floor, luma, chroma = (0, 255, 255) if full_range else (16, 219, 224)
    weights /= np.array([luma, chroma, chroma])
    bias = -weights @ np.array([[floor], [128], [128]])
    return torch.from_numpy(weights).float(), torch.from_numpy(bias).float()


def _diagonal(plane: np.ndarray, step: int) -> np.ndarray:
    """float32: the mean of two samples on the diagonal of every step x step square, of one where the square is cut off."""
    first = plane[::step, ::step].astype(np.float32)
    second = first.copy()
    rest = plane[step // 2 :: step, step // 2 :: step]
    second[: rest.shape[0], : rest.shape[1]] = rest
    second[rest.shape[0] :] = second[max(0, rest.shape[0] - 1)]
    second[:, rest.shape[1] :] = second[:, max(0, rest.shape[1] - 1)][:, None]
    return (first + second) / 2


class ControlStream:
    """What a control decides for a video, frames (at most a GOP) at a time: the same as of a clip, apart from the prior, which
    sees what has come so far.

    gop: frames from one I frame to the next. quarter_turns: by which a player turns the picture anticlockwise; the network is
    shown it upright. Memory does not grow with the video.
    """

    def __init__(
        self,
        control: ControlNetwork,
        target_kbps: float,
        *,
        fps: Fraction,
        height: int,
        width: int,
        gop: int,
        quarter_turns: int = 0,
    ) -> None:
        self.control, self.gop, self.quarter_turns = control, gop, quarter_turns
        bpp = units.kbps_to_bits_per_pixel(target_kbps, fps=fps, height=height, width=width)
        self._log_bpp = torch.tensor([math.log(bpp)])
        self._before: torch.Tensor | None = None
        self._sum, self._place = torch.zeros(()), 0

    def level(self, small: torch.Tensor) -> torch.Tensor:
        """(1,): QP of the flat map that meets the target, for reduced frames (T, 3, 4h, 4w) and the one before them."""
        known = small if self._before is None else torch.cat([self._before, small])
        return self.control.prior(known[None], self._log_bpp)

    @torch.inference_mode()
    def decide(self, small: torch.Tensor) -> np.ndarray:
        """float32 (T, h, w): offsets from the encoder's QPs, 0 on average in every frame, for reduced frames (T, 3, 4h, 4w) that
        do not cross the start of a GOP."""
        shown = self._turned(small)
        delta = self.control.delta_qp(
            shown[None],
            self._log_bpp,
            self.level(shown),
            gop=self.gop,
            before=None if self._before is None else self._before[None],
            start=self._place,
        )[0]
        sums = delta.cumsum(0) + self._sum
        count = torch.arange(1, len(delta) + 1) + self._place
        offsets = centred((sums / count.view(-1, 1, 1))[None])[0]
        self._sum = sums[-1]
        self._before, self._place = shown[-1:], self._place + len(delta)
        if self._place >= self.gop:
            self._sum, self._place = torch.zeros(()), 0
        return torch.rot90(offsets, -self.quarter_turns, (-2, -1)).numpy()

    def _turned(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.rot90(pictures, self.quarter_turns, (-2, -1))
