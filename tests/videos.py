"""Videos of every kind, made here by FFmpeg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange

from dvcc.control.deployed.onnx_export import control_to_onnx, deploy
from dvcc.control.deployed.runtime import Control
from dvcc.control.network import ControlNetwork
from tests.conftest import make_scene

MakeVideo = Callable[..., Path]


def write_video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 96),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    audio: str | None = None,
    sizes: Sequence[tuple[int, int]] = (),
    sound_first: bool = False,
    data: bool = False,
    rotation: int = 0,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    colour: dict[str, int] | None = None,
    muxer: str | None = None,
    form: dict[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """A little scene of (H, W) in `pix_fmt`, coded nearly without loss; times: in milliseconds (None: 25 fps); sizes: of several
    video streams; data: with an attached file; muxer: FFmpeg's, if not by the name; form: its options."""
    clip = make_scene(frames, size[0] + size[0] % 2, size[1] + size[1] % 2, seed=seed)
    with av.open(str(path), "w", format=muxer, options=form or {}) as container:
        container.metadata.update(metadata or {})
        default = {"qp": "10", "preset": "ultrafast"} if codec == "libx264" else {}
        sound = container.add_stream(audio, rate=48000) if audio and sound_first else None
        sizes = sizes or [size]
        streams = [container.add_stream(codec, rate=25, options={**default, **(options or {})}) for _ in sizes]
        for stream, (height, width) in zip(streams, sizes, strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
            stream.codec_context.time_base = Fraction(1, 1000)
            for name, value in (colour or {}).items():
                setattr(stream.codec_context, name, value)
            if rotation or mirrored:
                stream.set_display_rotation(rotation, hflip=mirrored)
        sound = container.add_stream(audio, rate=48000) if audio and sound is None else sound
        if data:
            container.add_attachment("font.ttf", "application/x-truetype-font", b"no font")
        if sound is not None:
            sound.metadata["language"] = "deu"
        for t in range(frames):
            for stream, (height, width) in zip(streams, sizes, strict=True):
                picture = clip.frame(t).reformat(width, height, pix_fmt, dst_color_range=(colour or {}).get("color_range"))
                picture.pts, picture.time_base = (times[t] if times is not None else 40 * t), Fraction(1, 1000)
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
        if sound is not None:
            tone = (8000 * np.sin(np.arange(48000 * frames // 25) / 20)).astype(np.int16)
            chunk = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = 48000, 0, Fraction(1, 48000)
            resampled = av.AudioResampler(sound.format, sound.layout, 48000, frame_size=sound.frame_size).resample(chunk)
            for part in [*resampled, None]:
                container.mux(sound.encode(part))
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """`write_video` into the test's own folder, by name."""
    return lambda name="in.mp4", **how: write_video(tmp_path / name, **how)


@pytest.fixture
def control() -> Control:
    """A control that moves quality about, untrained."""
    return lively()


def lively_network(scale: float = 8.0, **shape: Any) -> ControlNetwork:
    """A network of random weights, whose offsets are some QPs."""
    torch.manual_seed(0)
    network = ControlNetwork(**{"width": 8, **shape})
    with torch.no_grad():
        network.head.weight.normal_(0, scale / network.head.weight[0].numel() ** 0.5)
    return network.eval()


def lively(scale: float = 8.0) -> Control:
    """The same, as it runs in a command."""
    return deploy(lively_network(scale))


def write_control(path: Path, network: ControlNetwork, config: dict[str, Any] | None = None) -> Path:
    """Its .onnx file."""
    path.write_bytes(control_to_onnx(network, config or {"run": {}}))
    return path


FULL_RANGE = int(ColorRange.JPEG)
