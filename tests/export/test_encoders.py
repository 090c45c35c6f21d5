"""The real encoders on the exported files, by the commands that are printed: quality moves to where and when the map asks."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dvcc import Clip, QPMap, QPOffsets
from dvcc.export import FORMATS
from dvcc.media.probe import open_video
from dvcc.media.source import VideoSource
from tests.export.conftest import decoded_luma, write_video

GOP = 6


@pytest.fixture
def clip(rng) -> Clip:
    """192x128: three by two units of 64x64. Texture of all scales that pans, with a little noise, so that every QP tells."""
    height, width, frames = 128, 192, 2 * GOP
    size = (height + frames, width + 2 * frames)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size[0]), np.fft.fftfreq(size[1]), indexing="ij"))
    texture = np.fft.ifft2(np.fft.fft2(rng.normal(size=size)) / (frequency + 0.02)).real
    luma = 128 + 45 * texture / texture.std()
    pan = np.stack([luma[t : t + height, 2 * t : 2 * t + width] for t in range(frames)])
    grey = np.full((frames, height // 2, width // 2), 128, np.uint8)
    return Clip((pan + rng.normal(0, 1, pan.shape)).clip(0, 255).astype(np.uint8), grey, grey, Fraction(25))


def halves(left: int, right: int) -> np.ndarray:
    values = np.full((GOP, 8, 12), right)
    values[:, :, :4] = left  # a column of 64x64 units
    return values


def psnr_of_sides(clip: Clip, coded: Path) -> np.ndarray:
    """(2 GOPs, left and right), dB."""
    errors = (decoded_luma(coded).astype(float) - clip.y) ** 2
    sides = [errors[:, :, :64], errors[:, :, 64:]]
    return np.array([[10 * np.log10(255**2 / side[gop].mean()) for side in sides] for gop in (slice(GOP), slice(GOP, None))])


def code(name: str, maps: list, source: VideoSource, folder: Path, **words: str) -> Path:
    """Run the printed command. words: what a user puts for a word in capitals."""
    out = folder / f"map {len(list(folder.iterdir()))}{FORMATS[name].suffix}"
    with open(out, "wb") as file:
        command = FORMATS[name].write(file, iter(maps), source=source, out=out, gop=GOP)
    coded = out.with_suffix(".coded.mp4" if name == "x265" else ".hevc" if name == "kvazaar" else ".ivf")
    for word, value in {"OUT.mp4": f"'{coded}'", "OUT.hevc": f"'{coded}'", "OUT.ivf": f"'{coded}'", **words}.items():
        command = command.replace(word, value)
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 or name == "kvazaar", result  # 2.3.1 crashes when all is coded: its issue 427
    coded.with_suffix(".log").write_text(result.stderr)
    return coded


def moved(name: str, maps: list, flat: list, clip: Clip, folder: Path, **words: str) -> np.ndarray:
    """What the maps change in PSNR against the flat ones, as `psnr_of_sides`."""
    source = open_video(write_video(folder / "in video.mkv", clip)).upright()
    return psnr_of_sides(clip, code(name, maps, source, folder, **words)) - psnr_of_sides(
        clip, code(name, flat, source, folder, **words)
    )


def finer(change: np.ndarray) -> np.ndarray:
    """Of the side that the maps favour: left in the first GOP, right in the second."""
    return change.diagonal()


def coarser(change: np.ndarray) -> np.ndarray:
    """Of the other side."""
    return change[:, ::-1].diagonal()


def test_kvazaar_takes_absolute_maps(clip, programs, tmp_path):
    programs("kvazaar")
    maps, flat = [QPMap(halves(22, 38)), QPMap(halves(38, 22))], 2 * [QPMap(halves(30, 30))]
    change = moved("kvazaar", maps, flat, clip, tmp_path)
    assert all("AVG QP: 26.0" in log.read_text() for log in tmp_path.glob("*.log"))  # of slices: what maps are less of
    assert finer(change).min() > 1 and coarser(change).max() < -3, change


def test_kvazaar_takes_offsets(clip, programs, tmp_path):
    programs("kvazaar")
    maps, flat = [QPOffsets(halves(-8, 8)), QPOffsets(halves(8, -8))], 2 * [QPOffsets(halves(0, 0))]
    change = moved("kvazaar", maps, flat, clip, tmp_path, **{"--qp QP": "--qp 30"})
    assert finer(change).min() > 1 and coarser(change).max() < -3, change


def test_svtav1_takes_offsets(clip, programs, tmp_path):
    program = programs("SvtAv1EncApp")
    if "--roi-map-file" not in subprocess.run([program, "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this SvtAv1EncApp has no --roi-map-file, which came with 1.6")
    maps, flat = [QPOffsets(halves(-8, 8)), QPOffsets(halves(8, -8))], 2 * [QPOffsets(halves(-8, -8))]
    change = moved("svtav1", maps, flat, clip, tmp_path)
    assert abs(finer(change)).max() < 0.5 and coarser(change).max() < -1.5, change


def test_x265_takes_absolute_maps(clip, programs, tmp_path):
    maps, flat = [QPMap(halves(22, 38)), QPMap(halves(38, 22))], 2 * [QPMap(halves(30, 30))]
    change = moved("x265", maps, flat, clip, tmp_path)
    assert finer(change).min() > 1 and coarser(change).max() < -3, change


def test_a_flat_map_of_x265_is_its_constant_qp(clip, ffmpeg, programs, tmp_path):
    """No QP can be read back from HEVC; but nothing else of its rate control may be at work."""
    source = open_video(write_video(tmp_path / "in.mkv", clip)).upright()
    coded = code("x265", 2 * [QPMap(halves(30, 30))], source, tmp_path)
    params = "qp=30:ipratio=1:pbratio=1:aq-mode=0:cutree=0:scenecut=0:log-level=none"
    constant = tmp_path / "constant.mp4"
    options = ["-c:v", "libx265", "-preset", "medium", "-g", str(GOP), "-x265-params", f"{params}:open-gop=0"]
    subprocess.run([ffmpeg, "-v", "error", "-i", source.path, *options, constant], check=True)
    np.testing.assert_allclose(psnr_of_sides(clip, coded), psnr_of_sides(clip, constant), atol=0.3)
