"""A live stream is never more than a GOP behind, keeps to its channel, and can be played up to wherever it ends."""

import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import av
import pytest

from dvcc import X265
from dvcc.cli.closing import missed_rate
from dvcc.encoding.live import encode_live, live_codec
from dvcc.errors import ConfigError, DvccError, VideoError
from dvcc.media.probe import Probed, open_video
from tests.streams import write_pieces


def count(path):
    """Frames that can be decoded, as far as the file goes."""
    return sum(1 for _ in open_video(path).frames())


@pytest.mark.parametrize("name", ["out.mp4", "out.ts"])
def test_every_frame_arrives_within_a_gop_and_the_channel_is_kept(make_video, tmp_path, control, name):
    path, out = make_video("in.mkv", frames=150, audio="aac"), tmp_path / name
    result = encode_live(str(path), out, target_kbps=80, control=control, preset="veryfast", threads=2)
    assert result.stats.num_frames == count(out) == 150 and not result.stats.stopped
    assert 0 < result.stats.most_delay <= 25
    assert 40 < result.stats.bitrate_kbps < 80 * (1 + 1 / 6)  # the buffer of a second may be spent once in six
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1 and sum(1 for _ in container.decode(audio=0)) > 200


@pytest.mark.parametrize(
    ("codec", "preset", "gop"),
    [
        ("x264", "placebo", 9),
        ("x265", "ultrafast", 13),
        ("x265", "superfast", 13),
        ("x265", "medium", 13),
        ("x265", "slower", 13),
        ("x265", "medium", 25),
    ],
)
def test_a_short_gop_is_kept_to_by_every_encoder_and_preset(make_video, tmp_path, control, codec, preset, gop):
    path, out = make_video("in.mkv", frames=40), tmp_path / "out.ts"
    result = encode_live(str(path), out, target_kbps=80, control=control, codec=codec, preset=preset, gop=gop)
    assert result.stats.num_frames == count(out) == 40 and 0 < result.stats.most_delay <= gop
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == {"x264": "h264", "x265": "hevc"}[codec]


@pytest.mark.parametrize("fps", [1, 2, 5, 8, 10, 15, 24, 25, 50, 60, 120])
@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_the_defaults_work_together_at_every_rate(codec, fps):
    for preset in ("ultrafast", "medium", "veryslow"):
        chosen = live_codec(codec, preset, Fraction(fps))
        assert chosen.gop >= fps and (chosen.gop == fps or fps < 16) and chosen.threads >= 1
        assert live_codec(codec, preset, Fraction(fps), threads=3).threads == 3
        assert live_codec(codec, preset, Fraction(fps), gop=12).gop == 12


