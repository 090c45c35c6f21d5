"""Frames as networks take them."""

from __future__ import annotations

import torch


def as_float(frames: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 to float 0..1; float frames are returned as they are."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames


def as_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Float 0..1 to uint8 0..255 in main memory; uint8 frames are returned as they are."""
    frames = frames.detach().cpu()
    return frames if frames.dtype == torch.uint8 else (frames.clamp(0, 1) * 255).round().to(torch.uint8)
