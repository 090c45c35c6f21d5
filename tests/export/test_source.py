"""Reading a video one GOP at a time."""

from __future__ import annotations

import itertools
import subprocess

import av
import numpy as np
import pytest

from dvcc import read_clip
from dvcc.errors import VideoError
from dvcc.export import Source
from tests.conftest import make_scene
from tests.export.conftest import write_video


def test_the_gops_together_are_the_clip(tmp_path):
    clip = make_scene(frames=11)
    source = Source.open(write_video(tmp_path / "in.mkv", clip))
    gops = list(source.gops(4))
    assert [gop.num_frames for gop in gops] == [4, 4, 3]
    whole = read_clip(source.path)
    for name in ("y", "u", "v"):
        np.testing.assert_array_equal(np.concatenate([getattr(gop, name) for gop in gops]), getattr(whole, name))
    assert (source.height, source.width, source.fps) == (64, 96, 25) and gops[0].fps == whole.fps


def test_no_more_than_a_gop_is_decoded_ahead(tmp_path, monkeypatch):
    source = Source.open(write_video(tmp_path / "in.mkv", make_scene(frames=40), codec="rawvideo"))
    converted = []
    monkeypatch.setattr("dvcc.export.source.convert_frames", lambda frames, fps: converted.append(len(list(frames))) or source)
    next(source.gops(4))
    assert converted == [4]


def test_a_turned_video_is_upright(tmp_path, ffmpeg):
    path = write_video(tmp_path / "in.mp4", make_scene(frames=2), codec="libx264")
    turned = tmp_path / "turned.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-display_rotation", "90", "-i", path, "-c", "copy", turned], check=True)
    source = Source.open(turned)
    assert (source.height, source.width) == (96, 64) and next(source.gops(2)).y.shape == (2, 96, 64)


def test_words_of_no_encoding_do_no_harm(tmp_path):
    path = write_video(tmp_path / "in.mkv", make_scene(frames=2))
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"L\xb2vf"))
    assert next(Source.open(path).gops(2)).num_frames == 2


def test_bad_files_are_told_apart(tmp_path):
    good = write_video(tmp_path / "good.mp4", make_scene(frames=8), codec="libx264").read_bytes()
    files = {"empty.mp4": b"", "text.mp4": b"no video here " * 40, "cut.mp4": good[: len(good) // 2], "head.mp4": good[:40]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 64), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    for name, reason in {
        **dict.fromkeys(files, "check that the file is complete"),
        "missing.mp4": "does not exist",
        "folder": "is a folder",
        "sound.wav": "no video stream",
    }.items():
        with pytest.raises(VideoError, match=f"{name}.*{reason}"):
            Source.open(tmp_path / name)


def test_frames_that_change_their_size_are_refused(tmp_path):
    parts = [
        write_video(tmp_path / f"{n}.h264", make_scene(frames=4, height=h), codec="libx264").read_bytes()
        for n, h in enumerate((64, 96))
    ]
    (tmp_path / "both.h264").write_bytes(b"".join(parts))
    gops = Source.open(tmp_path / "both.h264").gops(4)
    with pytest.raises(VideoError, match=r"both.h264.*size"):
        list(gops)


def test_every_frame_of_a_broken_video_is_an_error_or_a_frame(tmp_path, rng):
    """Bits flipped and pieces cut out: a sentence or a map, never anything else."""
    good = np.frombuffer(write_video(tmp_path / "good.mp4", make_scene(frames=12), codec="libx264").read_bytes(), np.uint8)
    told = []
    for number in range(40):
        data = good.copy()
        if number % 2:
            data[rng.integers(0, len(data), 20)] ^= np.uint8(1 << rng.integers(0, 8))
        else:
            start = rng.integers(0, len(data))
            data = np.delete(data, np.s_[start : start + 200])
        path = tmp_path / "broken.mp4"
        path.write_bytes(data.tobytes())
        try:
            for gop in itertools.islice(Source.open(path).gops(4), 10):
                assert gop.y.size
        except VideoError as error:
            told.append(str(error))
    assert 0 < len(told) < 40 and all("broken.mp4" in sentence and "\n" not in sentence for sentence in told)
