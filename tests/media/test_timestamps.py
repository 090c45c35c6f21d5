"""Whatever the time stamps of a file are, its pictures come at the times at which they were taken, and what was wrong is said."""

import time
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from dvcc import read_clip
from dvcc.codecs.bitstream import CodedStream
from dvcc.media.clocks import StreamClock
from dvcc.media.corrections import Corrections
from dvcc.media.damage import Damage
from dvcc.media.packets import move
from dvcc.media.probe import open_video, probe
from tests.streams import coded_packets, piece, set_time, write_pieces

WRAP = 2**33 / 90000
MS = [40 * t for t in range(50)]


def times_of(path, **how):
    """Milliseconds at which the pictures are shown, from the first; those on the encoder's clock; and what was corrected."""
    source, damage = open_video(path, **how), Damage()
    ticks = [frame.pts for frame in source.frames(damage)]
    assert all(after > before for before, after in pairwise(ticks)) and not str(damage)
    stamps = [damage.corrections.with_gaps(tick) for tick in ticks]
    in_ms = [
        [round(1000 * (tick - all_ticks[0]) * source.picture.time_base) for tick in all_ticks] for all_ticks in (stamps, ticks)
    ]
    return (*in_ms, damage.corrections)


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([(20, 3), (30, 3)], id="joined"),
        pytest.param([(20, 0), (20, 0), (10, 0)], id="joined twice"),
        pytest.param([(20, 1), (30, 5001)], id="forward beyond any pause"),
        pytest.param([(20, 5000), (30, 4)], id="back as after a reboot"),
        pytest.param([(20, 9), (30, 9.3)], id="back by half a second"),
        pytest.param([(50, WRAP - 1)], id="wrapped"),
    ],
)
def test_where_the_clock_restarts_the_rest_follows_on(tmp_path, pieces, bframes):
    path = write_pieces(tmp_path / "in.ts", pieces, bframes=bframes)
    presented, coded, corrections = times_of(path)
    assert presented == coded == MS
    assert corrections.joined == len(pieces) - 1 and not corrections.outliers and not corrections.gaps
    assert len(corrections.sentences()) == (len(pieces) > 1)


@pytest.mark.parametrize("ahead", [9800.0, 3.0, 0.5, -0.5, -3.0, -90.0])
@pytest.mark.parametrize("place", [1, 20, 48])
def test_an_outlier_costs_one_picture_its_time(tmp_path, ahead, place):
    path = write_pieces(tmp_path / "in.ts", [(50, 100)])
    set_time(path, place, 100 + place / 25 + ahead)
    presented, _, corrections = times_of(path)
    assert presented[:place] + presented[place + 1 :] == MS[:place] + MS[place + 1 :]
    assert presented[place] == pytest.approx(MS[place], abs=20) and corrections.outliers == 1
    assert corrections.sentences() == ["1 time stamp was missing or wrong, and made up from the neighbours"]


@pytest.mark.parametrize("ahead", [9800.0, 5.0])
def test_the_first_stamp_may_be_the_wrong_one(tmp_path, ahead):
    path = write_pieces(tmp_path / "in.ts", [(50, 0)])
    set_time(path, 0, ahead)
    presented, _, corrections = times_of(path)
    assert presented == MS and corrections.outliers == 1


def test_two_outliers_are_two(tmp_path):
    path = write_pieces(tmp_path / "in.ts", [(50, 1)])
    set_time(path, 10, 7)
    set_time(path, 20, 0.5)
    presented, _, corrections = times_of(path)
    np.testing.assert_allclose(presented, MS, atol=20)
    assert corrections.outliers == 2 and not corrections.joined


