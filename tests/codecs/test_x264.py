"""X264 against the `ffmpeg` program, and its settings, counts and errors."""

import re
import subprocess
from fractions import Fraction

import imageio_ffmpeg
import numpy as np
import pytest

from dvcc import ABR, CQP, CRF, X264, CodecError, ConfigError, QPMap, VideoError, read_clip
from dvcc.codecs.bitstream import inspect_bitstream, split_settings
from dvcc.codecs.encoder import cpu_capabilities
from tests.conftest import make_scene

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
# x264's own choice of threads and the FFmpeg build differ between the program and the library; the rest must not
PER_BUILD = {"lookahead_threads", "threads"}


def run_ffmpeg(*words: str, stdin: bytes = b"") -> bytes:
    return subprocess.run([FFMPEG, "-v", "error", "-y", *words], input=stdin, capture_output=True, check=True).stdout


def planes_of(clip) -> bytes:
    return b"".join(plane.tobytes() for t in range(clip.num_frames) for plane in (clip.y[t], clip.u[t], clip.v[t]))


def ffmpeg_two_pass(clip, kbps: int, folder) -> tuple[str, int]:
    """Settings text and bits of the program's own two-pass ABR into mp4 (raw .h264 repeats headers, which moves ABR)."""
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{clip.width}x{clip.height}", "-r", str(clip.fps), "-i", "-"]
    options = ["-c:v", "libx264", "-preset", "medium", "-g", "8", "-b:v", f"{kbps}k", "-threads", "1"]
    stats = ["-passlogfile", str(folder / "log")]
    run_ffmpeg(*source, *options, *stats, "-pass", "1", "-f", "null", "-", stdin=planes_of(clip))
    run_ffmpeg(*source, *options, *stats, "-pass", "2", str(folder / "out.mp4"), stdin=planes_of(clip))
    stream = annex_b(folder / "out.mp4")
    settings, text_bytes = split_settings(stream)
    return settings, 8 * (len(stream) - text_bytes)


