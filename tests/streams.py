"""Transport streams put together from pieces with stamps of any kind, as cameras and `cat` make them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.conftest import make_scene

Piece = tuple[int, float]
"""Frames, and the time in seconds of the first."""


def coded_packets(
    frames: int, *, bframes: int = 0, fps: int = 25, said_fps: int | None = None, gop: int = 10, form: str = ""
) -> io.BytesIO:
    """A little scene in a file in memory; said_fps: what the stream itself says of its rate; form: matroska, or mp4 in fragments;
    otherwise an mp4 with its index."""
    buffer = io.BytesIO()
    clip = make_scene(frames, 64, 96)
    fragments = {"movflags": "frag_keyframe+empty_moov"} if form == "mp4" else {}
    with av.open(buffer, "w", format=form or "mp4", options=fragments) as container:
        options = {"qp": "10", "preset": "ultrafast", "bf": str(bframes), "g": str(gop), "x264-params": "scenecut=0"}
        stream = container.add_stream("libx264", rate=said_fps or fps, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, said_fps or fps)
        for t in range(frames):
            picture = clip.frame(t)
            picture.pts, picture.time_base = t, Fraction(1, said_fps or fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    buffer.seek(0)
    return buffer


def write_pieces(
    path: Path,
    pieces: Sequence[Piece],
    *,
    bframes: int = 0,
    audio: bool = False,
    form: str = "mpegts",
    drop: Sequence[int] = (),
    fps: int = 25,
    said_fps: int | None = None,
    audio_apart: float = 0.0,
    audio_jump: tuple[int, float] = (0, 0.0),
) -> Path:
    """A video at `fps` whose pieces begin at the given times, each muxed by itself and all put behind one another (mpegts), or
    into one container (any other form, whose pieces must not go back). drop: audio packets of every piece that are missing.
    audio_apart: seconds between the clocks of audio and video. audio_jump: the packet from which, and the seconds by which, the
    audio of every piece jumps."""
    frames = sum(count for count, _ in pieces)
    slower = (said_fps or fps) / fps
    if form != "mpegts":
        _one_container(path, pieces, coded_packets(frames, bframes=bframes, fps=fps, said_fps=said_fps), form, fps, slower)
        return path
    data = bytearray()
    for number, (count, begin) in enumerate(pieces):
        source = coded_packets(sum(n for n, _ in pieces[: number + 1]), bframes=bframes, fps=fps, said_fps=said_fps)
        skipped = sum(n for n, _ in pieces[:number])
        data += piece(
            source, skipped, count, begin, audio=audio, drop=drop, fps=fps, said_fps=said_fps, apart=audio_apart, jump=audio_jump
        )
    path.write_bytes(data)
    return path


def piece(
    source: io.BytesIO,
    skipped: int,
    count: int,
    begin: float,
    *,
    audio: bool = False,
    drop: Sequence[int] = (),
    fps: int = 25,
    said_fps: int | None = None,
    apart: float = 0.0,
    jump: tuple[int, float] = (0, 0.0),
) -> bytes:
    """A transport stream of `count` packets of `source` after the first `skipped`, from `begin` on, in seconds."""
    buffer = io.BytesIO()
    options = {"mpegts_copyts": "1"}
    with av.open(source) as coded, av.open(buffer, "w", format="mpegts", options=options) as container:
        video = container.add_stream_from_template(coded.streams.video[0])
        sound = container.add_stream("aac", rate=48000, layout="mono") if audio else None
        if sound is not None:
            _tone(container, sound, begin + apart, count / fps, drop, jump)
        packets = [packet for packet in coded.demux(video=0) if packet.size]
        for packet in packets[skipped : skipped + count]:
            _retime(packet, begin - skipped / fps, (said_fps or fps) / fps)
            packet.stream = video
            container.mux(packet)
    return buffer.getvalue()


def _tone(container, stream, begin: float, seconds: float, drop: Sequence[int], jump: tuple[int, float]) -> None:
    samples = (8000 * np.sin(np.arange(round(48000 * seconds)) / 20)).astype(np.int16)
    chunk = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    chunk.sample_rate, chunk.pts, chunk.time_base = 48000, round(begin * 48000), Fraction(1, 48000)
    resampler, number = av.AudioResampler("fltp", "mono", 48000, frame_size=1024), 0
    for frame in [*resampler.resample(chunk), None]:
        for packet in stream.encode(frame):
            number += 1
            if number - 1 not in drop and packet.pts >= round(begin * 48000):
                if jump[1] and number > jump[0]:
                    packet.pts += round(jump[1] / packet.time_base)
                    packet.dts += round(jump[1] / packet.time_base)
                container.mux(packet)


def _retime(packet: av.Packet, shift: float, slower: float) -> None:
    for name in ("pts", "dts"):
        setattr(packet, name, round((float(getattr(packet, name) * packet.time_base) * slower + shift) / packet.time_base))
    packet.duration = round(packet.duration * slower)


def _one_container(path: Path, pieces: Sequence[Piece], source: io.BytesIO, form: str, fps: int, slower: float) -> None:
    with av.open(source) as coded, av.open(str(path), "w", format=form) as container:
        video = container.add_stream_from_template(coded.streams.video[0])
        packets = iter([packet for packet in coded.demux(video=0) if packet.size])
        done = 0
        for count, begin in pieces:
            for _ in range(count):
                packet = next(packets)
                _retime(packet, begin - done / fps, slower)
                packet.stream = video
                container.mux(packet)
            done += count


def set_time(path: Path, number: int, seconds: float) -> None:
    """Give the `number`-th picture of a transport stream another time stamp, in place."""
    data, seen, ticks = bytearray(path.read_bytes()), -1, round(seconds * 90000) % 2**33
    for at in range(0, len(data), 188):
        pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
        if pid != 256 or not data[at + 1] & 0x40:  # no start of a packet of the video
            continue
        seen += 1
        if seen == number:
            begin = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
            for place in (9, 14) if data[begin + 7] >> 6 == 3 else (9,):
                kept, field = data[begin + place] & 0xF0, begin + place
                high, middle, low = (ticks >> 30 & 7) << 1 | 1, (ticks >> 15 & 32767) << 1 | 1, (ticks & 32767) << 1 | 1
                data[field : field + 5] = bytes((kept | high, middle >> 8, middle & 255, low >> 8, low & 255))
            path.write_bytes(data)
            return
    raise AssertionError(f"{path} has only {seen + 1} pictures")
