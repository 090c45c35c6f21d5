"""One suite for every codec."""

import pickle

import numpy as np
import pytest

from dvcc import ABR, CQP, JPEG, X264, X265, CodecError, Quality, VideoError
from dvcc.codecs import CODECS
from tests.conftest import make_scene

FINE_TO_COARSE = {name: [CQP(10), CQP(25), CQP(40)] for name in ("x264", "x265")} | {
    "jpeg": [Quality(95), Quality(60), Quality(10)]
}


@pytest.fixture(params=CODECS)
def name(request):
    return request.param


def test_every_codec_is_covered():
    assert set(FINE_TO_COARSE) == set(CODECS)


def test_frames_have_the_shape_of_the_input_and_look_like_it(name, scene):
    coded = CODECS[name]().encode(scene, FINE_TO_COARSE[name][0])
    assert coded.frames.shape == scene.frames.shape and coded.frames.dtype == scene.frames.dtype
    assert (coded.frames.float() - scene.frames.float()).abs().mean() < 6


def test_coarser_means_fewer_bits_and_larger_error(name, scene):
    coded = [CODECS[name]().encode(scene, rate) for rate in FINE_TO_COARSE[name]]
    bits = [c.bits for c in coded]
    errors = [float((c.frames.float() - scene.frames.float()).square().mean()) for c in coded]
    assert bits == sorted(bits, reverse=True) and errors == sorted(errors) and len(set(bits)) == 3


def test_units_agree_with_each_other(name, scene):
    coded = CODECS[name]().encode(scene, FINE_TO_COARSE[name][1])
    seconds = scene.num_frames / float(scene.fps)
    assert coded.bits_per_frame.shape == (scene.num_frames,) and (coded.bits_per_frame > 0).all()
    assert coded.bitrate_kbps == pytest.approx(coded.bits_per_frame.sum() / seconds / 1000)
    assert coded.bits_per_pixel == pytest.approx(coded.bits / (scene.num_frames * scene.height * scene.width))


def test_same_input_same_bytes(name, scene):
    first, second = (CODECS[name]().encode(scene, FINE_TO_COARSE[name][1]) for _ in range(2))
    assert first.bitstream == second.bitstream


def test_bits_belong_to_their_frames(name):
    """Only frame 5 is hard to code, so frame 5 must hold most of the bits (wrong if bits are in coding order)."""
    scene = make_scene()
    for plane in (scene.y, scene.u, scene.v):
        plane[:] = plane[:1]
    scene.y[5] = np.random.default_rng(0).integers(0, 256, scene.y[5].shape)
    coded = CODECS[name]().encode(scene, FINE_TO_COARSE[name][1])
    others = np.delete(coded.bits_per_frame, [0, 5])
    assert coded.bits_per_frame[5] > 2 * others.max()


def test_the_mp4_holds_about_the_counted_bits(name, scene):
    coded = CODECS[name]().encode(scene, FINE_TO_COARSE[name][1])
    assert b"ftyp" in coded.bitstream[:12]
    assert coded.bits < 8 * len(coded.bitstream) < coded.bits + 8 * 2500  # container and settings text


def test_a_rate_of_another_codec_is_refused(name, scene):
    foreign = CQP(20) if name == "jpeg" else Quality(50)
    with pytest.raises(CodecError, match="takes a"):
        CODECS[name]().encode(scene, foreign)


def test_a_damaged_bitstream_is_a_codec_error(name, scene):
    from dataclasses import replace

    coded = CODECS[name]().encode(scene, FINE_TO_COARSE[name][1])
    with pytest.raises(CodecError, match="cannot be decoded"):
        _ = replace(coded, bitstream=coded.bitstream[: len(coded.bitstream) // 3]).frames


@pytest.mark.parametrize("name", [name for name in CODECS if name != "x264"])
def test_realised_qps_are_of_h264_only(name, scene):
    with pytest.raises(VideoError, match=r"H\.264 only"):
        CODECS[name]().encode(scene, FINE_TO_COARSE[name][0]).realised_qp()


@pytest.mark.parametrize("codec", [X264(preset="fast", params={"psy": "0"}), X265(gop=5), JPEG()])
def test_codecs_travel_to_worker_processes(codec):
    copy = pickle.loads(pickle.dumps(codec))
    assert copy == codec and repr(copy) == repr(codec)


def test_equal_codecs_have_one_hash():
    """Others may share it."""
    codecs = [X264(), X264(params={}), X265(), X264(params={"psy": "0"}), X264(gop=9)]
    assert len(set(codecs)) == 4 and hash(codecs[0]) == hash(codecs[1])


@pytest.mark.parametrize("codec", [X264(), X265()])
def test_two_passes_leave_no_files_in_a_folder_of_any_name(codec, scene, tmp_path, monkeypatch):
    folder = tmp_path / "an odd: one's \\ name"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert codec.encode(scene, ABR(100)).num_encodes == 2
    assert list(folder.iterdir()) == []
