"""Pictures from Python become packets or a file."""

import io
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest

import dvcc
from dvcc.clip import Clip
from dvcc.encoding.target import LiveTarget
from dvcc.errors import ConfigError, DvccError, VideoError
from tests.conftest import make_scene

KNOWN = {"fps": 25, "target_kbps": 200, "preset": "ultrafast", "threads": 1}


@pytest.fixture
def clip():
    return make_scene(30, 64, 96)


def decode(data, form=None):
    """RGB (T, H, W, 3) of a stream."""
    with av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data), format=form) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def colours(count=20):
    """Pictures of one colour, red, green and blue apart."""
    return [np.broadcast_to(np.array([200, 90, 20], np.uint8), (64, 96, 3))] * count


@pytest.mark.parametrize("pixels", ["bgr", "rgb"])
def test_colours_are_those_of_the_arrays(pixels):
    arrays = [picture[..., ::-1] if pixels == "bgr" else picture for picture in colours()]
    packets = list(dvcc.encode(arrays, pixels=pixels, **KNOWN))
    decoded = decode(b"".join(packet.data for packet in packets), "h264")
    assert decoded.shape == (20, 64, 96, 3)
    np.testing.assert_allclose(decoded[10].reshape(-1, 3).mean(0), [200, 90, 20], atol=3)


def test_planes_and_planes_below_one_another_are_the_same(clip):
    planes = list(zip(clip.y, clip.u, clip.v, strict=True))
    stacked = [np.concatenate([y, u.reshape(-1, 96), v.reshape(-1, 96)]) for y, u, v in planes]
    from_planes, from_stacked = (list(dvcc.encode(given, pixels="yuv420p", **KNOWN)) for given in (planes, stacked))
    assert from_planes == from_stacked and sorted(packet.frame for packet in from_planes) == list(range(30))
    assert [packet.frame for packet in from_planes if packet.is_keyframe] == [0, 25]


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.ts", "out.mov"])
def test_a_file_appears_whole(clip, tmp_path, name, control):
    planes = zip(clip.y, clip.u, clip.v, strict=True)

    def watched():
        for picture in planes:
            assert not (tmp_path / name).exists()
            yield picture

    result = dvcc.encode(watched(), pixels="yuv420p", out=tmp_path / name, control=control, **KNOWN)
    assert result.stats.num_frames == 30 and result.stats.seconds == pytest.approx(1.2)
    assert len(decode(tmp_path / name)) == 30 and [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_is_left_of_what_breaks(clip, tmp_path):
    def breaks():
        yield from itertools.islice(zip(clip.y, clip.u, clip.v, strict=True), 9)
        raise RuntimeError("the camera was unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        dvcc.encode(breaks(), pixels="yuv420p", out=tmp_path / "out.mp4", **KNOWN)
    assert not list(tmp_path.iterdir())


def test_packets_come_while_pictures_do(clip):
    taken = []

    def watched():
        for number, planes in enumerate(zip(clip.y, clip.u, clip.v, strict=True)):
            taken.append(number)
            yield planes

    packets = dvcc.encode(watched(), pixels="yuv420p", gop=10, **KNOWN)
    assert not taken
    assert next(packets).is_keyframe and len(taken) <= 10


def test_the_memory_of_a_picture_may_be_used_again(clip):
    def reused():
        buffer = np.empty((96, 96), np.uint8)
        for y, u, v in zip(clip.y, clip.u, clip.v, strict=True):
            buffer[:] = np.concatenate([y, u.reshape(-1, 96), v.reshape(-1, 96)])
            yield buffer

    fresh = list(dvcc.encode(zip(clip.y, clip.u, clip.v, strict=True), pixels="yuv420p", **KNOWN))
    assert list(dvcc.encode(reused(), pixels="yuv420p", **KNOWN)) == fresh


def test_the_target_may_change(clip):
    target = dvcc.LiveTarget(400)

    def falling():
        for number, planes in enumerate(zip(clip.y, clip.u, clip.v, strict=True)):
            target.target_kbps = 400 if number < 12 else 100
            yield planes

    keys = [p.frame for p in dvcc.encode(falling(), pixels="yuv420p", **{**KNOWN, "target_kbps": target}) if p.is_keyframe]
    assert len(keys) == 3 and 0 < keys[1] <= 12 and keys[2] == keys[1] + 25 and isinstance(target, LiveTarget)


def test_odd_sides_lose_their_last_row_and_column():
    arrays = [np.zeros((65, 97, 3), np.uint8)] * 3
    assert decode(b"".join(p.data for p in dvcc.encode(arrays, pixels="rgb", **KNOWN)), "h264").shape == (3, 64, 96, 3)


@pytest.mark.parametrize(
    ("frames", "pixels", "error", "message"),
    [
        ([], "rgb", VideoError, "iterator was empty"),
        ([np.zeros((64, 96, 3))], "bgr", ConfigError, r"frame 0 is float64 \(64, 96, 3\), and bgr is uint8"),
        ([np.zeros((64, 96, 4), np.uint8)], "bgr", ConfigError, r"\(64, 96, 4\)"),
        ([None], "rgb", ConfigError, "frame 0 is a NoneType"),
        ([np.zeros((64, 96, 3), np.uint8)], "yuv420p", ConfigError, "three planes"),
        ([np.zeros((8, 96, 3), np.uint8)], "rgb", ConfigError, "96x8, and the least is 16x16"),
        (
            [np.zeros((64, s, 3), np.uint8) for s in (96, 98)],
            "rgb",
            ConfigError,
            r"0 and 1 have different sizes \(98x64 and 96x64\)",
        ),
        ([np.zeros((64, 96, 3), np.uint8)], "BGR", ConfigError, "say what the arrays are"),
    ],
)
def test_what_is_no_picture_is_refused(frames, pixels, error, message):
    with pytest.raises(error, match=message):
        list(dvcc.encode(frames, pixels=pixels, **KNOWN))


def test_words_that_cannot_be_are_refused(tmp_path, clip):
    planes = list(zip(clip.y, clip.u, clip.v, strict=True))
    with pytest.raises(ConfigError, match="fps must be positive"):
        dvcc.encode(planes, pixels="yuv420p", **{**KNOWN, "fps": Fraction(0)})
    with pytest.raises(ConfigError, match="out of reach"):
        list(dvcc.encode(planes, pixels="yuv420p", **{**KNOWN, "target_kbps": 1e7}))
    with pytest.raises(ConfigError, match="does not say what to write"):
        dvcc.encode(planes, pixels="yuv420p", out=tmp_path / "out.gif", **KNOWN)
    with pytest.raises(DvccError, match="there is no folder"):
        dvcc.encode(planes, pixels="yuv420p", out=tmp_path / "no" / "out.mp4", **KNOWN)


def test_a_clip_is_decoded_as_it_went_in(clip):
    coded = dvcc.encode(zip(clip.y, clip.u, clip.v, strict=True), pixels="yuv420p", **{**KNOWN, "target_kbps": 1200})
    with av.open(io.BytesIO(b"".join(packet.data for packet in coded)), format="h264") as container:
        frames = list(container.decode(video=0))
    y = np.stack([frame.to_ndarray()[:64] for frame in frames]).astype(float)
    assert isinstance(clip, Clip) and ((y - clip.y) ** 2).mean() < 20
