"""A coded video is its source under the control: same moments, same sound, the rate that was asked for, whole or not there."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from dvcc import CRF, X264, X265, read_clip
from dvcc.clip import orientation
from dvcc.codecs.bitstream import inspect_bitstream
from dvcc.control.deployed.onnx_export import deploy
from dvcc.encoding.file import encode_video
from dvcc.encoding.plan import EncodePlan
from dvcc.encoding.report import EncodeReport
from dvcc.errors import CodecError, ConfigError, DvccError
from dvcc.media.probe import open_video
from dvcc.qp import fill_skipped_qps
from dvcc.rate_control import learned
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.base import largest_within
from dvcc.rate_control.learned import LearnedMap
from tests.conftest import make_scene
from tests.streams import write_pieces
from tests.videos import FULL_RANGE, lively, lively_network

CODEC = X264("veryfast", gop=10)


def plan_of(path, out, control, *, target_kbps=150.0, codec=CODEC, delivery="offsets"):
    controller = AverageBitrate(codec, control=control) if delivery == "offsets" else LearnedMap(control, codec, corrected=True)
    return EncodePlan(open_video(path), out, target_kbps, controller)


def packets_of(path, kind):
    with av.open(str(path)) as container:
        stream = container.streams.get(**{kind: 0})[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def times_of(path):
    with av.open(str(path)) as container:
        start = Fraction(container.start_time or 0, av.time_base)
        return [round(1000 * float(frame.pts * frame.time_base - start)) for frame in container.decode(video=0)]


@pytest.mark.parametrize("delivery", ["offsets", "map"])
def test_the_rate_is_met_however_a_control_is_delivered(make_video, tmp_path, delivery):
    path, out = make_video(frames=100), tmp_path / "out.mp4"
    result = encode_video(plan_of(path, out, lively(3.0), delivery=delivery))
    report = inspect_bitstream(out)
    assert len(report.frame_types) == result.stats.num_frames == 100
    achieved = result.stats.bitrate_kbps
    least, most = (0.9, 1.03) if delivery == "offsets" else (0.75, 1.0)  # x264 steers through the video; a correction errs below
    assert least * 150 < achieved < most * 150
    assert achieved == pytest.approx(report.bits_per_frame.sum() / 4 / 1000, rel=0.01)
    assert result.num_encodes == {"offsets": 2, "map": 3}[delivery]
    assert not str(result.damage) and [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    for kind, qp in result.stats.mean_qps.items():
        of_kind = report.realised_qp.values[np.array(report.frame_types) == kind]
        assert qp == pytest.approx(of_kind.mean(), abs=0.01)


def test_qps_of_skipped_macroblocks_are_not_obeyed(bikes, tmp_path):
    """An untrained control moves nothing: what is asked is the analysis, less its streaks, and one shift."""
    network, asked, path = lively_network(0.0), [], tmp_path / "in.mkv"
    network.prior.coefficients.copy_(torch.tensor([34.0, 0, 0, 0, 0]))
    control = deploy(network)
    source = read_clip(bikes, frames=12, size=(144, 256))
    path.write_bytes(X264("ultrafast").encode(source, CRF(1)).bitstream)
    plan = plan_of(path, tmp_path / "out.mp4", control, delivery="map")
    encode_video(plan, look=lambda index, frame, values: asked.append(values))
    read = CODEC.encode(read_clip(path), CRF(34)).realised_qp().values
    assert np.ptp(asked[:12] - fill_skipped_qps(read)) <= 2 < np.ptp(asked[:12] - read)


@pytest.mark.parametrize("shift", [-4.0, 4.0])
@pytest.mark.parametrize("target_kbps", [60, 600])
def test_of_an_encode_and_its_correction_the_better_one_is_delivered(make_video, tmp_path, monkeypatch, shift, target_kbps):
    """Even when a correction errs by many bits: what spends most within the target, or least beyond it."""
    path, out, encodes = make_video(frames=20), tmp_path / "out.mkv", []
    monkeypatch.setattr(learned, "needs_correction", lambda tally, target: encodes.append(tally) or True)
    monkeypatch.setattr(learned, "correcting_shift", lambda achieved, target: shift)
    monkeypatch.setattr(learned, "largest_within", lambda both, target: encodes.append(both[1]) or largest_within(both, target))
    plan = plan_of(path, out, lively(3.0), target_kbps=target_kbps, delivery="map")
    report = EncodeReport(plan, tmp_path / "report")
    maps = []
    result = encode_video(plan, look=lambda index, frame, values: maps.append(values) or report.look(index, frame, values))
    rates = [tally.bitrate_kbps for tally in encodes]
    within = [rate for rate in rates if rate <= target_kbps]
    assert len(rates) == 2 and (rates[0] < rates[1]) == (shift < 0)
    assert result.bitrate_kbps == (max(within) if within else min(rates)) == rates[result.number]
    bits = inspect_bitstream(out).bits_per_frame.sum()
    assert bits == pytest.approx(result.stats.bits, rel=0.01) and bits != pytest.approx(encodes[not result.number].bits, rel=0.05)
    _, decoded = report.seen(result)[0]
    np.testing.assert_array_equal(decoded, maps[20 * result.number])


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.ts"])
def test_hevc_meets_the_rate_at_the_same_moments(make_video, tmp_path, control, name):
    times = np.cumsum(np.resize([20, 60, 40, 33, 47], 99), dtype=int).tolist()
    tags = {"colorspace": 1, "color_range": FULL_RANGE, "color_primaries": 1, "color_trc": 1}
    audio = None if name == "out.ts" else "aac"  # there, sound that begins a moment earlier begins the file
    path = make_video("in.mkv", frames=100, times=[0, *times], audio=audio, colour=tags)
    out, codec = tmp_path / name, X265("veryfast", gop=10)
    result = encode_video(plan_of(path, out, control, target_kbps=60, codec=codec))
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "hevc" and (context.codec_tag == "hvc1" or name != "out.mp4")
        frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc)) == (1, 2, 1, 1)
    with av.open(str(out)) as container:
        sizes, keys = zip(*((p.size, p.is_keyframe) for p in container.demux(video=0) if p.size), strict=True)
    assert audio is None or [data for _, data in packets_of(out, "audio")] == [data for _, data in packets_of(path, "audio")]
    assert times_of(out) == [0, *times] and keys[::10] == (True,) * 10
    assert 0.9 * 60 < result.stats.bitrate_kbps < 1.05 * 60
    assert 8 * sum(sizes) == pytest.approx(result.stats.bits, rel=0.03)  # MPEG-TS has 7 bytes before every picture
    assert sorted(result.stats.mean_qps) == ["B", "I", "P"] and result.num_encodes == 2


@pytest.mark.parametrize("codec", [CODEC, X265("veryfast", gop=10)])
def test_zero_offsets_are_two_pass_abr_itself(make_video, tmp_path, codec):
    """Packet by packet; and without a control it is that, too."""
    control = lively(0.0)
    path = make_video(frames=30)
    for name, chosen in (("zero.mkv", control), ("none.mkv", None)):
        encode_video(plan_of(path, tmp_path / name, chosen, codec=codec))
    assert packets_of(tmp_path / "zero.mkv", "video") == packets_of(tmp_path / "none.mkv", "video")


def test_offsets_move_quality_to_where_the_control_asks(make_video, tmp_path, control):
    path, maps = make_video(frames=30, size=(96, 160)), []
    moved_plan = plan_of(path, tmp_path / "moved.mp4", control, target_kbps=800)
    encode_video(moved_plan, look=lambda index, frame, values: maps.append(values.copy()))
    encode_video(plan_of(path, tmp_path / "plain.mp4", None, target_kbps=800))
    moved, plain = (inspect_bitstream(tmp_path / name).realised_qp.values.mean(0) for name in ("moved.mp4", "plain.mp4"))
    asked = np.mean(maps, 0)
    assert len(maps) == 30 and np.ptp(asked) > 2
    assert np.corrcoef((moved - plain).ravel(), asked.ravel())[0, 1] > 0.6


def test_the_qps_of_a_map_are_what_was_asked(make_video, tmp_path):
    """On coded macroblocks of I frames, which carry their QP."""
    path, maps = make_video(frames=12), []
    plan = plan_of(path, tmp_path / "out.mp4", lively(3.0), target_kbps=800, delivery="map")
    encode_video(plan, look=lambda index, frame, values: maps.append((index, values.copy())))
    report, asked = inspect_bitstream(tmp_path / "out.mp4"), dict(maps)  # of the last encode
    first = np.abs(report.realised_qp.values[0] - asked[0].astype(int))
    assert (first <= 1).mean() > 0.9


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
def test_moments_sound_and_tags_are_kept(make_video, tmp_path, name):
    times = [0, 40, 90, 300, 310, 700, 740, 1000, 1010, 1060, 1400, 1440]
    tags = {"colorspace": 1, "color_range": FULL_RANGE, "color_primaries": 1, "color_trc": 1}
    path = make_video("in.mkv", times=times, audio="aac", metadata={"title": "A & B"}, colour=tags)
    out = tmp_path / name
    result = encode_video(plan_of(path, out, None, target_kbps=300))
    assert not result.notes and times_of(out) == times
    sound, kept = packets_of(path, "audio"), packets_of(out, "audio")
    assert [data for _, data in kept] == [data for _, data in sound] and len(sound) > 5
    np.testing.assert_allclose([t for t, _ in kept], [t for t, _ in sound], atol=0.002)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "A & B"
        if name != "out.mov":  # whose list of languages is Apple's
            assert container.streams.audio[0].language == "deu"
        frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc)) == (1, 2, 1, 1)


@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (180, False), (270, False), (0, True), (90, True)])
def test_a_turned_or_mirrored_video_stays_so(make_video, tmp_path, control, rotation, mirrored):
    path, out = make_video("turned.mp4", size=(96, 160), rotation=rotation, mirrored=mirrored), tmp_path / "out.mp4"
    encode_video(plan_of(path, out, control))
    seen = [orientation(next(av.open(str(p)).decode(video=0))) for p in (path, out)]
    assert seen[0] == seen[1] == (rotation, mirrored)


def test_chapters_are_kept_and_read_again(make_video, tmp_path):
    """mp4 keeps them as a stream of text."""
    path = make_video("in.mkv", frames=30)
    chapters = [{"id": 1, "start": 0, "end": 600, "time_base": Fraction(1, 1000), "metadata": {"title": "first"}}]
    with av.open(str(path)) as original, av.open(str(tmp_path / "told.mkv"), "w") as told:
        copied = told.add_stream_from_template(original.streams.video[0])
        told.set_chapters(chapters)
        for packet in original.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                told.mux(packet)
    for source, name in (("told.mkv", "a.mp4"), ("a.mp4", "b.mp4"), ("b.mp4", "c.mkv")):
        result = encode_video(plan_of(tmp_path / source, tmp_path / name, None, target_kbps=300))
        assert result.stats.num_frames == 30 and not result.notes
    with av.open(str(tmp_path / "c.mkv")) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["first"]


@pytest.mark.parametrize("delivery", ["offsets", "map"])
def test_sound_may_come_first_and_files_be_attached(make_video, tmp_path, delivery):
    """FFmpeg's last packet of every stream says that it is of stream 0."""
    path = make_video("in.mkv", audio="aac", sound_first=True, data=True, frames=30)
    result = encode_video(plan_of(path, tmp_path / "out.mp4", lively(), target_kbps=300, delivery=delivery))
    assert result.stats.num_frames == len(times_of(tmp_path / "out.mp4")) == 30
    assert packets_of(tmp_path / "out.mp4", "audio")[5][1] == packets_of(path, "audio")[5][1]
    assert any("attachment" in note and "left out" in note for note in result.notes)


