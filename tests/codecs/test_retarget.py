"""A bitrate that changes while the encoder runs: no picture is lost, and the buffer is kept."""

import io
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from dvcc import ABR, X264, X265
from dvcc.codecs.encoder import StreamEncoder
from dvcc.codecs.retarget import RetargetedEncoder, VBVBuffer
from dvcc.errors import ConfigError
from dvcc.media.format import VideoFormat
from dvcc.rate_control.abr import streamed
from tests.conftest import make_scene

PICTURE = VideoFormat(96, 160, Fraction(25), Fraction(1, 25), 5)
LIVE = X264("veryfast", gop=25, params={"rc-lookahead": "10", "sync-lookahead": "0"})


@pytest.fixture(scope="module")
def frames():
    """150 noisy pictures, of which no encoder makes too little."""
    clip, noise = make_scene(150, 96, 160), np.random.default_rng(0)
    y = (clip.y // 2 + noise.integers(0, 90, clip.y.shape)).astype(np.uint8)
    return list(zip(y, clip.u, clip.v, strict=True))


def coded(frames, kbps, codec=LIVE, form="mpegts", values=None):
    """The stream, (frames read, packet) in order, and the encoder; kbps: of every frame."""
    buffer, now, packets = io.BytesIO(), iter(kbps), []
    with av.open(
        buffer, "w", format=form, options={"movflags": "frag_keyframe+empty_moov"} if form == "mp4" else {}
    ) as container:
        first = next(now)
        asked = {"kbps": first}
        encoder = RetargetedEncoder(codec, container, lambda: streamed(asked["kbps"]), PICTURE, mapped=values is not None)
        for t, planes in enumerate(frames):
            asked["kbps"] = first if t == 0 else next(now)
            packets += [(t, packet.pts, 8 * packet.size) for packet in muxed(container, encoder.encode(planes, t, values))]
        packets += [(len(frames), packet.pts, 8 * packet.size) for packet in muxed(container, encoder.flush())]
    return buffer.getvalue(), packets, encoder


def muxed(container, packets):
    for packet in packets:
        yield packet
        container.mux_one(packet)


def decoded(stream):
    """Times of the pictures of a stream, in frames."""
    with av.open(io.BytesIO(stream)) as container:
        decoded = list(container.decode(video=0))
    assert not any(frame.is_corrupt for frame in decoded)
    times = [float(frame.pts * frame.time_base) * 25 for frame in decoded]
    return [round(time - times[0]) for time in times]


@pytest.mark.parametrize("form", ["mpegts", "mp4"])
@pytest.mark.parametrize(("codec", "mapped"), [(LIVE, False), (LIVE, True), (X265("ultrafast", gop=25), False)])
def test_every_picture_is_there_once_where_the_rate_falls_and_comes_back(frames, codec, mapped, form):
    values = np.zeros((6, 10), np.int8) if mapped else None
    stream, packets, encoder = coded(frames, [900] * 50 + [300] * 50 + [900] * 50, codec, form, values)
    assert decoded(stream) == list(range(150)) and 3 <= encoder.num_encoders <= 4
    assert sorted(pts for _, pts, _ in packets) == list(range(150))
    assert stream.count(b"x264 - core") == (codec.name == "x264")  # its text costs as much as a frame


def test_the_buffer_is_kept_within_its_own_length_after_a_change(frames):
    kbps = [900] * 50 + [300] * 50 + [900] * 50
    _, packets, _ = coded(frames, kbps)
    queue, delays = 0.0, []
    for t, rate in enumerate(kbps):
        queue += sum(bits for read, _, bits in packets if read == t)
        queue = max(0.0, queue - 1000 * rate / 25)
        delays.append(queue / 1000 / rate)
    late = [t for t, delay in enumerate(delays) if delay > 1]
    assert all(50 <= t < 75 for t in late), late  # what was on its way when the channel became narrower
    third = sum(bits for _, pts, bits in packets if 65 <= pts < 85) / 20 * 25 / 1000
    assert 200 < third <= 315


def test_a_rate_that_stays_changes_nothing(frames):
    stream, _, encoder = coded(frames[:40], [600] * 40)
    plain = io.BytesIO()
    with av.open(plain, "w", format="mpegts") as container:
        alone = StreamEncoder(LIVE, container, streamed(600), PICTURE)
        for t, planes in enumerate(frames[:40]):
            list(muxed(container, alone.encode(planes, t)))
        list(muxed(container, alone.flush()))
    assert encoder.num_encoders == 1 and stream == plain.getvalue()
    assert encoder.settings == alone.settings and encoder.header_bits == alone.header_bits


def test_a_small_change_is_made_on_the_open_encoder(frames):
    _, packets, encoder = coded(frames, [600] * 30 + [500] * 120)
    assert encoder.num_encoders == 1
    after = sum(bits for _, pts, bits in packets if pts >= 75) / 75 * 25 / 1000
    assert after == pytest.approx(500, rel=0.1)
    _, _, other = coded(frames[:60], [600] * 30 + [500] * 30, X265("ultrafast", gop=25))
    assert other.num_encoders == 2  # x265 takes none


def test_a_rate_that_never_rests_opens_an_encoder_four_times_a_second_at_most(frames):
    stream, _, encoder = coded(frames[:75], [900 if t % 2 else 300 for t in range(75)])
    assert decoded(stream) == list(range(75)) and 5 < encoder.num_encoders <= 13


def test_an_encoder_that_coded_nothing_leaves_its_pictures_to_the_next(frames):
    stream, packets, encoder = coded(frames[:30], [900] * 8 + [300] * 22)
    assert packets[0][1] == 0 and decoded(stream) == list(range(30)) and encoder.num_encoders == 2
    assert "vbv_maxrate=300" in encoder.settings and encoder.header_bits == 0


def test_what_is_on_its_way_stays_there_when_the_channel_changes():
    buffer = VBVBuffer(streamed(600))
    buffer.send(340_000, 0)
    assert buffer.fill == 200_000 and buffer.share == pytest.approx(1 / 3)
    buffer.change(streamed(450))
    assert buffer.fill == 50_000 and buffer.share == pytest.approx(1 / 9)
    buffer.change(streamed(200))
    assert buffer.fill == -200_000 and buffer.share == 0.02
    buffer.send(0, 9)
    assert buffer.fill == buffer.size == 200_000 and buffer.share == 0.9


def test_the_initial_occupancy_reaches_the_encoder_or_is_refused(frames):
    sizes = []
    for share in (0.05, 0.9):
        container = av.open(io.BytesIO(), "w", format="mpegts")
        encoder = StreamEncoder(LIVE, container, replace(streamed(300), vbv_init=share), PICTURE)
        packets = [p for t, planes in enumerate(frames[:30]) for p in encoder.encode(planes, t)] + list(encoder.flush())
        sizes.append(packets[0].size)
        container.close()
    assert sizes[0] < sizes[1] / 2
    for wrong in (ABR(300), ABR(300, vbv=(300, 300))):
        with pytest.raises(ConfigError, match="vbv_init"):
            replace(wrong, vbv_init=2.0 if wrong.vbv else 0.5)
