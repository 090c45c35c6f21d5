"""Single pictures and label images from files, by Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from dvcc.errors import VideoError
from dvcc.media.folders import IMAGE_SUFFIXES

PICTURE_SUFFIXES = IMAGE_SUFFIXES | {".webp", ".tif", ".tiff"}
_SMALLEST = 16  # pixels: one macroblock
_TURNED = 5  # from this EXIF orientation on, width and height change places


def read_rgb(path: Path) -> torch.Tensor:
    """uint8 RGB (3, H, W), upright (a camera's EXIF orientation is applied).

    Grey is repeated; of 16 bits the upper 8 are taken; alpha is left out, as the loaders that networks are trained with do.
    Raises `VideoError` that names the file when it cannot be read or is smaller than a macroblock.
    """
    from PIL import Image, ImageOps

    with _named(path), Image.open(path) as stored:
        image: Image.Image = ImageOps.exif_transpose(stored)
        if image.mode.startswith("I"):
            grey = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
            rgb = np.stack([grey] * 3, -1)
        else:
            if "transparency" in image.info:  # of a palette; Pillow warns unless it goes by RGBA
                image = image.convert("RGBA")
            rgb = np.array(image.convert("RGB"))
    if min(rgb.shape[:2]) < _SMALLEST:
        raise VideoError(
            f"{path} is {rgb.shape[0]}x{rgb.shape[1]}, smaller than a macroblock ({_SMALLEST}x{_SMALLEST}): leave it out"
        )
    return torch.from_numpy(rgb.transpose(2, 0, 1).copy())


def picture_size(path: Path) -> tuple[int, int]:
    """Return the size (H, W) that `read_rgb` gives, by the file's header alone. Raises `VideoError` as that does."""
    from PIL import ExifTags, Image

    with _named(path), Image.open(path) as image:
        told = image.format != "PNG" or "exif" in image.info  # to look for more, Pillow decodes a whole PNG
        turned = told and image.getexif().get(ExifTags.Base.Orientation, 1) >= _TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


def check_label_image(path: Path, *, size: tuple[int, int], colours: bool = False) -> None:
    """Raise the `VideoError` of `read_label_image` for what the file's header tells: its size and its mode."""
    from PIL import Image

    with _named(path), Image.open(path) as image:
        if not colours and image.mode not in ("L", "P"):
            raise VideoError(f"{path} is an image of mode {image.mode}, but one 8-bit class number per pixel is expected")
        if (image.height, image.width) != size:
            raise VideoError(f"{path} is {image.height}x{image.width}, but its picture is {size[0]}x{size[1]}: get both again")


def read_label_image(path: Path, *, size: tuple[int, int], colours: bool = False) -> np.ndarray:
    """Return the stored numbers, uint8 (H, W), or with `colours` uint8 (H, W, 3); size: (H, W) of the picture that is labelled.

    Raises `VideoError` that names the file when it cannot be read, is of another size, or has colours where numbers are meant.
    """
    from PIL import Image

    check_label_image(path, size=size, colours=colours)
    with _named(path), Image.open(path) as image:
        return np.array(image.convert("RGB") if colours else image)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever Pillow makes of a damaged file becomes one `VideoError` that names it."""
    from PIL import Image

    try:
        yield
    except VideoError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path} cannot be read as a picture ({error}): check that the file is complete") from error