def test_a_dark_beginning_does_not_decide_the_analysis(make_video, tmp_path):
    """A title says little of the film: the rate is met all the same."""
    clip = make_scene(100, 64, 96)
    dark = np.concatenate([np.full_like(clip.y[:25], 16), clip.y[25:]])
    path = tmp_path / "in.mp4"
    path.write_bytes(X264("veryfast").encode(replace(clip, y=dark), CRF(10)).bitstream)
    result = encode_video(plan_of(path, tmp_path / "out.mp4", lively(3.0), delivery="map"))
    assert 0.7 * 150 < result.stats.bitrate_kbps < 1.02 * 150 and result.num_encodes <= 3


def test_what_a_stream_cannot_tell_is_said(make_video, tmp_path):
    path = make_video("turned.mp4", rotation=90, metadata={"title": "A"})
    result = encode_video(plan_of(path, tmp_path / "out.ts", None, target_kbps=300))
    rotation, tags = result.notes
    assert "rotation by" in rotation and tags == "tags cannot be stored in MPEG-TS and are left out"
    assert not encode_video(plan_of(make_video("plain.mp4"), tmp_path / "out.ts", None, target_kbps=300)).notes


def test_mean_qps_are_those_of_the_whole_video(make_video, tmp_path):
    """Of a short one, of all its GOPs."""
    path = make_video(frames=200)
    tally = encode_video(plan_of(path, tmp_path / "out.mp4", None, codec=X264("ultrafast", gop=10))).stats
    report = inspect_bitstream(tmp_path / "out.mp4")
    for kind, qp in tally.mean_qps.items():
        assert qp == pytest.approx(report.realised_qp.values[np.array(report.frame_types) == kind].mean(), abs=0.01)
    assert sum(tally.bits_per_second.values()) == tally.bits


