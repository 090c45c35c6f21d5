"""Tiny videos on disk, and the programs that code them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from dvcc import Clip


def write_video(
    path: Path,
    clip: Clip,
    *,
    codec: str = "ffv1",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    lasts: int = 0,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """The clip without loss, but for the codec and a change of pixel format. times: of the frames, in units of 1 / fps, in which
    every frame `lasts` (0: not said)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=clip.fps)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, pixels
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for t in range(clip.num_frames):
            frame = clip.frame(t).reformat(format=pixels)
            frame.pts = t if times is None else times[t]
            for packet in stream.encode(frame):
                packet.duration = lasts or packet.duration
                container.mux(packet)
        container.mux(stream.encode(None))
    return path


def decoded_luma(path: Path) -> np.ndarray:
    """uint8 (T, H, W)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The stock program, a static build inside a Python package."""
    return imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture
def programs(ffmpeg, tmp_path, monkeypatch) -> Callable[[str], str]:
    """Puts `ffmpeg` on the PATH; called with the name of an encoder, skips the test where it is not installed."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "ffmpeg").symlink_to(ffmpeg)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def needed(name: str) -> str:
        return shutil.which(name) or pytest.skip(f"the program {name} is not installed")

    return needed
