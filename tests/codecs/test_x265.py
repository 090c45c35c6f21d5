"""X265: offsets on its own rate control, in both passes, and what it cannot be asked."""

import io

import av
import numpy as np
import pytest

from dvcc import ABR, CQP, CRF, X265, CodecError, ConfigError, QPMap, QPOffsets
from dvcc.codecs.encoder import StreamEncoder
from dvcc.media.format import VideoFormat
from tests.conftest import make_scene


@pytest.fixture(scope="module")
def clip():
    return make_scene(frames=24, height=128, width=256)


def halves(clip, *, left: int, right: int) -> QPOffsets:
    values = np.full((clip.num_frames, clip.height // 16, clip.width // 16), right)
    values[:, :, : values.shape[2] // 2] = left
    return QPOffsets(values)


def psnr_of_halves(clip, coded) -> list[float]:
    error = (coded.clip().y.astype(float) - clip.y) ** 2
    middle = clip.width // 2
    return [10 * np.log10(255**2 / half.mean()) for half in (error[:, :, :middle], error[:, :, middle:])]


@pytest.mark.parametrize("passes", [1, 2])
def test_offsets_move_quality_at_the_same_bitrate(clip, passes):
    plain = X265(gop=12).encode(clip, ABR(300, passes=passes))
    moved = X265(gop=12).encode(clip, ABR(300, passes=passes, offsets=halves(clip, left=-6, right=6)))
    gained = np.subtract(psnr_of_halves(clip, moved), psnr_of_halves(clip, plain))
    assert gained[0] > 0.5 and gained[1] < -0.5
    assert moved.bits == pytest.approx(plain.bits, rel=0.1 if passes == 2 else 0.5)  # one pass cannot know what 24 frames cost
    assert moved.num_encodes == passes


def test_zero_offsets_are_plain_two_pass_abr_to_the_byte(clip):
    codec = X265(gop=12)
    zeros = ABR(300, offsets=halves(clip, left=0, right=0))
    assert codec.encode(clip, zeros).bitstream == codec.encode(clip, ABR(300)).bitstream


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rate", [ABR(300), ABR(150, passes=1, vbv=(150, 150)), CRF(30)], ids=["two passes", "vbv", "crf"])
def test_the_same_input_makes_the_same_bytes_every_time(clip, rate, threads):
    codec = X265("veryfast", gop=12, threads=threads, params={"rc-lookahead": "10"})
    assert len({codec.encode(clip, rate).bitstream for _ in range(5)}) == 1


def test_settings_are_those_of_the_encode(clip):
    reported = X265(gop=12, threads=3, bframes=2).encode(clip, ABR(300)).settings.split()
    for word in ("bitrate=300", "keyint=12", "frame-threads=3", "bframes=2", "no-open-gop", "input-res=256x128", "aq-mode=2"):
        assert word in reported, word


def test_a_map_of_every_qp_is_refused(clip):
    with pytest.raises(CodecError, match=r"cannot be given every QP.*take ABR\(offsets=\.\.\.\), or X264"):
        X265().encode(clip, QPMap.uniform(30, like=clip))


@pytest.mark.parametrize("codec", [X265("ultrafast"), X265(params={"aq-mode": 0})])
def test_offsets_that_x265_would_ignore_are_refused(clip, codec, monkeypatch):
    moved = ABR(300, passes=1, offsets=halves(clip, left=-6, right=6))
    with pytest.raises(CodecError, match="would ignore the offsets with AQ off.*aq-mode"):
        codec.encode(clip, moved)
    monkeypatch.setattr(X265, "check_obeyed", lambda *args, **kwargs: None)  # the trap is real in this build
    assert codec.encode(clip, moved).bitstream == codec.encode(clip, ABR(300, passes=1)).bitstream


@pytest.mark.parametrize(
    ("params", "reason"), [({"no-such": 1}, "would ignore.*no-such"), ({"aq-mode": "many"}, "would ignore.*many")]
)
def test_refused_options_name_themselves(clip, params, reason):
    with pytest.raises(CodecError, match=reason):
        X265(params=params).encode(clip, CRF(30))


def test_a_wrong_preset_is_refused():
    with pytest.raises(ConfigError, match="x265 has no preset 'quick'"):
        X265("quick")


@pytest.mark.parametrize("form", ["mp4", "mpegts", "matroska"])
def test_bits_are_those_of_the_pictures_and_parameter_sets(clip, form):
    codec, buffer = X265(gop=12), io.BytesIO()
    picture = VideoFormat(clip.height, clip.width, clip.fps, 1 / clip.fps, 1)
    with av.open(buffer, "w", format=form) as container:
        encoder, packets = StreamEncoder(codec, container, CRF(30), picture), []
        for t in range(clip.num_frames):
            packets += encoder.encode((clip.y[t], clip.u[t], clip.v[t]), t)
        packets += encoder.flush()
        container.mux(packets)
        assert encoder.settings.startswith("x265 (build") and "crf=30.0" in encoder.settings
    bits = 8 * sum(p.size for p in packets) + encoder.header_bits
    repeated = 2 if form == "mpegts" else 1  # parameter sets come again with every key frame
    assert 0 <= bits - codec.encode(clip, CRF(30)).bits <= 8 * 150 * (repeated - 1)
    assert not any(b"x265" in bytes(packet) for packet in packets)


def test_packets_say_the_mean_qp_of_their_frame(clip):
    picture = VideoFormat(clip.height, clip.width, clip.fps, 1 / clip.fps, 1)
    with av.open(io.BytesIO(), "w", format="null") as container:
        encoder = StreamEncoder(X265(gop=12, params={"ipratio": 1, "pbratio": 1}), container, CQP(33), picture)
        packets = [p for t in range(clip.num_frames) for p in encoder.encode((clip.y[t], clip.u[t], clip.v[t]), t)]
        reported = [encoder.codec.mean_qp_of(packet) for packet in [*packets, *encoder.flush()]]
    assert len(reported) == clip.num_frames and {qp for _, qp in reported} == {33.0}
    assert reported[0][0] == "I" and {kind for kind, _ in reported} <= set("IPB")