def test_what_a_container_cannot_carry_is_said(make_video, tmp_path):
    path = make_video("in.mkv", audio="pcm_s16le")
    for name, carried in (("out.ts", False), ("out.mp4", False), ("out.mkv", True)):
        plan = plan_of(path, tmp_path / name, None, target_kbps=300)
        message = f"audio (pcm_s16le) cannot be stored in {name[3:]}"
        assert (message in str(plan)) != carried  # before anything is done
        result = encode_video(plan)
        assert any(message in note for note in result.notes) != carried
        with av.open(str(tmp_path / name)) as container:
            assert bool(container.streams.audio) == carried


def test_a_broken_frame_does_not_end_the_encode(make_video, tmp_path, control):
    path = make_video("broken.mp4", frames=40, options={"g": "5"})
    with av.open(str(path)) as container:
        place, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][17]
    data = bytearray(path.read_bytes())
    data[place + 5 : place + size] = bytes(size - 5)
    path.write_bytes(data)
    result = encode_video(plan_of(path, tmp_path / "out.mp4", control))
    assert result.stats.num_frames >= 38 and result.damage.packets + result.damage.frames


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.ts", "out.mov"])
@pytest.mark.parametrize("begin", [0.0, 40.0, 9000.0])
def test_joined_recordings_with_sound_are_one(tmp_path, name, begin):
    """Whatever their clocks: 4 s of pictures, and nearly all of the sound."""
    path, out = write_pieces(tmp_path / "in.ts", [(50, 40), (50, begin)], audio=True), tmp_path / name
    result = encode_video(plan_of(path, out, None, codec=X264("ultrafast", gop=10)))
    times, sound = times_of(out), packets_of(out, "audio")
    assert [round(after - before) for before, after in pairwise(times)] == [40] * 99
    assert (
        result.stats.seconds == pytest.approx(4) and len(sound) > 180 and sound[-1][0] - sound[0][0] == pytest.approx(4, abs=0.1)
    )
    left_out = result.damage.corrections.left_out["audio"]
    assert len(sound) + left_out == len(packets_of(path, "audio")) and left_out < 5 and not str(result.damage)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.ts"])
def test_lost_packets_of_sound_do_not_end_the_video(tmp_path, name):
    path, out = write_pieces(tmp_path / "in.ts", [(50, 0)], audio=True, drop=[20, 21, 50]), tmp_path / name
    data = bytearray(path.read_bytes())
    place = next(at for at in range(188 * 40, len(data), 188) if data[at + 2] == 1 and data[at + 1] & 0x1F == 1)  # of the sound
    path.write_bytes(data[:place] + data[place + 188 :])
    result = encode_video(plan_of(path, out, None, codec=X264("ultrafast", gop=10)))
    assert result.stats.num_frames == len(times_of(out)) == 50 and len(packets_of(out, "audio")) > 80


@pytest.mark.parametrize("gap", [60, 5000])
def test_no_bits_are_spent_on_a_pause_or_a_jump(tmp_path, gap):
    """Packet by packet, it is the encode of the pictures without it."""
    plain = write_pieces(tmp_path / "plain.ts", [(50, 0)])
    paused = write_pieces(tmp_path / "paused.ts", [(20, 0), (30, gap)])
    packets = []
    for path in (plain, paused):
        encode_video(plan_of(path, tmp_path / "out.mkv", None, codec=X264("ultrafast", gop=10)))
        packets.append([data for _, data in packets_of(tmp_path / "out.mkv", "video")])
        times = times_of(tmp_path / "out.mkv")
    assert packets[0] == packets[1]
    assert times[20] == (60_000 if gap == 60 else 800) and times[-1] - times[20] == 29 * 40


