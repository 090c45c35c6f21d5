"""Damage is said when and only when something is missing."""

from types import SimpleNamespace

import av
import pytest

from dvcc.media.damage import Damage
from dvcc.media.ending import is_cut_picture, is_truncated
from dvcc.media.packets import packet_of
from dvcc.media.probe import open_video
from tests.streams import coded_packets, write_pieces

KINDS = [
    (name, codec, audio, bframes)
    for name, codec, audio in [
        ("mp4", "libx264", "aac"),
        ("mov", "libx264", "aac"),
        ("mkv", "libx264", "aac"),
        ("ts", "libx264", "aac"),
        ("m2ts", "libx264", "ac3"),
        ("avi", "libx264", "mp3"),
        ("flv", "libx264", "aac"),
        ("nut", "libx264", "aac"),
        ("3gp", "libx264", "aac"),
        ("asf", "mpeg4", "mp3"),
        ("ts", "libx265", "aac"),
        ("mp4", "libx265", None),
        ("h264", "libx264", None),
        ("hevc", "libx265", None),
    ]
    for bframes in (0, 3)
] + [
    ("webm", "libvpx", "libopus", 0),
    ("webm", "libvpx-vp9", "libopus", 0),
    ("mp4", "libsvtav1", "aac", 0),
    ("ivf", "libvpx", None, 0),
]


def read(path):
    damage = Damage()
    return sum(1 for _ in open_video(path).frames(damage)), damage


@pytest.mark.parametrize(("suffix", "codec", "audio", "bframes"), KINDS)
def test_a_complete_file_of_any_container_is_whole_and_a_cut_one_is_not(make_video, suffix, codec, audio, bframes):
    of_codec = {"libvpx": {"deadline": "realtime"}, "libvpx-vp9": {"deadline": "realtime"}, "libsvtav1": {"preset": "12"}}
    options = {"g": "12", **of_codec.get(codec, {"preset": "ultrafast", "bf": str(bframes)})}
    if codec == "mpeg4":
        del options["preset"]
    path = make_video(f"in.{suffix}", frames=40, codec=codec, audio=audio, options=options)
    frames, damage = read(path)
    assert frames == 40 and not str(damage) and not damage.corrections.sentences()
    if suffix not in ("mp4", "mov", "3gp"):  # of which nothing can be read
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10 | 1])
        frames, damage = read(path)
        assert 0 < frames < 40 and (str(damage) if suffix in ("h264", "ivf") else "not there" in str(damage))