@pytest.mark.parametrize(("name", "form"), [("in.ts", "mpegts"), ("in.mkv", "matroska"), ("in.mp4", "mp4")])
def test_a_pause_of_the_recording_is_kept_and_no_time_of_the_encoder(tmp_path, name, form):
    """As of a camera that records when something moves; the encoder would spend the bits of the pause on the picture after it."""
    path = write_pieces(tmp_path / name, [(20, 0), (30, 300)], form=form)
    presented, coded, corrections = times_of(path)
    assert presented == MS[:20] + [300_000 + 40 * t for t in range(30)] and coded == MS
    assert corrections.sentences() == ["a gap of 299.2 s in the recording: kept, and no bits are spent on the pause"]
    assert open_video(path).picture.fps == read_clip(path, frames=2).fps == 25


def test_a_night_is_kept_in_a_file_and_a_broken_clock_closed_in_any(tmp_path):
    for hours, kept in ((10, True), (27, False)):
        path = write_pieces(tmp_path / "in.mkv", [(20, 0), (30, 3600 * hours)], form="matroska")
        presented, coded, corrections = times_of(path)
        assert coded == MS and presented[-1] == (3600_000 * hours + 29 * 40 if kept else MS[-1])
        assert (len(corrections.gaps), corrections.joined) == ((1, 0) if kept else (0, 1))


def test_a_picture_shown_for_long_is_not_a_pause(make_video):
    times = [0, 1500, 3000, 4500, 4540, 6100]
    presented, coded, corrections = times_of(make_video("slides.mkv", frames=6, times=times))
    assert presented == coded == times and not corrections.sentences()


def test_a_wrong_stamp_of_presentation_alone(tmp_path):
    """Its order of decoding is right."""
    path = tmp_path / "in.mkv"
    with av.open(coded_packets(50, bframes=2)) as coded, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(coded.streams.video[0])
        for number, packet in enumerate(p for p in coded.demux(video=0) if p.size):
            packet.stream, packet.pts = video, packet.pts + (number == 21) * round(50 / packet.time_base)
            container.mux(packet)
    presented, _, corrections = times_of(path)
    assert corrections.outliers == 1 and not corrections.gaps and presented == MS


@pytest.mark.parametrize(("declared", "form"), [(50, "mpegts"), (5, "mpegts"), (100, "matroska")])
def test_a_wrong_rate_in_the_stream_gives_way_to_its_times(tmp_path, declared, form):
    path = write_pieces(tmp_path / f"in.{form}", [(50, 0)], form=form, said_fps=declared)
    source = open_video(path)
    assert source.picture.fps == read_clip(path, frames=3).fps == CodedStream(path).fps == 25
    assert times_of(path)[0] == MS


@pytest.mark.parametrize("fps", [10, 30])
def test_the_own_rate_of_a_raw_stream_is_taken(tmp_path, fps):
    path = tmp_path / "raw.h264"
    with av.open(coded_packets(20, fps=fps, bframes=2)) as coded, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(coded.streams.video[0])
        for packet in coded.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
    source = open_video(path)
    assert source.picture.fps == read_clip(path).fps == CodedStream(path).fps == fps and not source.notes
    assert times_of(path)[0] == [round(1000 * t / fps) for t in range(20)]


def test_a_stream_that_says_no_rate_is_taken_at_a_stated_one_and_says_so(make_video):
    path = make_video("camera.mjpeg", codec="mjpeg", pix_fmt="yuvj420p")
    source = open_video(path)
    assert source.picture.fps == 25 and any(
        "its rate is not known (it has no time stamps): taken as 25" in n for n in source.notes
    )
    stated = open_video(path, fps=Fraction(10))
    assert stated.picture.fps == 10 and not any("rate" in note for note in stated.notes)
    assert times_of(path, fps=Fraction(10))[0] == [100 * t for t in range(12)]


