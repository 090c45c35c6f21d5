"""Frames as networks take them."""

from __future__ import annotations

import torch


def as_float(frames: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float 0..1; float frames are returned as they are."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames
