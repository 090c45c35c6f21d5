"""Every kind of video comes out as rising frames of even 4:2:0, or is refused in one sentence."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from dvcc import read_clip
from dvcc.errors import ConfigError, VideoError
from dvcc.media.container import open_container
from dvcc.media.damage import Damage
from dvcc.media.probe import open_video
from dvcc.media.timestamps import Timeline
from tests.conftest import make_scene
from tests.videos import FULL_RANGE


def planes_of(path, damage=None):
    source = open_video(path)
    frames = list(source.frames(damage))
    height, width = source.picture.height, source.picture.width
    for frame in frames:
        assert [plane.shape for plane in frame.planes] == [(height, width)] + 2 * [(height // 2, width // 2)]
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    return source, frames


@pytest.mark.parametrize(
    "name, how, note",
    [
        ("odd.mkv", {"size": (65, 97), "codec": "ffv1", "pix_fmt": "yuv444p"}, "97x65 is cut to 96x64|yuv444p becomes 4:2:0"),
        ("grey.mkv", {"codec": "ffv1", "pix_fmt": "gray"}, None),
        ("ten.mkv", {"codec": "ffv1", "pix_fmt": "yuv420p10le"}, "10 bits per sample become 8"),
        ("alpha.mkv", {"codec": "ffv1", "pix_fmt": "yuva420p"}, "transparency is left out"),
        ("rgb.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}, "becomes 4:2:0"),
        ("plain.mp4", {}, None),
    ],
)
def test_every_pixel_format_becomes_even_420(make_video, name, how, note):
    source, frames = planes_of(make_video(name, **how))
    assert len(frames) == 12 and (source.picture.height, source.picture.width) == (64, 96)
    assert (not source.notes) if note is None else all(part in " ".join(source.notes) for part in note.split("|"))


def test_the_pixels_are_those_of_read_clip(make_video):
    path = make_video()
    _, frames = planes_of(path)
    clip = read_clip(path)
    np.testing.assert_array_equal(np.stack([frame.planes[0] for frame in frames]), clip.y)
    np.testing.assert_array_equal(np.stack([frame.planes[2] for frame in frames]), clip.v)


def test_time_stamps_of_variable_rate_are_kept(make_video):
    times = [0, 40, 90, 300, 310, 1000, 1040]
    source, frames = planes_of(make_video("vfr.mkv", frames=7, times=times))
    assert [round(1000 * frame.pts * source.picture.time_base) for frame in frames] == times


def test_one_wrong_time_stamp_does_not_move_those_after_it(make_video):
    source, frames = planes_of(make_video("vfr.mkv", frames=6, times=[0, 20, 40, 60, 80, 100]))
    assert [round(1000 * frame.pts * source.picture.time_base) for frame in frames] == [0, 20, 40, 60, 80, 100]
    seconds = [0, 20, 20, 40, 60, 80]
    decoded = []
    for pts in seconds:
        picture = make_scene(1).frame(0)
        picture.pts, picture.time_base = pts, Fraction(1, 1000)
        decoded.append(picture)
    damage = Damage()
    with open_container(source.path) as container:
        timeline = Timeline(container, source.index, damage.corrections)
        times = [frame.pts for frame in source.read(container, timeline, iter(decoded), damage)]
    assert times == [0, 20, 30, 40, 60, 80] and damage.corrections.outliers == 1


def test_colour_and_rotation_are_read(make_video):
    path = make_video("tags.mp4", rotation=90, colour={"colorspace": 1, "color_range": FULL_RANGE, "color_primaries": 9})
    source = open_video(path)
    assert source.matrix == "bt709" and source.picture.matrix == 1 and source.picture.full_range
    assert source.picture.primaries == 9 and source.rotation in (90, 270)


def test_the_largest_of_several_streams_is_taken_or_the_one_that_is_named(make_video):
    path = make_video("two.mkv", sizes=[(64, 96), (96, 128)])
    source = open_video(path)
    assert source.index == 1 and source.picture.width == 128 and "video stream 0 is left out" in source.notes[0]
    for named in (0, 1):
        frames = list(open_video(path, stream=named).frames(others=lambda packet: None))
        assert len(frames) == 12 and frames[0].planes[0].shape == [(64, 96), (96, 128)][named]
    assert read_clip(path).width == 128  # everything that reads a file takes the same stream
    with pytest.raises(ConfigError, match=r"stream 5 of .* is no video stream: choose among \[0, 1\]"):
        open_video(path, stream=5)


def test_packets_of_other_streams_say_theirs_when_the_file_is_closed(make_video):
    """As the encoder writes them behind the reader; a packet by itself then answers from memory that was freed."""
    path, kept = make_video("sound.mkv", audio="aac"), []
    list(open_video(path).frames(others=kept.append))
    assert len(kept) > 5 and {other.index for other in kept} == {1}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_an_upright_video_is_what_a_player_shows(make_video, rotation, mirrored):
    path = make_video("turned.mp4", frames=3, size=(64, 96), rotation=rotation, mirrored=mirrored)
    stored, shown = (next(source.frames()).planes[0] for source in (open_video(path), open_video(path).upright()))
    np.testing.assert_array_equal(shown, np.rot90(stored, rotation // 90)[:, :: -1 if mirrored else 1])
    source, clip = open_video(path).upright(), read_clip(path)
    assert (source.picture.height, source.picture.width, source.rotation) == (clip.height, clip.width, 0)
    for frame, planes in zip(source.frames(), zip(clip.y, clip.u, clip.v, strict=True), strict=True):
        for plane, expected in zip(frame.planes, planes, strict=True):
            np.testing.assert_array_equal(plane, expected)


def test_what_a_selfie_and_a_drawing_have_is_not_lost_without_a_word(make_video):
    assert (
        "transparency is left out"
        in open_video(
            make_video("in.webm", codec="libvpx-vp9", pix_fmt="yuva420p", options={"deadline": "realtime", "auto-alt-ref": "0"})
        ).notes
    )
    assert open_video(make_video("mirrored.mp4", mirrored=True)).rotation == 0  # FFmpeg says 180


def test_a_moving_avif_is_more_than_its_still(make_video):
    source = open_video(make_video("in.avif", codec="libsvtav1", options={"preset": "12"}))
    assert sum(1 for _ in source.frames()) == 12 and source.notes == ("video stream 0 is left out (stream 1 is coded)",)


def test_a_list_of_files_is_as_long_as_they_are(make_video, tmp_path):
    path = make_video("list.m3u8", frames=60, options={"g": "10", "preset": "ultrafast"}, form={"hls_time": "1"})
    assert len(list(tmp_path.glob("*.ts"))) > 1
    assert open_video(path).num_frames == pytest.approx(60, abs=3) and sum(1 for _ in open_video(path).frames()) == 60


def test_words_of_no_encoding_do_no_harm(make_video):
    path = make_video(metadata={"title": "Lavf"})
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"L\xb2vf"))
    assert len(list(open_video(path).frames())) == 12


def test_every_frame_of_a_broken_video_is_an_error_or_a_frame(make_video, rng):
    """Bits flipped and pieces cut out: a sentence or a picture, never anything else."""
    path, told, pictures = make_video("broken.mp4"), [], 0
    good = np.frombuffer(path.read_bytes(), np.uint8)
    for number in range(40):
        data = good.copy()
        if number % 2:
            data[rng.integers(0, len(data), 20)] ^= np.uint8(1 << rng.integers(0, 8))
        else:
            data = np.delete(data, np.s_[(start := rng.integers(0, len(data))) : start + 200])
        path.write_bytes(data.tobytes())
        try:
            pictures += sum(frame.planes[0].size > 0 for frame in open_video(path).frames())
        except VideoError as error:
            told.append(str(error))
    assert pictures > 100 and 0 < len(told) < 40
    assert all("broken.mp4" in sentence and "\n" not in sentence for sentence in told)


def test_interlaced_video_is_refused_with_the_reason(make_video):
    with pytest.raises(VideoError, match="is interlaced.*deinterlace it first"):
        open_video(make_video("interlaced.mkv", options={"x264-params": "tff=1"}))


def test_broken_packets_in_the_middle_are_counted_and_passed_over(make_video):
    path = make_video("broken.mp4", frames=40, options={"g": "5"})
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in places[17:19]:
        data[place + 5 : place + size] = np.random.default_rng(0).bytes(size - 5)
    path.write_bytes(data)
    damage = Damage()
    _, frames = planes_of(path, damage)
    assert 35 <= len(frames) <= 40 and damage.packets + damage.frames > 0
    assert str(damage).startswith(f"{damage.packets or damage.frames} ")


@pytest.mark.parametrize(("name", "audio"), [("cut.mkv", None), ("cut.mkv", "aac"), ("cut.mp4", None)])
def test_a_truncated_file_ends_where_it_ends(make_video, name, audio):
    path = make_video(name, frames=100, audio=audio)
    if name == "cut.mp4":  # with its index in front, as for the network
        path = faststart(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    damage = Damage()
    frames = planes_of(path, damage)[1]
    left = 4 - len(frames) / 25
    assert 5 < len(frames) < 100 and damage.missing == pytest.approx(left, abs=0.2)
    assert f"the last {damage.missing:.1f} s that the file speaks of are not there" in str(damage)


def faststart(path):
    moved = path.with_name(f"moved.{path.name}")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    return moved


def test_a_whole_file_is_not_called_damaged(make_video, tmp_path):
    """That begins late, whose sound goes on, or whose frames come at uneven times."""
    late = make_video("late.mkv", frames=10, times=[100_000 + 40 * t for t in range(10)])
    uneven = make_video("uneven.mkv", times=[0, 40, 500, 540, 900, 1500, 1540, 1580, 1620, 3000, 3040, 3080])
    sound, longer = make_video("sound.mkv", frames=100, audio="aac"), tmp_path / "longer.mkv"
    with av.open(str(sound)) as source, av.open(str(longer), "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size and (packet.stream.index or packet.pts * packet.time_base < 1):
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    for path, count in ((late, 10), (uneven, 12), (longer, 25)):
        damage = Damage()
        assert len(planes_of(path, damage)[1]) == count and not str(damage), path


def test_avi_has_times_of_packets_only(tmp_path):
    """They rise with the frames that come out, though B frames carry each other's."""
    path, clip = tmp_path / "in.avi", make_scene(frames=20)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"bf": "2"})
        stream.height, stream.width, stream.pix_fmt = clip.height, clip.width, "yuv420p"
        for t in range(20):
            container.mux(stream.encode(clip.frame(t)))
        container.mux(stream.encode(None))
    damage = Damage()
    _, frames = planes_of(path, damage)
    assert len(frames) == 20 and {b.pts - a.pts for a, b in pairwise(frames)} == {1} and not str(damage)


def test_a_raw_bitstream_without_times_gets_some(make_video):
    path = make_video("raw.h264", frames=6)
    source, frames = planes_of(path)
    assert len(frames) == 6 and source.picture.fps > 0


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "sound"])
def test_what_is_no_video_is_named(make_video, tmp_path, kind):
    path = tmp_path / "in.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "no video at all" * 100)
    elif kind == "sound":
        path = tmp_path / "in.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=path.name):
        open_video(path)


def test_pictures_smaller_than_a_macroblock_are_refused(make_video):
    with pytest.raises(VideoError, match="8x8, and the least is 16x16"):
        open_video(make_video("tiny.mkv", size=(8, 8), codec="ffv1"))
