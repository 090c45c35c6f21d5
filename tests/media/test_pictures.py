"""Every kind of picture reads as RGB, and what cannot be read is named."""

import numpy as np
import pytest
from PIL import Image

from dvcc import VideoError
from dvcc.media.pictures import read_label_image, read_rgb

GREY = np.arange(16 * 20, dtype=np.uint8).reshape(16, 20)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], -1)


def save(path, image, **options):
    image.save(path, **options)
    return path


def read(path):
    return read_rgb(path).permute(1, 2, 0).numpy()


def test_grey_alpha_palette_and_16_bits_read_as_rgb(tmp_path):
    grey = np.stack([GREY] * 3, -1)
    assert np.array_equal(read(save(tmp_path / "rgb.png", Image.fromarray(RGB))), RGB)
    assert np.array_equal(read(save(tmp_path / "grey.png", Image.fromarray(GREY))), grey)
    deep = Image.fromarray(GREY.astype(np.uint16) * 256 + 77)
    assert np.array_equal(read(save(tmp_path / "deep.png", deep)), grey)
    assert np.array_equal(read(save(tmp_path / "deep.tif", deep)), grey)
    alpha = Image.fromarray(np.concatenate([RGB, GREY[..., None]], -1))
    assert np.array_equal(read(save(tmp_path / "alpha.png", alpha)), RGB)
    palette = Image.fromarray(GREY % 4, "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    painted = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], np.uint8)[GREY % 4]
    for name, options in (("palette.png", {}), ("see-through.png", {"transparency": bytes([0, 128, 255, 255])})):
        assert np.array_equal(read(save(tmp_path / name, palette, **options)), painted)
    bits = read(save(tmp_path / "bits.png", Image.fromarray(GREY > 99)))
    assert np.array_equal(bits[..., 0], np.where(GREY > 99, 255, 0))


def test_cmyk_is_no_rgb_with_four_channels(tmp_path):
    flat = Image.new("CMYK", (20, 16), (0, 255, 255, 0))
    red = read(save(tmp_path / "print.jpg", flat, quality=95))
    assert red.shape == (16, 20, 3) and np.abs(red.astype(int) - [255, 0, 0]).max() < 8


def test_a_camera_held_upright_gives_an_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6  # the stored picture is to be turned by a quarter, clockwise
    path = save(tmp_path / "phone.png", Image.fromarray(RGB), exif=exif)
    assert np.array_equal(read(path), np.rot90(RGB, -1))


def test_what_cannot_be_read_is_named(tmp_path):
    whole = save(tmp_path / "whole.jpg", Image.fromarray(RGB.repeat(8, 0).repeat(8, 1))).read_bytes()
    for name, content in (("cut.jpg", whole[: len(whole) // 2]), ("empty.jpg", b""), ("text.png", b"not a picture")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=rf"{name} cannot be read as a picture \(.*\): check that the file is complete"):
            read_rgb(tmp_path / name)
    with pytest.raises(VideoError, match=r"dot\.png is 1x1, smaller than a macroblock"):
        read_rgb(save(tmp_path / "dot.png", Image.new("RGB", (1, 1))))


def test_label_images_keep_their_numbers(tmp_path):
    numbers = Image.fromarray(GREY % 4, "L").convert("P")  # a palette is for the eye: the stored numbers count
    path = save(tmp_path / "labels.png", numbers)
    assert np.array_equal(read_label_image(path, size=(16, 20)), GREY % 4)
    with pytest.raises(VideoError, match=r"labels\.png is 16x20, but its picture is 20x16"):
        read_label_image(path, size=(20, 16))
    with pytest.raises(VideoError, match=r"mode RGB, but one 8-bit class number per pixel"):
        read_label_image(save(tmp_path / "colours.png", Image.fromarray(RGB)), size=(16, 20))
