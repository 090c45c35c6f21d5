"""Reading: files, frame folders, Cityscapes names, and everything that is wrong with a video."""

from fractions import Fraction
from typing import ClassVar

import av
import numpy as np
import pytest
import torch
from PIL import Image

from dvcc import CRF, X264, Clip, ConfigError, VideoError, read_clip
from dvcc.media.clips import read_parts
from tests.conftest import make_scene


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "scene.mp4"
    path.write_bytes(X264().encode(make_scene(frames=12), CRF(12)).bitstream)
    return path


def test_a_file_is_read_whole_or_in_part(video):
    whole = read_clip(video)
    assert (whole.num_frames, whole.height, whole.width, whole.fps) == (12, 64, 96, 25)
    part = read_clip(video, frames=3, start=2, stride=4)
    np.testing.assert_array_equal(part.y, whole.y[2:11:4])
    assert part.fps == Fraction(25, 4)


def test_parts_are_the_clip_and_end_with_the_video(video):
    whole = read_clip(video)
    parts = list(read_parts(video, part=5, frames=100, start=1))
    assert [part.num_frames for part in parts] == [5, 5, 1] and {part.fps for part in parts} == {whole.fps}
    np.testing.assert_array_equal(np.concatenate([part.u for part in parts]), whole.u[1:])
    assert [part.num_frames for part in read_parts(video, part=5, frames=6)] == [5, 1]
    assert not list(read_parts(video, part=5, frames=6, start=12))