@pytest.mark.parametrize("fps", [1, 5, 120])
def test_a_slow_and_a_fast_camera_are_live_with_the_defaults(make_video, tmp_path, control, fps):
    path = make_video("in.mkv", frames=30, times=[1000 * t // fps for t in range(30)])
    result = encode_live(str(path), tmp_path / "out.ts", target_kbps=40, control=control, preset="ultrafast")
    assert result.stats.num_frames == count(tmp_path / "out.ts") == 30
    assert 0 < result.stats.most_delay <= max(fps, 8) and float(result.stats.seconds) == pytest.approx(30 / fps, rel=0.02)


def test_a_source_that_breaks_off_at_once_says_why(make_video, tmp_path, monkeypatch):
    """Its container was closed before the output had been made after it."""
    read = Probed.read

    def broken(*words):
        yield from islice(read(*words), 3)
        raise VideoError("the camera was unplugged: plug it in")

    monkeypatch.setattr(Probed, "read", broken)
    with pytest.raises(VideoError, match="the camera was unplugged"):
        encode_live(
            str(make_video("in.mkv", frames=9)),
            tmp_path / "out.ts",
            target_kbps=80,
            control=None,
            preset="ultrafast",
            begun=lambda *_: time.sleep(0.5),
        )


def test_a_stated_rate_takes_the_place_of_missing_time_stamps(make_video, tmp_path, control):
    path = make_video("camera.mjpeg", codec="mjpeg", pix_fmt="yuvj420p", frames=20)
    assumed, stated = (
        encode_live(str(path), tmp_path / "out.ts", target_kbps=80, control=control, preset="ultrafast", fps=fps)
        for fps in (None, Fraction(10))
    )
    assert assumed.stats.seconds == pytest.approx(0.8) and "its rate is not known" in " ".join(assumed.notes)
    assert stated.stats.seconds == pytest.approx(2) and "rate" not in " ".join(stated.notes)


@pytest.mark.parametrize("name", ["out.ts", "out.mp4"])
def test_sound_of_a_transport_stream_is_carried(make_video, tmp_path, control, name):
    """In fragmented mp4 its header moves from every packet to the index."""
    path, out = make_video("in.ts", frames=30, audio="aac"), tmp_path / name
    result = encode_live(str(path), out, target_kbps=100, control=control, preset="ultrafast", gop=20)
    assert not result.notes and not result.damage.corrections.sentences() and count(out) == 30
    with av.open(str(path)) as before, av.open(str(out)) as after:
        assert sum(1 for _ in after.decode(audio=0)) == sum(1 for _ in before.decode(audio=0)) > 50


@pytest.mark.parametrize(("seconds", "reason"), [(1.6, "the buffer of a second counts"), (60.0, "nothing left to take away")])
def test_why_a_stream_is_above_its_target(seconds, reason):
    lowest = {"I": 51.0, "P": 50.6}
    stats = SimpleNamespace(num_frames=40, bitrate_kbps=68.8, seconds=seconds, mean_qps=lowest, codec=X265())
    (note,) = missed_rate(60, stats, buffered=True)
    assert note.startswith("the bitrate is 15% above the target") and reason in note
    assert missed_rate(60, stats)[0].endswith("x265 has nothing left to take away, and 69 is about the least here")
    stats.mean_qps = {"I": 51.0, "P": 30.0}
    assert "short or uneven" in missed_rate(60, stats)[0] and not missed_rate(67, stats)


@pytest.mark.parametrize("name", ["out.mp4", "out.ts"])
def test_what_is_cut_off_can_be_played(make_video, tmp_path, control, name):
    out = tmp_path / name
    encode_live(str(make_video(frames=100)), out, target_kbps=100, control=control, preset="ultrafast", gop=20)
    out.write_bytes(out.read_bytes()[: out.stat().st_size * 2 // 3])
    assert 40 <= count(out) < 100


def test_ctrl_c_ends_a_stream_from_stdin_well(make_video, tmp_path):
    """The camera goes on; the user has enough."""
    fed, out = make_video("in.ts", frames=200).read_bytes(), tmp_path / "out.ts"
    words = [
        sys.executable,
        "-m",
        "dvcc.cli",
        "encode",
        "--live",
        "-",
        str(out),
        "--target-kbps",
        "100",
        "--task",
        "detection",
        "--preset",
        "ultrafast",
    ]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.stdin.write(fed)  # and no end of file
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while (not out.exists() or out.stat().st_size < 5000) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)  # while its input is open, and silent
        printed, complained = process.stdout.read().decode(), process.stderr.read().decode()
    finally:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
    assert process.returncode == 0 and "frames behind" in printed and "Traceback" not in complained
    assert count(out) > 5


def test_sound_that_comes_through_a_pipe_is_whole(tmp_path):
    """Several packets of it have one time stamp in a transport stream, and a pipe is looked at only briefly."""
    path, out = write_pieces(tmp_path / "in.ts", [(50, 0)], audio=True), tmp_path / "out.ts"
    words = [sys.executable, "-m", "dvcc.cli", "encode", "--live", "-", out, "--target-kbps", "60", "--task", "detection"]
    with path.open("rb") as file:
        ended = subprocess.run(words, stdin=file, capture_output=True, text=True, check=True)
    assert "left out" not in ended.stderr
    with av.open(str(path)) as before, av.open(str(out)) as after:
        assert sum(1 for _ in after.decode(audio=0)) == sum(1 for _ in before.decode(audio=0)) > 80


def test_an_mp4_with_its_index_at_its_end_cannot_be_piped(make_video, tmp_path):
    video = make_video(frames=60, codec="rawvideo", name="in.mov")  # more than FFmpeg looks back at
    words = [sys.executable, "-m", "dvcc.cli", "encode", "--live", "-", tmp_path / "o.ts"]
    words += ["--target-kbps", "100", "--task", "detection"]
    with video.open("rb") as file:
        ended = subprocess.run(words, stdin=file, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1 and not (tmp_path / "o.ts").exists()
    assert "pipe MPEG-TS, Matroska or fragmented mp4" in ended.stderr and "complete" not in ended.stderr


def test_what_cannot_be_live_is_said(make_video, tmp_path, control):
    path = make_video()
    with pytest.raises(ConfigError, match="live GOP of 8 frames is too short for 2 threads of x264: ask for at least 9"):
        live_codec("x264", "medium", Fraction(25), gop=8, threads=2)
    with pytest.raises(ConfigError, match="live GOP of 11 frames is too short for 1 thread of x265: ask for at least 12"):
        live_codec("x265", "medium", Fraction(25), gop=11)
    with pytest.raises(ConfigError, match="out of reach"):
        encode_live(str(path), tmp_path / "out.ts", target_kbps=1e6, control=control, gop=20)
    with pytest.raises(ConfigError, match="GOP of 0 frames"):
        encode_live(str(path), tmp_path / "out.ts", target_kbps=100, control=control, gop=0)
    with pytest.raises(VideoError, match=r"nothing.mkv cannot be read .* check that it is there"):
        encode_live(str(tmp_path / "nothing.mkv"), tmp_path / "out.ts", target_kbps=100, control=control)
    (tmp_path / "text.ts").write_bytes(b"no video" * 99)
    with pytest.raises(VideoError, match=r"check that the file is complete, and that it is mpegts"):
        encode_live(str(tmp_path / "text.ts"), tmp_path / "out.ts", target_kbps=100, control=control, form="mpegts")
    with pytest.raises(DvccError, match="cannot write"):
        encode_live(str(path), tmp_path / "no" / "out.ts", target_kbps=100, control=control, gop=20)