def annex_b(path) -> bytes:
    return run_ffmpeg("-i", str(path), "-c", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264", "-")


def options_of(settings: str) -> dict[str, str]:
    words = dict(word.split("=", 1) for word in settings.split("options: ")[1].split() if "=" in word)
    return {key: value for key, value in words.items() if key not in PER_BUILD}


def test_two_pass_abr_is_that_of_the_ffmpeg_program(bikes, tmp_path):
    clip = read_clip(bikes, frames=48, size=(224, 512))
    ours = X264().encode(clip, ABR(150))
    settings, bits = ffmpeg_two_pass(clip, 150, tmp_path)
    assert options_of(ours.settings) == options_of(settings)
    assert ours.bits == pytest.approx(bits, rel=0.01)


def test_the_mp4_decodes_with_the_ffmpeg_program_to_the_same_frames(scene, tmp_path, rng):
    coded = X264().encode(scene, QPMap(rng.integers(20, 45, (8, 4, 6))))
    (tmp_path / "coded.mp4").write_bytes(coded.bitstream)
    raw = run_ffmpeg("-i", str(tmp_path / "coded.mp4"), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
    assert raw == planes_of(coded.clip())


def test_settings_text_is_not_counted(scene):
    coded = X264().encode(scene, QPMap.uniform(51, like=scene))
    assert coded.settings.startswith("x264 - core") and coded.settings.endswith("aq=1:0.00")
    assert coded.bits_per_frame[0] < 8 * 600  # the text alone is about 660 bytes


def test_counted_bits_equal_the_slices_and_parameter_sets_of_an_annex_b_stream(scene, tmp_path):
    coded = X264().encode(scene, CRF(30))
    (tmp_path / "coded.mp4").write_bytes(coded.bitstream)
    stream = annex_b(tmp_path / "coded.mp4")
    _, text_bytes = split_settings(stream)
    assert coded.bits == pytest.approx(8 * (len(stream) - text_bytes), abs=8 * 2 * coded.num_frames)


def test_bits_per_frame_are_in_display_order_with_b_frames():
    clip = make_scene(frames=12)
    coded = X264(gop=12, params={"b-adapt": "0"}).encode(clip, CRF(25))
    report = inspect_bitstream(coded.bitstream)
    assert "B" in report.frame_types and report.frame_types[0] == "I"
    np.testing.assert_array_equal(coded.bits_per_frame, report.bits_per_frame)
    by_type = {kind: np.mean(coded.bits_per_frame[np.array(report.frame_types) == kind]) for kind in "IPB"}
    assert by_type["I"] > by_type["P"] > by_type["B"]


def test_raw_h264_without_times_is_inspected_in_display_order(tmp_path):
    coded = X264(gop=12, params={"b-adapt": "0"}).encode(make_scene(frames=12), CRF(25))
    (tmp_path / "coded.mp4").write_bytes(coded.bitstream)
    (tmp_path / "coded.h264").write_bytes(annex_b(tmp_path / "coded.mp4"))
    from_mp4, raw = (inspect_bitstream(tmp_path / f"coded.{suffix}") for suffix in ("mp4", "h264"))
    assert raw.frame_types == from_mp4.frame_types and "B" in raw.frame_types and raw.realised_qp == from_mp4.realised_qp
    np.testing.assert_allclose(raw.bits_per_frame[1:], from_mp4.bits_per_frame[1:], atol=64)
    assert raw.bits_per_frame[0] == pytest.approx(from_mp4.bits_per_frame[0], abs=64)  # its packets hold the parameter sets


@pytest.mark.parametrize("pixel_format, readable", [("yuv444p", True), ("yuv422p", True), ("yuv420p10le", False)])
def test_other_pixel_formats_are_inspected_or_refused(pixel_format, readable, tmp_path):
    source = ["-f", "lavfi", "-i", "testsrc=size=98x66:rate=25:duration=0.2"] if "420" not in pixel_format else []
    source = source or ["-f", "lavfi", "-i", "testsrc=size=96x64:rate=25:duration=0.2"]
    run_ffmpeg(*source, "-pix_fmt", pixel_format, "-c:v", "libx264", str(tmp_path / "x.mp4"))
    if readable:
        assert inspect_bitstream(tmp_path / "x.mp4").first_frame.shape[2] == 3
    else:
        with pytest.raises(VideoError, match="8-bit"):
            inspect_bitstream(tmp_path / "x.mp4")


def test_gop_and_b_frames_are_as_asked():
    clip = make_scene(frames=16)
    types = inspect_bitstream(X264(gop=8, bframes=0).encode(clip, CRF(25)).bitstream).frame_types
    assert types == tuple("IPPPPPPP" * 2)


def test_perspective_preset_is_the_papers_command(scene):
    options = options_of(X264.perspective().encode(scene, CQP(30)).settings)
    expected = {"rc": "cqp", "qp": "30", "mbtree": "0", "aq": "0", "b_adapt": "0", "psy": "0", "keyint": "8", "subme": "7"}
    assert {key: options[key] for key in expected} == expected


def test_abr_meets_its_target_on_a_longer_clip(bikes):
    clip = read_clip(bikes, frames=64, size=(144, 256))
    one_pass, two_passes = (X264().encode(clip, ABR(120, passes=passes)) for passes in (1, 2))
    assert two_passes.bitrate_kbps == pytest.approx(120, rel=0.05)
    assert (one_pass.num_encodes, two_passes.num_encodes) == (1, 2)


def test_vbv_reaches_x264(scene):
    options = options_of(X264().encode(scene, ABR(200, passes=1, vbv=(200, 100))).settings)
    assert (options["vbv_maxrate"], options["vbv_bufsize"]) == ("200", "100")


def test_colour_tags_travel_through_the_bitstream(scene):
    from dataclasses import replace

    tagged = replace(scene, matrix="bt709", full_range=True)
    decoded = X264().encode(tagged, CRF(10)).clip()
    assert (decoded.matrix, decoded.full_range, decoded.fps) == ("bt709", True, scene.fps)


@pytest.mark.parametrize("fps", [Fraction(25, 3), Fraction(30000, 1001), Fraction(17, 3)])
def test_the_frame_rate_survives(fps, scene):
    from dataclasses import replace

    coded = X264().encode(replace(scene, fps=fps), CRF(30))
    assert coded.fps == fps and float(coded.clip().fps) == pytest.approx(float(fps), rel=1e-4)


def test_refused_options_name_themselves(scene):
    with pytest.raises(CodecError, match="no-such-option"):
        X264(params={"no-such-option": "1"}).encode(scene, CRF(30))


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda: X264(preset="mediun"), "choose one of"),
        (lambda: X264(gop=0), "gop"),
        (lambda: X264(bframes=17), "bframes"),
        (lambda: X264(threads=0), "threads"),
        (lambda: CQP(52), "0 to 51"),
        (lambda: CQP(30.5), "integer"),
        (lambda: CRF(-1), "0 to 51"),
        (lambda: ABR(0.5), "at least 1"),
        (lambda: ABR(float("nan")), "at least 1"),
        (lambda: ABR(100, passes=3), "passes"),
        (lambda: ABR(100, vbv=(100,)), "vbv"),
    ],
)
def test_wrong_arguments_say_what_and_how(build, reason):
    with pytest.raises(ConfigError, match=reason):
        build()


@pytest.mark.parametrize("capabilities, asked", [(("AVX2",), False), (("AVX2", "AVX512"), True), ((), False)])
def test_avx512_code_is_kept_out_where_x264_would_take_it(capabilities, asked, monkeypatch):
    """Its bytes depend on memory that nobody wrote."""
    monkeypatch.setattr("dvcc.codecs.x264.cpu_capabilities", lambda: capabilities)
    assert ("asm=AVX2" in X264().options(CRF(30))["x264-params"]) == asked


def test_x264_says_which_code_it_takes():
    assert cpu_capabilities() and all(re.fullmatch(r"[\w.]+", word) for word in cpu_capabilities())