@pytest.mark.parametrize("params", ["bframes=0", "wpp=0:aud=1"])
@pytest.mark.parametrize(("suffix", "piece"), [("hevc", 1), ("ts", 188)])
def test_a_part_of_a_picture_is_told_from_a_whole_one(make_video, suffix, piece, params):
    """HEVC's decoder does not, and neither does a transport stream that ends with a whole packet."""
    options = {"preset": "ultrafast", "crf": "4", "x265-params": f"log-level=none:{params}"}
    path = make_video(f"in.{suffix}", frames=8, codec="libx265", size=(96, 160), options=options)
    data = path.read_bytes()
    last = data.rindex(b"\0\0\1")
    for cut in (last + 200, (last + len(data)) // 2, len(data) - 4):
        path.write_bytes(data[: cut // piece * piece])
        frames, damage = read(path)
        assert frames and damage.truncated and "the file is truncated: its end is not there" in str(damage), cut
    path.write_bytes(data)
    assert read(path)[0] == 8 and not str(read(path)[1])


def test_a_broken_last_picture_is_said_every_time(make_video):
    """With frame threads FFmpeg said nothing of it in one run of twenty."""
    path = make_video("in.h264", frames=12, options={"preset": "ultrafast", "bf": "3"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    assert {str(read(path)[1]) for _ in range(40)} == {"1 frame had errors that were concealed"}


@pytest.mark.parametrize(("begin", "is_cut"), [(b"\0\0\0\1", True), (b"\1", False)])
def test_the_length_of_a_packet_is_no_start_of_parameter_sets(begin, is_cut):
    """As of one with 263 bytes in mp4 and Matroska, whose parameter sets begin with 1."""
    stream = SimpleNamespace(codec_context=SimpleNamespace(name="h264", extradata=begin))
    assert is_cut_picture(stream, packet_of((263).to_bytes(4) + bytes(263))) == is_cut
    assert not is_cut_picture(stream, None)


@pytest.mark.parametrize(("suffix", "codec"), [("hevc", "libx265"), ("h264", "libx264")])
def test_a_raw_stream_that_ends_before_a_picture_is_cut_and_after_one_is_not(make_video, suffix, codec):
    path = make_video(f"in.{suffix}", frames=8, codec=codec, options={"preset": "ultrafast", "g": "4", "bf": "0"})
    data = path.read_bytes()
    units = [at for at in range(len(data)) if data.startswith(b"\0\0\1", at)]
    kinds = [data[at + 3] & 31 if suffix == "h264" else data[at + 3] >> 1 & 63 for at in units]
    second = [at for at, kind in zip(units, kinds, strict=True) if kind == (7 if suffix == "h264" else 32)][1]  # key frame
    for cut, is_cut in ((second, False), (second + 12, True)):
        path.write_bytes(data[:cut].rstrip(b"\0") if not is_cut else data[:cut])
        frames, damage = read(path)
        assert frames == 4 and damage.truncated == is_cut, (cut, str(damage))


OTHER_ENDINGS = [
    ("ogv", "libvpx", "yuv420p"),
    ("gif", "gif", "rgb8"),
    ("mpg", "libx264", "yuv420p"),
    ("mjpeg", "mjpeg", "yuvj420p"),
    ("mpjpeg", "mjpeg", "yuvj420p"),
    ("smjpeg", "mjpeg", "yuvj420p"),
    ("obu", "libsvtav1", "yuv420p"),
    ("avif", "libsvtav1", "yuv420p"),
    ("y4m", "rawvideo", "yuv420p"),
    ("mp4", "libx264", "yuv420p"),
]


@pytest.mark.parametrize("place", [0.6, 0.97, 1.0])
@pytest.mark.parametrize(("suffix", "codec", "pix_fmt"), OTHER_ENDINGS)
def test_a_truncated_file_is_said_by_how_its_container_ends(make_video, suffix, codec, pix_fmt, place):
    form = {"movflags": "frag_keyframe+empty_moov"} if suffix == "mp4" else {}
    muxer = suffix if suffix in ("mpjpeg", "smjpeg") else None
    options = {"libx264": {"g": "3"}, "libsvtav1": {"preset": "12", "g": "3"}}.get(codec, {})
    path = make_video(f"in.{suffix}", codec=codec, pix_fmt=pix_fmt, options=options, form=form, muxer=muxer)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * place)])
    frames, damage = read(path)
    assert damage.truncated == (place < 1) and bool(str(damage)) == (place < 1) and 0 < frames <= 12


@pytest.mark.parametrize("length", [188, 192, 204])
def test_a_transport_stream_ends_with_a_whole_packet_of_any_length(tmp_path, length):
    path, packet = tmp_path / "in.ts", b"\x47" + bytes(187)
    whole = (bytes(length == 192 and 4) + packet + bytes(16 * (length == 204))) * 30
    for cut in (0, 1, 100):
        path.write_bytes(whole[: len(whole) - cut])
        assert is_truncated(path, "mpegts", 0) == (cut > 0)
    path.write_bytes(b"nothing of the kind" * 100)
    assert not is_truncated(path, "mpegts", 0) and not is_truncated(tmp_path / "none.ts", "mpegts", 0)


def test_lengths_that_an_avi_of_a_pipe_cannot_know_are_no_loss(make_video):
    path = make_video("in.avi", codec="mpeg4", frames=40)
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4
    for field in (b"avih", b"strh"):  # frames in the file, and of the stream
        at = data.index(field) + 8 + {b"avih": 16, b"strh": 32}[field]
        data[at : at + 4] = (2**30).to_bytes(4, "little")
    path.write_bytes(data)
    frames, damage = read(path)
    assert frames == 40 and not str(damage) and 20 < open_video(path).num_frames < 1000


def test_pictures_before_the_first_key_frame_are_counted(tmp_path):
    path = tmp_path / "in.ts"
    with av.open(coded_packets(50, bframes=2, gop=20)) as coded, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(coded.streams.video[0])
        for number, packet in enumerate(p for p in coded.demux(video=0) if p.size):
            packet.stream = video
            if number > 6:
                container.mux(packet)
    frames, damage = read(path)
    assert frames == 30 and damage.unstarted == 13
    assert str(damage) == "13 packets before the first key frame gave no picture"


@pytest.mark.parametrize("lost", [1, 5, 12])
@pytest.mark.parametrize("bframes", [0, 2])
def test_packets_that_a_transport_stream_lost_are_said(tmp_path, lost, bframes):
    """Its packets are numbered; the pictures after them refer to what is not there."""
    path = write_pieces(tmp_path / "in.ts", [(50, 0)], bframes=bframes)
    data, middle = path.read_bytes(), path.stat().st_size // 188 // 2 * 188
    path.write_bytes(data[:middle] + data[middle + 188 * lost :])
    frames, damage = read(path)
    assert 20 < frames <= 50 and str(damage)


def test_recordings_put_behind_one_another_have_lost_nothing(tmp_path):
    """Though the numbers of their packets do not go on."""
    for pieces in ([(20, 0), (30, 0)], [(20, 0), (30, 5000)], [(20, 0), (30, 60)], [(20, 0), (30, 0.8)]):
        frames, damage = read(write_pieces(tmp_path / "in.ts", pieces))
        assert frames == 50 and not str(damage)


@pytest.mark.parametrize(("suffix", "files"), [("flv", 1), ("mkv", 2)])
def test_what_ffmpeg_takes_for_the_end_is_said(make_video, tmp_path, suffix, files):
    """Of files that were put behind one another it reads one FLV file, and two of Matroska."""
    whole, joined = make_video(f"in.{suffix}", frames=40, audio="aac"), tmp_path / f"joined.{suffix}"
    joined.write_bytes((files + 1) * whole.read_bytes())
    frames, damage = read(joined)
    assert frames == 40 * files and damage.unread == pytest.approx(whole.stat().st_size, rel=0.05)
    assert "kB of the file are not read" in str(damage) and not read(whole)[1].unread
