"""Conversions between units of rate. The only module that divides by fps or by pixels."""

from __future__ import annotations

from fractions import Fraction

MACROBLOCK = 16
"""Side of a macroblock in luma pixels."""


def macroblock_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of macroblocks that cover (height, width) pixels; the encoder pads the last ones."""
    return -(-height // MACROBLOCK), -(-width // MACROBLOCK)


def kbps(bits: float, *, num_frames: int, fps: Fraction | float) -> float:
    """Bitrate in kbit/s of `bits` spent on `num_frames` frames shown at `fps`."""
    return float(bits) * float(fps) / num_frames / 1000


def bits_per_pixel(bits: float, *, num_frames: int, height: int, width: int) -> float:
    """Bits per luma pixel."""
    return float(bits) / (num_frames * height * width)


def kbps_to_bits_per_pixel(rate_kbps: float, *, fps: Fraction | float, height: int, width: int) -> float:
    """Bits per luma pixel of a stream of (height, width) frames at `fps` and `rate_kbps`."""
    return rate_kbps * 1000 / float(fps) / (height * width)


def bits_per_pixel_to_kbps(rate: float, *, fps: Fraction | float, height: int, width: int) -> float:
    """Inverse of `kbps_to_bits_per_pixel`."""
    return rate * height * width * float(fps) / 1000


LONGEST_GOP = 10_000
"""Frames that a GOP may have."""
_USUAL_GOP = 250  # x264's, where a second has more frames


def gop_of_a_second(fps: Fraction | float) -> int:
    """Frames from one I frame to the next when there is one a second: 1 to 250."""
    return min(max(1, round(fps)), _USUAL_GOP)


def quarter_turns(degrees: float) -> int:
    """Quarter turns anticlockwise, 0..3, of a rotation by `degrees`."""
    return round(degrees / 90) % 4