def test_audio_goes_along_with_the_video_where_the_clock_restarts(tmp_path):
    path = write_pieces(tmp_path / "in.ts", [(50, 8), (50, 3)], audio=True)
    packets, damage = [], Damage()
    list(open_video(path).frames(damage, others=packets.append))
    times = [
        float((other.packet.dts * other.packet.time_base) - damage.corrections.start) for other in packets if other.packet.size
    ]
    assert times[-1] == pytest.approx(4, abs=0.1) and damage.corrections.joined == 1 and not damage.corrections.audio_moved
    assert max(after - before for before, after in pairwise(times)) < 0.1 and len(times) > 180


def test_audio_on_another_clock_is_moved_to_the_video(tmp_path):
    path = write_pieces(tmp_path / "in.ts", [(50, 10_000)], audio=True, audio_apart=-9000)
    packets, damage = [], Damage()
    frames = list(open_video(path).frames(damage, others=packets.append))
    stamps = [other.packet.dts * other.packet.time_base for other in packets if other.packet.size]
    assert frames[0].pts * open_video(path).picture.time_base < 1 and damage.corrections.audio_moved == 1
    assert float(stamps[0] - damage.corrections.start) == pytest.approx(0, abs=0.2)
    assert float(stamps[-1] - damage.corrections.start) == pytest.approx(2, abs=0.2)


def test_a_jump_of_the_audio_alone_is_closed_and_a_pause_of_it_kept(tmp_path):
    """A microphone that was off is no fault; sound 90 s away from its pictures is."""
    for drop, jump, moved in ((range(30, 60), 0.0, 0), ((), 90.0, 1)):
        path = write_pieces(tmp_path / "in.ts", [(100, 1)], audio=True, drop=drop, audio_jump=(50, jump))
        packets, damage = [], Damage()
        list(open_video(path).frames(damage, others=packets.append))
        stamps = [float(other.packet.dts * other.packet.time_base) for other in packets if other.packet.size]
        assert damage.corrections.audio_moved == moved and stamps[-1] - stamps[0] == pytest.approx(4, abs=0.2)


def test_a_file_whose_clock_jumps_has_about_as_many_frames_as_its_size_says(tmp_path):
    path = write_pieces(tmp_path / "in.ts", [(50, 0), (50, 5000)])
    assert 20 < open_video(path).num_frames < 300


@pytest.mark.parametrize("fps", [1, 25, 500])
@pytest.mark.parametrize("quick", [False, True])
def test_pictures_without_a_time_of_decoding_are_not_wrong(tmp_path, fps, quick):
    """FFmpeg gives none to the first ones of a Matroska file with B frames."""
    path = write_pieces(tmp_path / "in.mkv", [(12, 0)], form="matroska", bframes=1, fps=fps)
    with av.open(str(path)) as container:
        assert any(packet.dts is None for packet in container.demux(video=0) if packet.size)
        damage = Damage()
        container.seek(0)
        probed = probe(path, container, damage=damage, ahead=not quick)
        times = [float(frame.pts * probed.source.picture.time_base) for frame in probed.read(container, damage)]
    assert times == pytest.approx([t / fps for t in range(12)]) and probed.source.picture.fps == fps
    assert not damage.corrections.sentences()


@pytest.mark.parametrize("skipped", range(3, 9))
def test_a_stream_that_is_joined_in_the_midst_has_its_own_rate(tmp_path, skipped):
    """A live stream is looked at only briefly, and pictures that come out of order leave holes at both ends."""
    path = tmp_path / "in.ts"
    path.write_bytes(piece(coded_packets(30, bframes=3), skipped, 27 - skipped, 5.0))
    with av.open(str(path)) as container:
        source = probe(path, container, ahead=False).source
    assert source.picture.fps == 25 and not source.notes


