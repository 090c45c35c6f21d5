"""`dvcc inspect`: every container, damage, interlacing, references, and memory that does not grow with the video."""

import json
import random
import re
import subprocess
import tracemalloc
from fractions import Fraction
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest

from dvcc import CRF, X264, QPMap, VideoError
from dvcc.cli import main
from dvcc.codecs.bitstream import CodedFrame, CodedStream, inspect_bitstream, split_settings
from dvcc.inspect.summary import StreamSummary
from tests.conftest import make_noise, make_scene

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*words: str) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *words], check=True)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """30 frames, GOPs of 12, and the same stream in other containers; `fine.mp4` is a better coded version."""
    folder = tmp_path_factory.mktemp("coded")
    clip = make_scene(frames=30)
    (folder / "x.mp4").write_bytes(X264(gop=12).encode(clip, CRF(30)).bitstream)
    (folder / "fine.mp4").write_bytes(X264(gop=12).encode(clip, CRF(8)).bitstream)
    for suffix in ("mkv", "ts", "h264"):
        ffmpeg("-i", str(folder / "x.mp4"), "-c", "copy", str(folder / f"x.{suffix}"))
    return folder


def figures_of(capsys, *words) -> dict:
    assert main(["inspect", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def refused(capsys, *words, reason: str) -> None:
    assert main(["inspect", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and len(printed.err.splitlines()) == 1
    assert reason in printed.err, printed.err


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "h264"])
def test_every_container_says_the_same(suffix, coded, capsys):
    figures, report = figures_of(capsys, coded / f"x.{suffix}"), inspect_bitstream(coded / "x.mp4")
    assert (figures["frames"], figures["fps"], figures["size"]) == (30, 25, [64, 96])
    assert figures["types"] == "".join(report.frame_types) and not figures["fps_assumed"]
    assert figures["gops"] == {"lengths": [12, 12, 6], "closed": True, "regular_length": 12, "early_i_frames": []}
    np.testing.assert_allclose(figures["mean_qp_map"], report.realised_qp.values.mean(0), atol=0.006)
    np.testing.assert_allclose(figures["qp_mean_per_frame"], report.realised_qp.values.mean((1, 2)), atol=6e-4)
    assert sum(kbits for _, kbits in figures["kbits_per_second"]) == pytest.approx(sum(figures["bits_per_frame"]) / 1000)
    assert [second for second, _ in figures["kbits_per_second"]] == [0, 1]
    assert figures["kbits_per_second"][0][1] == pytest.approx(sum(figures["bits_per_frame"][:25]) / 1000)


def test_open_gops_and_scene_cuts_are_seen(tmp_path, capsys):
    cut = np.concatenate([make_scene(frames=10).y, 255 - make_scene(frames=10, seed=5).y // 2])
    source = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "96x64", "-r", "25", "-i", str(tmp_path / "raw")]
    (tmp_path / "raw").write_bytes(cut.tobytes())
    for name, params in (("cut", "keyint=50:min-keyint=2:scenecut=40"), ("open", "keyint=6:min-keyint=6:scenecut=0:open-gop=1")):
        ffmpeg(*source, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-x264-params", params, str(tmp_path / f"{name}.mp4"))
    gops = figures_of(capsys, tmp_path / "cut.mp4")["gops"]
    assert (gops["regular_length"], gops["early_i_frames"], gops["lengths"]) == (50, [10], [10, 10])
    gops = figures_of(capsys, tmp_path / "open.mp4")["gops"]
    assert not gops["closed"] and gops["lengths"][:2] == [6, 6]
    assert main(["inspect", str(tmp_path / "cut.mp4")]) == 0
    assert "I frames before 50 had passed, as at scene cuts: 1, at frame 10" in capsys.readouterr().out


def test_interlaced_video_is_read_and_said_to_be(tmp_path, capsys):
    """272 rows are 17 macroblocks, interlaced 18: maps are of the picture."""
    source = ["-f", "lavfi", "-i", "testsrc=size=64x272:rate=25:duration=0.4", "-pix_fmt", "yuv420p"]
    ffmpeg(*source, "-flags", "+ilme+ildct", "-c:v", "libx264", "-x264-params", "tff=1", str(tmp_path / "x.mp4"))
    figures = figures_of(capsys, tmp_path / "x.mp4")
    assert figures["interlaced_frames"] == 10 and np.shape(figures["mean_qp_map"]) == (17, 4)
    pairs = np.array(figures["mean_qp_map"])[:16].reshape(8, 2, 4)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    assert main(["inspect", str(tmp_path / "x.mp4")]) == 0
    assert "10 frames are interlaced" in capsys.readouterr().out


def without_timing(stream: bytes) -> bytes:
    """Raw H.264 whose sequence parameter sets end before their usability information, which holds the frame rate."""

    def cut(unit: bytes) -> bytes:
        bits = "".join(f"{byte:08b}" for byte in unit.replace(b"\0\0\3", b"\0\0"))
        place = 32

        def number() -> int:
            nonlocal place
            zeros = bits.index("1", place) - place
            place += 2 * zeros + 1
            return int(bits[place - zeros - 1 : place], 2) - 1

        for _ in range(4):  # id, chroma format, two bit depths: profile High
            number()
        place += 2
        number()
        assert number() == 0  # order of pictures by their own count
        number(), number()
        place += 1
        number(), number()
        place += 2
        place += 1
        assert bits[place - 1] == "0"  # nothing is cropped
        kept = bits[:place] + "01"
        kept += "0" * (-len(kept) % 8)
        return int(kept, 2).to_bytes(len(kept) // 8, "big")

    units = re.split(rb"\x00\x00\x00?\x01", stream)[1:]
    return b"".join(b"\0\0\0\1" + (cut(unit) if unit[0] & 31 == 7 else unit) for unit in units)


def test_a_raw_stream_that_does_not_say_its_rate_is_taken_for_25(coded, tmp_path, capsys):
    (tmp_path / "x.h264").write_bytes(without_timing((coded / "x.h264").read_bytes()))
    assert main(["inspect", str(tmp_path / "x.h264")]) == 0
    assert "frames at 25 fps (assumed: the stream does not say)" in capsys.readouterr().out


def test_damage_in_the_middle_is_counted_and_the_rest_reported(coded, tmp_path, capsys):
    data = bytearray((coded / "x.mp4").read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 1500] = bytes(1500)  # several frames, lengths and all
    (tmp_path / "x.mp4").write_bytes(data)
    figures = figures_of(capsys, tmp_path / "x.mp4")
    assert 15 <= figures["frames"] < 30 and figures["frames"] + figures["lost_frames"] == 30
    assert main(["inspect", str(tmp_path / "x.mp4")]) == 0
    assert f"damaged: {figures['lost_frames']} frames lost" in capsys.readouterr().out
    refused(capsys, tmp_path / "x.mp4", "--reference", coded / "fine.mp4", reason="lost to damage")
    with pytest.raises(VideoError, match="is damaged"):
        inspect_bitstream(tmp_path / "x.mp4")


def test_mutated_files_are_read_or_refused(coded, tmp_path, capsys):
    rng = random.Random(0)
    answers = set()
    for suffix in ("mp4", "ts", "h264"):
        whole = (coded / f"x.{suffix}").read_bytes()
        for _ in range(12):
            data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
            for _ in range(rng.randrange(1, 40)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            (tmp_path / "x").write_bytes(data)
            answers.add(main(["inspect", str(tmp_path / "x"), "--reference", str(coded / "fine.mp4")]))
            printed = capsys.readouterr()
            assert answers <= {0, 2} and (printed.err == "" or printed.err.count("\n") == 1)
    assert answers == {0, 2}


def test_what_is_no_h264_is_refused_in_one_sentence(coded, tmp_path, capsys):
    for name, data in (("empty.mp4", b""), ("text.h264", b"no video" * 50), ("cut.mp4", (coded / "x.mp4").read_bytes()[:3000])):
        (tmp_path / name).write_bytes(data)
        refused(capsys, tmp_path / name, reason=name)
    refused(capsys, tmp_path / "none.mp4", reason="does not exist")
    refused(capsys, tmp_path, reason="is a folder")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", str(tmp_path / "sound.wav"))
    refused(capsys, tmp_path / "sound.wav", reason="no video stream")
    source = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=0.2"]
    ffmpeg(*source, "-pix_fmt", "yuv420p10le", "-c:v", "libx264", str(tmp_path / "ten.mp4"))
    refused(capsys, tmp_path / "ten.mp4", reason="8-bit video only")
    ffmpeg(*source, "-c:v", "mpeg4", str(tmp_path / "part2.mp4"))
    refused(capsys, tmp_path / "part2.mp4", reason="is mpeg4")


def test_a_heat_map_in_an_impossible_place_is_known_before_anything_is_decoded(coded, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(CodedStream, "__iter__", lambda _: pytest.fail("decoded"))
    refused(capsys, coded / "x.mp4", "--heat-map", tmp_path, reason="is a folder")
    refused(capsys, coded / "x.mp4", "--heat-map", coded / "x.mp4", reason="end it in .png")
    refused(capsys, coded / "x.mp4", "--heat-map", tmp_path / "none" / "x.png", reason="cannot be written")
    refused(capsys, coded / "x.mp4", "--heat-map", coded / "x.mp4" / "x.png", reason="cannot be written")


def test_against_a_reference(coded, tmp_path, capsys):
    words = (coded / "x.mp4", "--reference", coded / "fine.mp4", "--heat-map", tmp_path / "heat.png")
    figures = figures_of(capsys, *words)["reference"]
    assert figures["frames"] == 30 and 20 < figures["psnr"] < 45 and 0.5 < figures["ssim"] < 1
    assert np.shape(figures["psnr_map"]) == np.shape(figures["ssim_map"]) == (4, 6)
    assert main(["inspect", *map(str, words)]) == 0
    printed = capsys.readouterr().out
    assert f"PSNR {figures['psnr']:.2f} dB" in printed and "third of lowest QPs" in printed
    assert (tmp_path / "heat.png").stat().st_size > 10_000
    assert main(["inspect", str(coded / "x.mp4"), "--reference", str(coded / "x.mkv")]) == 0
    assert "PSNR identical" in capsys.readouterr().out


def test_a_reference_of_another_size_or_length_is_refused(coded, tmp_path, capsys):
    for name, clip in (
        ("small", make_scene(frames=30, width=64)),
        ("short", make_scene(frames=29)),
        ("long", make_scene(frames=31)),
    ):
        (tmp_path / f"{name}.mp4").write_bytes(X264().encode(clip, CRF(20)).bitstream)
    refused(capsys, coded / "x.mp4", "--reference", tmp_path / "small.mp4", reason="is 64x64 and the coded video 96x64")
    refused(capsys, coded / "x.mp4", "--reference", tmp_path / "short.mp4", reason="fewer frames")
    refused(capsys, coded / "x.mp4", "--reference", tmp_path / "long.mp4", reason="more frames")
    refused(capsys, coded / "x.mp4", "--reference", tmp_path / "none.mp4", reason="does not exist")
    refused(capsys, coded / "x.mp4", "--reference", tmp_path, reason="is a folder")


def test_settings_are_as_wide_as_the_terminal(coded, capsys, monkeypatch):
    settings = figures_of(capsys, coded / "x.mp4")["settings"]
    assert len(settings) > 500 and "\n" not in settings
    for columns in (60, 132):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["inspect", str(coded / "x.mp4")]) == 0
        lines = capsys.readouterr().out.split("x264   ", 1)[1].splitlines()
        widths = [7 + len(line.strip()) for line in lines]
        assert max(widths) <= columns and min(widths[:-1]) > columns - 25
        assert " ".join(line.strip() for line in lines) == settings


def test_one_frame_is_no_frames(tmp_path, capsys):
    (tmp_path / "x.mp4").write_bytes(X264().encode(make_scene(frames=1), CRF(30)).bitstream)
    assert main(["inspect", str(tmp_path / "x.mp4"), "--reference", str(tmp_path / "x.mp4")]) == 0
    printed = capsys.readouterr().out
    assert "96x64, 1 frame at" in printed and "of 1 frame\n" in printed and "  I  1 frame " in printed
    assert "1 frames" not in printed


def test_memory_per_frame_is_a_few_bytes():
    picture = SimpleNamespace(interlaced_frame=False, format=SimpleNamespace(name="yuv420p"))
    stream = SimpleNamespace(fps=Fraction(25))
    summary, qp = StreamSummary(stream), np.full((68, 120), 30)
    used = []
    tracemalloc.start()
    for t in range(3000):
        summary.add(CodedFrame(picture, qp, "P", 1000, t % 25 == 0, True, t / 25, False))
        if t % 1000 == 999:
            used.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert used[2] - used[1] < 1000 * 60  # a map alone has 8160 values


def test_settings_after_a_short_first_unit_of_an_mp4_are_cut_by_their_length():
    """A length of 256 to 511 bytes looks like a start code."""
    text = b"x264 - core 164 - options: a=1"
    first, settings, slice_ = bytes([6]) * 300, bytes([6, 5]) + text, bytes([0x65]) * 50
    packet = b"".join(len(unit).to_bytes(4, "big") + unit for unit in (first, settings, slice_))
    assert split_settings(packet, length_bytes=4) == (text.decode(), 4 + len(settings))


def test_a_map_reads_back_through_the_command(tmp_path, capsys):
    clip = make_noise(frames=3)
    qp = np.repeat([[[20, 24, 28, 32, 36, 40]]], 4, axis=1).repeat(3, axis=0)
    (tmp_path / "x.mp4").write_bytes(X264(bframes=0).encode(clip, QPMap(qp)).bitstream)
    figures = figures_of(capsys, tmp_path / "x.mp4")
    assert figures["mean_qp_map"] == qp[0].tolist() and figures["frame_types"]["I"]["qp_p10"] == 20