def test_frames_of_another_size_end_the_parts_with_a_name(tmp_path):
    for number, size in enumerate([(32, 48), (32, 48), (48, 48)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(VideoError, match=rf"{tmp_path.name}: the frames have different sizes"):
        list(read_parts(tmp_path, part=1, frames=3))


def test_frames_are_the_rgb_of_the_planes(video):
    clip = read_clip(video, frames=2)
    assert clip.frames.shape == (2, 3, 64, 96) and clip.frames.dtype == torch.uint8
    np.testing.assert_array_equal(clip.frames[1].permute(1, 2, 0).numpy(), clip.rgb(1))
    # BT.601, limited range, written out; chroma is interpolated at edges, so look at the median of block means
    y, u, v = (plane[0].astype(float) for plane in (clip.y, clip.u, clip.v))
    y = y.reshape(32, 2, 48, 2).mean((1, 3))
    red = 1.164 * (y - 16) + 1.596 * (v - 128)
    blue = 1.164 * (y - 16) + 2.017 * (u - 128)
    rgb = clip.frames[0].double().reshape(3, 32, 2, 48, 2).mean((2, 4)).numpy()
    assert np.median(np.abs(rgb[0] - red.clip(0, 255))) < 1.5
    assert np.median(np.abs(rgb[2] - blue.clip(0, 255))) < 3


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_rgb_survives_the_round_trip_but_for_chroma_detail(matrix):
    rgb = torch.full((2, 3, 32, 48), 0, dtype=torch.uint8)
    rgb[:, 0], rgb[:, 1], rgb[:, 2] = 180, 90, 40
    clip = Clip.from_rgb(rgb, 30, matrix=matrix)
    assert clip.matrix == matrix and clip.fps == 30
    assert (clip.frames.int() - rgb.int()).abs().max() <= 2


def test_scaling_and_colour_tags(video):
    assert read_clip(video, size=(32, 48)).y.shape == (12, 32, 48)


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    for index in range(2):
        Image.fromarray(np.full((33, 47, 3), 100, np.uint8)).save(tmp_path / f"{index}.png")
    assert read_clip(tmp_path).y.shape == (2, 32, 46)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for index in (10, 9, 2):
        Image.fromarray(np.full((32, 48, 3), 20 * index, np.uint8)).save(tmp_path / f"frame{index}.png")
    clip = read_clip(tmp_path)
    means = clip.y.mean((1, 2))
    assert clip.fps == 25 and list(means) == sorted(means)
    assert read_clip(tmp_path, fps=Fraction(10)).fps == 10


def test_cityscapes_sequences_are_followed_from_their_image(tmp_path):
    for start in (275, 400):
        for frame in range(start, start + 4):
            name = f"frankfurt_000000_{frame:06d}_leftImg8bit.png"
            Image.fromarray(np.full((32, 48, 3), frame % 256, np.uint8)).save(tmp_path / name)
    clip = read_clip(tmp_path / "frankfurt_000000_000400_leftImg8bit.png", frames=2, stride=2)
    assert clip.fps == Fraction(17, 2) and clip.num_frames == 2
    with pytest.raises(VideoError, match="2 Cityscapes sequences"):
        read_clip(tmp_path)
    with pytest.raises(VideoError, match="only 2 of the 3"):
        read_clip(tmp_path / "frankfurt_000000_000402_leftImg8bit.png", frames=3)


def test_rotation_is_applied(tmp_path, monkeypatch):
    from dvcc import clip as module

    class Turned:
        def __init__(self, frame):
            self.frame = frame

        rotation = 90
        side_data: ClassVar = {"DISPLAYMATRIX": np.eye(3, dtype=np.int32).tobytes()}  # which mirrors nothing

        def __getattr__(self, name):
            return getattr(self.frame, name)

    upright = make_scene(frames=1)
    turned = module.convert_frames(iter([Turned(upright.frame(0))]), Fraction(25), None)
    np.testing.assert_array_equal(turned.y[0], np.rot90(upright.y[0]))


def _audio_only(path):
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


BAD_VIDEOS = {
    "missing": lambda path, good: None,
    "empty": lambda path, good: path.write_bytes(b""),
    "text": lambda path, good: path.write_text("not a video\n" * 50),
    "truncated": lambda path, good: path.write_bytes(good[: len(good) // 2]),
    "empty folder": lambda path, good: path.mkdir(),
    "audio only": lambda path, good: _audio_only(path),
}


@pytest.mark.parametrize("kind", BAD_VIDEOS)
def test_bad_videos_are_video_errors_that_name_the_file(kind, video, tmp_path):
    path = tmp_path / "bad.mp4"
    BAD_VIDEOS[kind](path, video.read_bytes())
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        read_clip(path)


def test_too_short_says_how_many_there_are(video):
    with pytest.raises(VideoError, match="only 12 of the 20"):
        read_clip(video, frames=20)
    with pytest.raises(VideoError, match="no frame"):
        read_clip(video, frames=1, start=100)


@pytest.mark.parametrize("arguments", [{"frames": 0}, {"start": -1}, {"stride": 0}, {"size": (33, 48)}, {"size": (8, 8)}])
def test_wrong_numbers_are_config_errors(arguments, video):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        read_clip(video, **arguments)


def test_planes_that_do_not_belong_together_are_refused(scene):
    with pytest.raises(ConfigError, match="plane u"):
        Clip(scene.y, scene.u[:, :-1], scene.v, Fraction(25))
    with pytest.raises(ConfigError, match="uint8"):
        Clip(scene.y.astype(np.float32), scene.u, scene.v, Fraction(25))
    with pytest.raises(ConfigError, match="even"):
        Clip(scene.y[:, 1:], scene.u, scene.v, Fraction(25))
    with pytest.raises(ConfigError, match="uint8"):
        Clip.from_rgb(torch.zeros(1, 3, 32, 32), 25)


def test_crop_and_flip_commute_with_the_picture(scene):
    cut = scene.crop(top=16, left=32, height=32, width=48, flip=True)
    expected = scene.frames[:, :, 16:48, 32:80].flip(-1)
    assert (cut.frames.int() - expected.int()).abs().float().mean() < 2  # chroma upsampling looks across the new border
    np.testing.assert_array_equal(cut.y, scene.y[:, 16:48, 32:80][:, :, ::-1])
    with pytest.raises(ConfigError, match="leaves"):
        scene.crop(top=0, left=0, height=128, width=48)
    with pytest.raises(ConfigError, match="even"):
        scene.crop(top=1, left=0, height=32, width=48)


def test_the_digest_tells_content_apart(scene):
    assert scene.digest == make_scene().digest
    changed = make_scene()
    changed.y[3, 5, 7] ^= 1
    assert changed.digest != scene.digest