def test_the_end_of_a_stream_of_pictures_for_browsers_is_no_damage(make_video):
    path = make_video("camera.mjpeg", codec="mjpeg", pix_fmt="yuvj420p")
    parts = [part for part in path.read_bytes().split(b"\xff\xd8\xff") if part]
    head = b"--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: %d\r\n\r\n"
    data = b"".join(head % (len(part) + 3) + b"\xff\xd8\xff" + part + b"\r\n" for part in parts)
    path.with_suffix(".mpjpeg").write_bytes(data + b"--ffmpeg\r\n")
    damage = Damage()
    assert sum(1 for _ in open_video(path.with_suffix(".mpjpeg")).frames(damage)) == 12 and not str(damage)


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.ts"])
@pytest.mark.parametrize("last", [1, 6])
def test_a_screen_that_rests_is_no_wrong_stamp(make_video, name, last):
    """An encoder with B frames decodes the picture after the pause long before it is shown."""
    times = [*range(0, 800, 40), *(5000 + 40 * t for t in range(20)), *(9000 + 40 * t for t in range(last))]
    presented, _, corrections = times_of(make_video(name, frames=len(times), times=times, options={"bf": "3", "b-adapt": "0"}))
    assert presented == times or (name == "in.ts" and last == 1)  # whose last stamp may be a wrong one
    assert not corrections.outliers or name == "in.ts"


def test_thousands_of_pauses_cost_no_more_than_one(tmp_path):
    """A motion-triggered camera makes many, and every packet asks."""
    corrections = Corrections()
    corrections.gaps.extend((10 * number, 3) for number in range(1, 30_000))
    began = time.process_time()
    for ticks in range(0, 300_000, 10):
        assert corrections.with_gaps(ticks) == ticks + 3 * min(ticks // 10, 29_999)
        assert ticks == 0 or corrections.with_gaps(ticks - 1) == ticks - 1 + 3 * (ticks // 10 - 1)
    assert time.process_time() - began < 3  # of a processor; the sum of all gaps for each took minutes
    corrections.gaps.append((10**9, 5))
    assert corrections.with_gaps(10**9) == 10**9 + 3 * 29_999 + 5


@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize("form", ["matroska", "mp4"])
def test_files_put_behind_one_another_are_shown_one_after_the_other(tmp_path, form, bframes):
    """Of a second Matroska file FFmpeg gives times of decoding that do not rise; of a fragmented mp4 it hides a part."""
    part, path = coded_packets(24, bframes=bframes, form=form), tmp_path / f"in.{form}"
    path.write_bytes(part.getvalue() + part.getvalue())
    shown, coded, corrections = times_of(path)
    assert shown == coded == [40 * t for t in range(48)]
    assert corrections.joined == 1 and not corrections.outliers


def test_what_an_edit_list_hides_stays_hidden(tmp_path):
    path = tmp_path / "in.mp4"
    with av.open(coded_packets(30, gop=15)) as coded, av.open(str(path), "w", options={"avoid_negative_ts": "0"}) as container:
        video = container.add_stream_from_template(coded.streams.video[0])
        for packet in coded.demux(video=0):
            if packet.size:
                move(packet, -0.2)
                packet.stream = video
                container.mux(packet)
    shown, _, corrections = times_of(path)
    assert shown == [40 * t for t in range(25)] and not corrections.joined


@pytest.mark.parametrize("bframes", [0, 3])
def test_pictures_after_the_first_of_a_pack_have_no_stamp_in_a_program_stream(make_video, bframes):
    """And none of them is wrong."""
    options = {"preset": "ultrafast", "qp": "50", "bf": str(bframes), "g": "12"}
    path = make_video("in.mpg", frames=80, options=options, form={"muxrate": "2000000"})
    with av.open(str(path)) as container:
        stamped = [packet.dts is not None for packet in container.demux(video=0) if packet.size]
    assert sum(stamped) < 0.4 * len(stamped)
    ms, _, corrections = times_of(path)
    assert ms == [40 * t for t in range(80)] and open_video(path).picture.fps == 25 and not corrections.sentences()


def test_a_repeated_stamp_that_none_follows_is_wrong_alone():
    assert StreamClock(last=1.0, typical=0.04).is_outlier(1.0, [])
    assert not StreamClock(last=1.0, typical=0.04).is_outlier(60.0, [])
