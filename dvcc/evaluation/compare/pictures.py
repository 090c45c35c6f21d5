"""Pictures as the page shows them."""

from __future__ import annotations

import io

import torch
from einops import rearrange
from PIL import Image

WIDEST = 1280
"""Pixels of a picture on the page."""
JPEG_QUALITY = 93


def jpeg(picture: torch.Tensor) -> bytes:
    """A JPEG file of uint8 (3, H, W), scaled down to `WIDEST` where it is wider."""
    image = Image.fromarray(rearrange(picture, "c h w -> h w c").contiguous().numpy())
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
