"""The scripts with the real `ffmpeg` program: exact maps, every frame in its place, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dvcc import Clip, QPMap, read_clip
from dvcc.codecs.bitstream import inspect_bitstream
from dvcc.export import FORMATS
from dvcc.export.rectangles import rectangles
from dvcc.media.probe import open_video
from tests.conftest import make_noise, make_scene
from tests.export.conftest import decoded_luma, write_video

GOP = 8


def write_script(video: Path, maps: list[QPMap], *, name: str = "ffmpeg", out: str = "map.sh") -> Path:
    path = video.parent / out
    with open(path, "wb") as file:
        FORMATS[name].write(file, iter(maps), source=open_video(video).upright(), out=path, gop=GOP)
    return path


def run_script(
    script: Path | str, *words: str, ffmpeg: str, cwd: Path, temporary: str | None = None
) -> subprocess.CompletedProcess:
    environment = {**os.environ, "FFMPEG": ffmpeg, "TMPDIR": temporary or str(cwd), "LC_ALL": "C"}
    return subprocess.run(["bash", script, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


def random_maps(clip: Clip, *, seed: int = 0) -> list[QPMap]:
    """Even QPs, 18 and more, another map for every GOP."""
    rng = np.random.default_rng(seed)
    grid = QPMap.uniform(30, like=clip).values.shape[1:]
    lengths = [min(GOP, clip.num_frames - start) for start in range(0, clip.num_frames, GOP)]
    return [QPMap(2 * rng.integers(9, 23, (1, *grid)).repeat(length, 0)) for length in lengths]


def test_maps_of_noise_read_back_as_asked(ffmpeg, tmp_path):
    clip = make_noise(frames=20, height=80, width=112)
    maps = random_maps(clip)
    video = write_video(tmp_path / "in.mkv", clip)
    result = run_script(write_script(video, maps), "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path)
    assert result.returncode == 0 and "20 frames" in result.stdout and not result.stderr, result
    report, asked = inspect_bitstream(tmp_path / "out.mp4"), np.concatenate([qp.values for qp in maps])
    assert "B" in report.frame_types and [t for t, kind in enumerate(report.frame_types) if kind == "I"] == [0, 8, 16]
    for kind, least in {"I": 1, "P": 1, "B": 0.95}.items():
        of_kind = np.array([frame_type == kind for frame_type in report.frame_types])
        assert (report.realised_qp.values == asked)[of_kind].mean() >= least, kind
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "map.sh", "out.mp4"]


def test_every_frame_is_in_its_place(ffmpeg, tmp_path):
    """At a rate that is no whole number, with B frames, over the seams."""
    clip = make_scene(frames=20)
    clip = Clip(clip.y, clip.u, clip.v, Fraction(30000, 1001), "bt709", True)
    video = write_video(tmp_path / "in.mp4", clip, codec="libx264")
    maps = [QPMap(np.full((n, 4, 6), 18)) for n in (8, 8, 4)]
    assert run_script(write_script(video, maps), "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path).returncode == 0
    coded, source = decoded_luma(tmp_path / "out.mp4").astype(int), decoded_luma(video).astype(int)
    assert coded.shape == source.shape
    nearest = [np.abs(source - frame).mean((1, 2)).argmin() for frame in coded]
    assert nearest == list(range(20))
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(20) * 1001 / 30000, atol=1e-3)


def test_full_range_stays_full(ffmpeg, tmp_path):
    clip = make_scene(frames=2)
    clip = Clip(np.where(clip.y > 120, 255, clip.y // 4).astype(np.uint8), clip.u, clip.v, clip.fps, "bt601", True)
    video = write_video(tmp_path / "in.avi", clip, codec="mjpeg", pixels="yuvj420p")
    run_script(write_script(video, [QPMap.uniform(18, like=clip)]), "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path)
    asked = read_clip(video).y.astype(int)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
        coded = np.stack(
            [frame.reformat(format="yuv420p", src_color_range=2, dst_color_range=2).to_ndarray()[:64] for frame in frames]
        )
        assert {int(frame.color_range) for frame in frames} == {2}
    assert np.abs(coded - asked).mean() < 3


@pytest.mark.parametrize("lasts", [0, 1, 7])
def test_frames_at_odd_times_are_all_coded_once(lasts, ffmpeg, tmp_path):
    """Whatever the last of them lasts in the file."""
    clip, times = make_noise(frames=10), [3, 4, 5, 9, 10, 11, 12, 40, 41, 43]
    maps = random_maps(clip)
    video = write_video(tmp_path / "in.mp4", clip, codec="mpeg4", times=times, lasts=lasts)
    result = run_script(write_script(video, maps), "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path)
    assert result.returncode == 0, result
    coded = decoded_luma(tmp_path / "out.mp4").astype(int)
    assert [np.abs(clip.y.astype(int) - frame).mean((1, 2)).argmin() for frame in coded] == list(range(10))


@pytest.mark.parametrize("name", ["ffmpeg", "x265"])
def test_the_pixel_shape_is_kept(name, ffmpeg, tmp_path):
    clip, aspect = make_scene(frames=4), Fraction(160, 117)
    video = write_video(tmp_path / "in.mp4", clip, codec="libx264", pixel_aspect=aspect)
    script = write_script(video, [QPMap.uniform(30, like=clip)], name=name)
    assert run_script(script, "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path).returncode == 0
    assert open_video(tmp_path / "out.mp4").picture.pixel_aspect == aspect


def test_colour_tags_are_kept(ffmpeg, tmp_path):
    clip = make_scene(frames=2)
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        tags = {"color_range": 2, "color_primaries": 1, "color_trc": 1, "colorspace": 1}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for t in range(2):
            frame = clip.frame(t)
            frame.pts = t
            for name, value in tags.items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    run_script(write_script(path, [QPMap.uniform(18, like=clip)]), "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert {name: int(getattr(frame, name)) for name in tags} == tags
    assert np.abs(decoded_luma(tmp_path / "out.mp4").astype(int) - decoded_luma(path)).mean() < 2  # no change of range


@pytest.mark.parametrize("size", [(65, 97), (64, 97), (35, 51)])
@pytest.mark.parametrize("pixels", ["yuv444p", "gray", "yuv420p10le"])
def test_odd_sizes_and_other_pixels_are_coded_as_the_map_was_made(size, pixels, ffmpeg, tmp_path):
    """The last odd row and column are cut for the encoder as for the map: 97 pixels have six macroblocks then, not seven."""
    height, width = size
    rng = np.random.default_rng(0)
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for t in range(3):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (height, width), dtype=np.uint8), format="gray")
            frame = frame.reformat(format=pixels)
            frame.pts = t
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = open_video(path).upright()
    assert (source.picture.height, source.picture.width) == (height - height % 2, width - width % 2)
    clip = read_clip(path)
    maps = random_maps(clip)
    result = run_script(write_script(path, maps), "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path)
    assert result.returncode == 0, result
    report = inspect_bitstream(tmp_path / "out.mp4")
    assert report.realised_qp.values.shape == maps[0].values.shape
    assert (report.realised_qp.values[0] == maps[0].values[0]).all()
    coded = decoded_luma(tmp_path / "out.mp4")
    assert coded.shape == clip.y.shape and np.abs(coded.astype(int) - clip.y).mean() < 40


def test_names_with_anything_in_them(ffmpeg, tmp_path):
    clip = make_scene(frames=4)
    folder = tmp_path / "-a b"
    folder.mkdir()
    video = write_video(folder / '-it\'s "$HOME" `x`;\n%d é:.mkv', clip)
    script = write_script(video, [QPMap.uniform(30, like=clip)], out="-my map.sh")
    for words, made in (((), f"{video.stem}.x264.mp4"), (("-o u't:.mp4",), "-o u't:.mp4"), ((str(folder / "b.mp4"),), "b.mp4")):
        result = run_script("./-my map.sh", *words, ffmpeg=ffmpeg, cwd=folder)
        assert result.returncode == 0 and len(decoded_luma(folder / made)) == 4, result
    assert len(list(folder.iterdir())) == 5 and script.exists()


def refused(result: subprocess.CompletedProcess, reason: str) -> None:
    """The last line says it, and no other line of the script does."""
    *others, sentence = result.stderr.splitlines()
    assert result.returncode == 2 and sentence.startswith("error: ") and reason in sentence, result
    assert not [line for line in others if line.startswith(("error", "mktemp", "in.sh"))], result


def test_what_goes_wrong_leaves_no_file(ffmpeg, tmp_path):
    clip = make_scene(frames=4)
    video = write_video(tmp_path / "in.mkv", clip)
    script = write_script(video, [QPMap.uniform(30, like=clip)])
    longer = write_script(video, 2 * [QPMap.uniform(30, like=clip)], out="longer.sh")
    shorter = write_script(video, [QPMap(QPMap.uniform(30, like=clip).values[:3])], out="shorter.sh")
    full = tmp_path / "full"  # an encoder that finds the disk so
    full.write_text(f'#!/bin/sh\ncase "$*" in *libx264*) echo No space >&2; exit 228 ;; esac\nexec \'{ffmpeg}\' "$@"\n')
    full.chmod(0o755)
    before, data = sorted(tmp_path.iterdir()), video.read_bytes()
    refused(run_script(script, "out.mp4", ffmpeg="no-such-program", cwd=tmp_path), "no program no-such-program")
    refused(run_script(script, "out.mp4", ffmpeg="false", cwd=tmp_path), "false does not run as ffmpeg does")
    refused(run_script(script, "out.mp4", ffmpeg="true", cwd=tmp_path), "true does not run as ffmpeg does")
    refused(run_script(script, "out.mp4", ffmpeg=str(full), cwd=tmp_path), "coding stopped after 0 frames (status 228)")
    refused(run_script(script, "in.mkv", ffmpeg=ffmpeg, cwd=tmp_path), "the video itself")
    refused(run_script(script, ".", ffmpeg=ffmpeg, cwd=tmp_path), "a folder")
    refused(
        run_script(script, "no/such/out.mp4", ffmpeg=ffmpeg, cwd=tmp_path), "write ./no/such/out.mp4 (No such file or directory)"
    )
    refused(run_script(script, "/proc/out.mp4", ffmpeg=ffmpeg, cwd=tmp_path), "cannot write /proc/out.mp4 (")  # not even root may
    refused(run_script(script, "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path, temporary="/no"), "set TMPDIR to a folder with space")
    refused(run_script(longer, "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path), "only 4 of the 8 frames")
    refused(run_script(shorter, "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path), "more than the 3 frames")
    assert sorted(tmp_path.iterdir()) == before and video.read_bytes() == data
    video.unlink()
    refused(run_script(script, "out.mp4", ffmpeg=ffmpeg, cwd=tmp_path), "is gone")
    assert not (tmp_path / "out.mp4").exists()


def test_an_interrupted_script_leaves_no_file(ffmpeg, tmp_path):
    clip = make_noise(frames=8)
    video = write_video(tmp_path / "in.mkv", clip)
    script = write_script(video, [QPMap.uniform(30, like=clip)])
    slow = tmp_path / "slow"  # an encoder that takes its time, and ends as ffmpeg does
    begun = f"trap 'exit 255' INT; touch '{tmp_path}/begun'; sleep 1"
    slow.write_text(f'#!/bin/sh\ncase "$*" in *libx264*) {begun} ;; esac\nexec \'{ffmpeg}\' "$@"\n')
    slow.chmod(0o755)
    before = sorted(tmp_path.iterdir())
    environment = {**os.environ, "FFMPEG": str(slow), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        ["bash", script, "out.mp4"], cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.PIPE
    )
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0 and b"error: " not in errors
    (tmp_path / "begun").unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_rectangles_tile_the_map_and_join_what_is_equal(rng):
    values = rng.integers(0, 3, (7, 9))
    tiled = np.full_like(values, -1)
    for top, left, height, width, value in rectangles(values):
        area = tiled[top : top + height, left : left + width]
        assert (area == -1).all()
        area[:] = value
    np.testing.assert_array_equal(tiled, values)
    blocks = np.zeros((6, 8), int)
    blocks[2:5, 3:6] = 4
    assert len(list(rectangles(blocks))) == 5
    assert list(rectangles(np.full((3, 4), 7))) == [(0, 0, 3, 4, 7)]