@pytest.mark.parametrize("rate", [25, 400])
def test_a_rate_that_x264_cannot_reach_is_named_with_the_least_that_it_can(make_video, tmp_path, rate):
    path = make_video("in.mkv", frames=100, size=(128, 160), times=[1000 * t // rate for t in range(100)])
    with pytest.raises(ConfigError, match=r"1 kbit/s is too little for x264 here: ask for at least (\d+)") as raised:
        encode_video(plan_of(path, tmp_path / "out.mp4", None, target_kbps=1))
    least = int(str(raised.value).split()[-1])
    with pytest.raises(ConfigError, match="too little"):
        encode_video(plan_of(path, tmp_path / "out.mp4", None, target_kbps=least - 1))
    assert encode_video(plan_of(path, tmp_path / "out.mp4", None, target_kbps=least)).stats.num_frames == 100


@pytest.mark.parametrize("source", ["opus.webm", "aac.mkv", "aac.mp4", "aac.ts", "mp3.mkv"])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.ts", "out.mov"])
def test_sound_that_begins_before_the_video_is_carried(make_video, tmp_path, source, name):
    """As encoders need it; webm has its times as they are."""
    codec = {"webm": {"codec": "libvpx", "options": {"deadline": "realtime"}}}.get(source[5:], {})
    audio = {"opus": "libopus", "aac.": "aac", "mp3.": "mp3"}[source[:4]]
    path, out = make_video(source, frames=30, audio=audio, **codec), tmp_path / name
    result = encode_video(plan_of(path, out, None, codec=X264("ultrafast", gop=10)))
    if any("cannot be stored" in note for note in result.notes):
        assert (source, name) == ("opus.webm", "out.mov")
    else:
        assert len(packets_of(out, "audio")) == len(packets_of(path, "audio")) and not result.damage.corrections.left_out
    assert len(times_of(out)) == 30


def test_an_error_half_way_leaves_nothing(make_video, tmp_path, control):
    path, out = make_video(frames=30), tmp_path / "out.mp4"
    plan = plan_of(path, out, control, codec=X264("veryfast", gop=10, params={"aq-mode": "0"}))  # x264 would drop the map
    with pytest.raises(CodecError, match="ignore or shift the QP map"):
        encode_video(plan)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_wrong_outputs_and_targets_are_named_before_anything_is_done(make_video, tmp_path):
    path = make_video()
    for out, match in (("out.avi", "does not say what to write"), ("in.mp4", "the input itself"), ("no/out.mp4", "no folder")):
        with pytest.raises(DvccError, match=match):
            plan_of(path, tmp_path / out, None)
    for kbps in (0.5, 1e6):
        with pytest.raises(ConfigError, match="out of reach"):
            plan_of(path, tmp_path / "out.mp4", None, target_kbps=kbps)
