"""`dvcc encode FOLDER OUT`: the files that one by one would give, whoever makes them; each is made once."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import time

import pytest

from dvcc.cli import main
from dvcc.encoding import file as encoding
from tests.videos import lively_network, write_control, write_video

WORDS = ["--target-kbps", "200", "--controller", "abr", "--preset", "veryfast"]
no_ray = importlib.util.find_spec("ray") is None


@pytest.fixture
def folder(tmp_path):
    """Four videos at two depths, a broken one, and a text."""
    videos = tmp_path / "videos"
    (videos / "north").mkdir(parents=True)
    for seed, name in enumerate(("a.mp4", "b.mkv", "north/a.mp4", "north/c.avi")):
        write_video(videos / name, frames=12, seed=seed)
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "notes.txt").write_text("no video either")
    return videos


def digests(out):
    files = [path for path in out.rglob("*") if path.is_file() and ".dvcc" not in path.parts]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def count_encodes(monkeypatch):
    calls = []
    encode = encoding.encode_video

    def counted(plan, **options):
        calls.append(plan.source.path.name)
        return encode(plan, **options)

    monkeypatch.setattr(encoding, "encode_video", counted)
    return calls


def test_every_video_is_coded_as_it_is_alone_and_a_broken_one_is_named(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["encode", str(folder), str(out), *WORDS, "--workers", "1"]) == 2
    told, errors = capsys.readouterr()
    assert set(digests(out)) == {"a.mp4", "b.mkv", "north/a.mp4", "north/c.mp4"}
    assert len(re.findall(r"^\d/5.*kbit/s of 200 asked, 12 frames", told, re.MULTILINE)) == 4
    assert re.search(rf"^{out}: 4 videos coded, in \d+ s$", told, re.MULTILINE)
    assert re.search(r"^\d/5.* broken\.mp4: not coded: .*broken\.mp4", errors, re.MULTILINE)
    assert errors.splitlines()[-1] == (
        "error: 1 video of 5 was not coded, broken.mp4: see above; the same command codes what is missing"
    )
    alone = tmp_path / "alone.mp4"
    assert main(["encode", str(folder / "north" / "c.avi"), str(alone), *WORDS, "--threads", "1"]) == 0
    assert alone.read_bytes() == (out / "north" / "c.mp4").read_bytes()


def test_what_is_whole_is_not_coded_again_and_what_has_changed_is(folder, tmp_path, monkeypatch, capsys):
    (folder / "broken.mp4").unlink()
    calls, out = count_encodes(monkeypatch), tmp_path / "out"
    command = ["encode", str(folder), str(out), *WORDS, "--workers", "1"]
    assert main(command) == 0 and len(calls) == 4
    first = digests(out)
    calls.clear()
    assert main(command) == 0 and calls == []
    assert "0 videos coded, 4 there already" in capsys.readouterr().out
    coded = (out / "a.mp4").read_bytes()
    (out / "a.mp4").write_bytes(coded[:-1])  # cut
    (out / "north" / "c.mp4").unlink()
    (out / ".dvcc" / "north" / "a.mp4.json").write_text("{")
    assert main(command) == 0 and sorted(calls) == ["a.mp4", "a.mp4", "c.avi"] and digests(out) == first
    calls.clear()
    shutil.copy(folder / "a.mp4", folder / "north" / "a.mp4")  # another content
    assert main(command) == 0 and calls == ["a.mp4"] and digests(out)["north/a.mp4"] == first["a.mp4"]
    calls.clear()
    assert main([*command[:-2], "--workers", "1", "--gop", "10"]) == 0 and len(calls) == 4  # other options


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [["--workers", "4"], pytest.param(["--engine", "ray", "--workers", "2"], marks=pytest.mark.skipif(no_ray, reason="no ray"))],
)
def test_the_files_are_the_same_whoever_makes_them(folder, tmp_path, more):
    write_control(tmp_path / "control.onnx", lively_network())
    (folder / "broken.mp4").unlink()
    words = ["--target-kbps", "200", "--checkpoint", str(tmp_path / "control.onnx"), "--preset", "veryfast"]
    assert main(["encode", str(folder), str(tmp_path / "one"), *words, "--workers", "1"]) == 0
    assert main(["encode", str(folder), str(tmp_path / "more"), *words, *more]) == 0
    assert digests(tmp_path / "one") == digests(tmp_path / "more") and len(digests(tmp_path / "one")) == 4


def test_two_processes_code_a_folder_and_name_what_is_broken(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["encode", str(folder), str(out), *WORDS, "--workers", "2"]) == 2
    assert "broken.mp4: not coded" in capsys.readouterr().err and len(digests(out)) == 4
    assert main(["encode", str(folder), str(out), *WORDS, "--workers", "1"]) == 2  # the key does not depend on the workers
    assert "0 videos coded, 4 there already" in capsys.readouterr().out


def test_a_dry_run_names_the_files_and_writes_none(folder, tmp_path, capsys):
    assert main(["encode", str(folder), str(tmp_path / "out"), *WORDS, "--dry-run"]) == 0
    assert f"{folder / 'north' / 'c.avi'} -> {tmp_path / 'out' / 'north' / 'c.mp4'}\n" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, words, match",
    [
        ({}, ["--workers", "0"], "--workers is at least 1, got 0"),
        ({}, ["--report", "r"], "--report is not for a folder of videos"),
        ({}, ["--preset", "quick"], "quick"),
        ({}, ["--live", "--engine", "ray"], "--engine and --workers are for a folder"),
        ({}, ["--controller", "learned", "--checkpoint", "missing.onnx"], r"missing\.onnx"),
        ({1: "VIDEOS/a.mp4"}, ["--workers", "2"], r"a folder of videos, and .*a\.mp4 is none"),
        ({1: "EMPTY"}, [], r"has no video \("),
        ({2: "VIDEOS/out"}, [], "write to another folder"),
        ({2: "VIDEOS/notes.txt"}, [], "is a file, and .* a folder of videos"),
    ],
)
def test_words_that_do_not_go_with_a_folder_are_one_sentence(folder, tmp_path, capsys, change, words, match):
    (tmp_path / "empty").mkdir()
    command = ["encode", str(folder), str(tmp_path / "out"), *WORDS]
    if "learned" in words:
        command = command[:-4]
    for place, word in change.items():
        command[place] = word.replace("VIDEOS", str(folder)).replace("EMPTY", str(tmp_path / "empty"))
    assert main([*command, *words]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and re.search(match, errors)


def test_two_videos_that_want_one_name_are_refused(folder, tmp_path, capsys):
    shutil.copy(folder / "a.mp4", folder / "a.avi")
    assert main(["encode", str(folder), str(tmp_path / "out"), *WORDS]) == 2
    assert "a.avi and a.mp4 would both be coded as a.mp4: rename one of them" in capsys.readouterr().err


def test_a_time_limit_is_that_of_the_whole_folder(folder, tmp_path, monkeypatch, capsys):
    begun = []
    monkeypatch.setattr(encoding, "encode_video", lambda plan, **_: begun.append(plan) or time.sleep(30))
    assert main(["encode", str(folder), str(tmp_path / "out"), *WORDS, "--workers", "1", "--time-limit", "1"]) == 2
    said = capsys.readouterr().err
    assert len(begun) == 1 and said.count("not done within 1 s") == 1 and "error: not done" in said
