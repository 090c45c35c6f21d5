"""Structural similarity of two grey pictures, pixel by pixel, in NumPy."""

from __future__ import annotations

import numpy as np

WINDOW = 11
"""Pixels across the Gaussian window; a picture has to have as many."""

_STRIP = 32  # rows at a time: what is worked on stays in the cache
_C1, _C2 = 0.01**2, 0.03**2  # of Wang et al., "Image Quality Assessment" (2004), for pixels of 0..1
_TAPS = np.exp(-0.5 * (np.arange(WINDOW // 2 + 1) / 1.5) ** 2)  # from the middle outwards
_TAPS /= 2 * _TAPS.sum() - _TAPS[0]


def ssim_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the SSIM of every pixel, float32 (H, W), of pictures uint8 (H, W), each side at least `WINDOW`.

    The window is a Gaussian of deviation 1.5, and pictures are mirrored at their edges.
    """
    margin, strips = WINDOW // 2, []
    both = [np.pad(picture, margin, mode="reflect") for picture in (first, second)]
    for row in range(0, len(first), _STRIP):
        a, b = (picture[row : row + _STRIP + 2 * margin].astype(np.float32) / 255 for picture in both)
        # Four blurs instead of five: of the sum, the difference, and their squares.
        total, difference = a + b, a - b
        mean_total, mean_difference = _blur(total), _blur(difference)
        square_total, square_difference = mean_total**2, mean_difference**2
        spread_total, spread_difference = _blur(total**2) - square_total, _blur(difference**2) - square_difference
        # 2 E[a] E[b] = (E[a + b]^2 - E[a - b]^2) / 2, E[a]^2 + E[b]^2 = (E[a + b]^2 + E[a - b]^2) / 2, and so of the variances
        luminance = (square_total - square_difference + 2 * _C1) / (square_total + square_difference + 2 * _C1)
        structure = (spread_total - spread_difference + 2 * _C2) / (spread_total + spread_difference + 2 * _C2)
        strips.append(luminance * structure)
    return np.concatenate(strips)


def _blur(picture: np.ndarray) -> np.ndarray:
    """(H - WINDOW + 1, W - WINDOW + 1): the Gaussian of (H, W), down and then across."""
    return _blur_rows(_blur_rows(picture).T).T


def _blur_rows(picture: np.ndarray) -> np.ndarray:
    middle, count = WINDOW // 2, len(picture) - WINDOW + 1
    blurred = picture[middle : middle + count] * np.float32(_TAPS[0])
    pair = np.empty_like(blurred)
    for distance, tap in enumerate(_TAPS[1:].astype(np.float32), start=1):
        low, high = middle - distance, middle + distance
        np.add(picture[low : low + count], picture[high : high + count], out=pair)
        pair *= tap
        blurred += pair
    return blurred
