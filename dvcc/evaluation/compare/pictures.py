"""Pictures as the page shows them."""

from __future__ import annotations

import io

import numpy as np
import torch
from einops import rearrange
from PIL import Image

WIDEST = 1280
"""Pixels of a picture on the page."""
JPEG_QUALITY = 93


def scaled_to_page(picture: torch.Tensor) -> torch.Tensor:
    """uint8 (3, H, W), scaled down to `WIDEST` where it is wider."""
    if picture.shape[-1] <= WIDEST:
        return picture
    image = Image.fromarray(rearrange(picture, "c h w -> h w c").contiguous().numpy())
    image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    return rearrange(torch.from_numpy(np.array(image)), "h w c -> c h w")


def jpeg(picture: torch.Tensor) -> bytes:
    """Return a JPEG file of uint8 (3, H, W), as `scaled_to_page` has it."""
    image = Image.fromarray(rearrange(scaled_to_page(picture), "c h w -> h w c").contiguous().numpy())
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
