"""PSNR and SSIM by place and by QP, against known errors and against what FFmpeg's own filters say."""

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from kornia.metrics import ssim

from dvcc import CRF, X264, QPMap
from dvcc.clip import read_plane
from dvcc.codecs.bitstream import CodedStream
from dvcc.inspect.regions import Reference, RegionQuality, luma, ssim_every
from tests.conftest import make_noise, make_scene


def of_files(coded, reference) -> dict:
    stream, quality = CodedStream(coded), RegionQuality()
    other = Reference(reference, size=(stream.height, stream.width))
    for frame in stream:
        quality.add(luma(frame.picture, full_range=False), other.next_luma(frame.picture), frame.placed_qp)
    assert other.next_luma(frame.picture) is None
    return quality.figures()


def test_figures_are_those_of_ffmpeg(tmp_path):
    for name, crf in (("coded", 34), ("reference", 8)):
        (tmp_path / f"{name}.mp4").write_bytes(X264().encode(make_scene(frames=6, height=66, width=102), CRF(crf)).bitstream)
    figures = of_files(tmp_path / "coded.mp4", tmp_path / "reference.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "coded.mp4"), "-i", str(tmp_path / "reference.mp4")]
    psnr_log = subprocess.run([*command, "-lavfi", "psnr", "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    assert figures["psnr"] == pytest.approx(float(re.search(r"PSNR y:([\d.]+)", psnr_log)[1]), abs=1e-3)
    ssim_log = subprocess.run([*command, "-lavfi", "ssim", "-f", "null", "-"], capture_output=True, text=True, check=True).stderr
    assert figures["ssim"] == pytest.approx(float(re.search(r"SSIM Y:([\d.]+)", ssim_log)[1]), abs=0.02)  # FFmpeg's window is 8x8


@pytest.mark.parametrize("size", [(11, 11), (66, 102), (16 * 5, 16 * 3)])  # one strip; a short last one; two and a half
def test_ssim_is_that_of_kornia(size):
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, size, np.uint8)
    reference[: size[0] // 2] //= 16  # dark and flat: where rounding shows
    coded = np.clip(reference + rng.normal(0, 8, size), 0, 255).astype(np.uint8)
    expected = ssim(*(torch.from_numpy(picture).double()[None, None] / 255 for picture in (coded, reference)), 11)[0, 0]
    grid = tuple(-(-side // 16) for side in size)
    quality = RegionQuality()
    quality.add(coded, reference, np.full(grid, 30))
    parts = [[expected[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].mean() for j in range(grid[1])] for i in range(grid[0])]
    np.testing.assert_allclose(quality.figures()["ssim_map"], parts, atol=1e-5)


def test_error_is_found_in_its_macroblock():
    reference = np.full((40, 50), 100, np.uint8)
    coded = reference.copy()
    coded[32:, 48:] += 10  # the last macroblock, 8x2 pixels of it inside the picture
    quality = RegionQuality()
    quality.add(coded, reference, np.full((3, 4), 30))
    figures = quality.figures()
    assert figures["psnr_map"][2][3] == pytest.approx(10 * np.log10(255**2 / 100))
    assert [value for row in figures["psnr_map"] for value in row].count(None) == 11
    assert figures["psnr"] == pytest.approx(10 * np.log10(255**2 * 2000 / (16 * 100)))
    assert figures["ssim_map"][0][0] == pytest.approx(1) and figures["ssim_map"][2][3] < 0.9


def test_thirds_follow_the_qps_of_every_frame_and_share_out_equal_ones():
    reference = np.zeros((16, 48), np.uint8)
    coded = np.repeat(np.array([[1, 2, 4]], np.uint8), 16, axis=1).repeat(16, axis=0)
    quality = RegionQuality()
    quality.add(coded, reference, np.array([[20, 30, 40]]))
    quality.add(coded, reference, np.array([[40, 40, 40]]))  # no order: every third gets a third of every macroblock
    thirds = quality.figures()["by_qp"]
    assert [third["qp_mean"] for third in thirds.values()] == pytest.approx([30, 35, 40])
    errors = [255**2 / 10 ** (third["psnr"] / 10) for third in thirds.values()]
    assert errors == pytest.approx([(1 + 7) / 2, (4 + 7) / 2, (16 + 7) / 2])


def test_quality_lies_where_the_map_put_it(tmp_path):
    clip = make_noise(frames=3)
    qp = np.full((3, 4, 6), 40)
    qp[:, :, :3] = 20
    (tmp_path / "coded.mp4").write_bytes(X264(bframes=0).encode(clip, QPMap(qp)).bitstream)
    (tmp_path / "reference.mp4").write_bytes(X264(bframes=0).encode(clip, QPMap.uniform(2, like=clip)).bitstream)
    figures = of_files(tmp_path / "coded.mp4", tmp_path / "reference.mp4")
    psnr = np.array(figures["psnr_map"])
    assert psnr[:, :3].min() > psnr[:, 3:].max() + 10
    assert figures["by_qp"]["lowest"]["psnr"] > figures["by_qp"]["highest"]["psnr"] + 10
    assert figures["by_qp"]["lowest"]["ssim"] > figures["by_qp"]["highest"]["ssim"]


def test_identical_pictures_have_no_psnr_and_tiny_ones_no_ssim():
    picture = np.zeros((8, 8), np.uint8)
    quality = RegionQuality()
    quality.add(picture, picture, np.array([[26]]))
    figures = quality.figures()
    assert figures["psnr"] is None and figures["ssim"] is None and figures["by_qp"]["middle"]["psnr"] is None


def test_ssim_is_measured_of_some_frames_of_a_long_video():
    assert ssim_every(0) == ssim_every(300) == 1 and ssim_every(90_000) == 360
    quality = RegionQuality(ssim_every=2)
    flat = np.full((16, 16), 50, np.uint8)
    for noise in (0, 40, 0, 40):
        quality.add(flat + np.uint8(noise) * (np.arange(16) % 2).astype(np.uint8), flat, np.array([[26]]))
    figures = quality.figures()
    assert (figures["frames"], figures["ssim_frames"]) == (4, 2)
    assert figures["ssim"] == pytest.approx(1) == figures["by_qp"]["lowest"]["ssim"] and figures["psnr"] < 30


def test_luma_of_another_range_is_brought_to_the_coded_one():
    from dataclasses import replace

    clip = make_scene(frames=1)
    full = replace(clip, full_range=True).frame(0)
    full.color_range = 2
    limited = luma(full, full_range=False)
    expected = 16 + clip.y[0] * (219 / 255)
    assert np.abs(limited - expected).max() <= 1
    np.testing.assert_array_equal(luma(full, full_range=True), read_plane(full.planes[0]))
