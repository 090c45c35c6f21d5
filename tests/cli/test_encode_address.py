"""`dvcc encode FOLDER s3://bucket/coded`: as to a folder; storage that fails or a kill leaves nothing that is taken for whole."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import multiprocessing.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from dvcc import _storage
from dvcc.cli import main
from dvcc.errors import ConfigError, DvccError, MissingExtraError
from tests.videos import write_video

WORDS = ["--target-kbps", "200", "--controller", "abr", "--preset", "veryfast"]
no_ray = importlib.util.find_spec("ray") is None
ONE = [*WORDS, "--workers", "1"]


class FailingStorage(LocalFileSystem):
    """Refuses its operation number `at`, and all that follow; an upload leaves a part then. None: counts alone."""

    protocol = "failing"
    cachable = False
    at, count, error = None, 0, None
    done: ClassVar[list[str]] = []

    def ask(self, name):
        FailingStorage.count += 1
        self.done.append(name)
        if self.at is not None and self.count > self.at:
            raise self.error

    def makedirs(self, path, exist_ok=False):
        self.ask("makedirs")
        return super().makedirs(path, exist_ok=exist_ok)

    def open(self, path, mode="rb", **options):
        self.ask("open")
        return super().open(path, mode, **options)

    def put_file(self, path1, path2, callback=None, **options):
        try:
            self.ask("put_file")
        except BaseException:
            with super().open(path2, "wb") as file, open(path1, "rb") as whole:
                file.write(whole.read(100))
            raise
        return super().put_file(path1, path2)

    def mv(self, path1, path2, **options):
        self.ask("mv")
        return super().mv(path1, path2)


class ForgetfulStorage(LocalFileSystem):
    """Takes a part of what it is given, and says nothing."""

    protocol = "forgetful"

    def put_file(self, path1, path2, callback=None, **options):
        with super().open(path2, "wb") as file, open(path1, "rb") as whole:
            file.write(whole.read()[:-1])


@pytest.fixture(autouse=True)
def storages(monkeypatch):
    for kind in (FailingStorage, ForgetfulStorage):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    monkeypatch.setattr(FailingStorage, "at", None)
    monkeypatch.setattr(FailingStorage, "count", 0)
    monkeypatch.setattr(FailingStorage, "done", [])
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two videos at two depths; no temporary file of dvcc is left at the end."""
    videos, temporary = tmp_path / "videos", tmp_path / "temporary"
    (videos / "north").mkdir(parents=True)
    temporary.mkdir()
    for seed, name in enumerate(("a[1].mp4", "north/c.avi")):
        write_video(videos / name, frames=8, seed=seed)
    multiprocessing.util.get_temp_dir()  # for its sockets, whose paths have to be short, and for all later tests
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield videos
    assert not list(temporary.glob("dvcc-*"))


@pytest.fixture
def local(folder, tmp_path):
    """What a folder of this machine has then."""
    assert main(["encode", str(folder), str(tmp_path / "local"), *ONE]) == 0
    return digests(tmp_path / "local")


def digests(out):
    files = [path for path in out.rglob("*") if path.is_file() and ".dvcc" not in path.parts]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_an_address_has_the_same_files_as_a_folder_and_goes_on_from_what_is_there(folder, local, capsys):
    command = ["encode", str(folder), "memory://coded/all", *ONE]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert re.search(r"^2/2 memory://coded/all/north/c\.mp4.*8 frames", told, re.MULTILINE)
    assert re.search(r"^memory://coded/all: 2 videos coded, in \d+ s$", told, re.MULTILINE)
    stored = {name.removeprefix("/coded/all/"): file.getvalue() for name, file in MemoryFileSystem.store.items()}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in stored.items() if ".dvcc/" not in name} == local
    assert {name for name in stored if ".dvcc/" in name} == {f".dvcc/{name}.json" for name in local}
    assert main(command) == 0 and "0 videos coded, 2 there already" in capsys.readouterr().out
    fsspec.filesystem("memory").pipe_file("/coded/all/a[1].mp4", stored["a[1].mp4"][:-1])
    fsspec.filesystem("memory").pipe_file("/coded/all/.dvcc/north/c.mp4.json", b"{")
    assert main(command) == 0 and ": 2 videos coded" in capsys.readouterr().out
    assert main([*command, "--gop", "4"]) == 0 and ": 2 videos coded" in capsys.readouterr().out


def test_videos_may_come_from_an_address_too(folder, local, tmp_path, capsys):
    assert main(["encode", f"file://{folder}/", str(tmp_path / "out"), *ONE]) == 0
    assert digests(tmp_path / "out") == local
    memory = fsspec.filesystem("memory")
    for path in folder.rglob("*.*"):
        memory.pipe_file(f"/in/{path.relative_to(folder)}", path.read_bytes())
    memory.pipe_file("/in/north/broken.mp4", b"no video")
    assert main(["encode", "memory://in/", "memory://out", *ONE, "--dry-run"]) == 0
    assert "memory://in/north/c.avi -> memory://out/north/c.mp4\n" in capsys.readouterr().out
    assert main(["encode", "memory://in/", "memory://out", *ONE]) == 2
    assert "north/broken.mp4: not coded" in capsys.readouterr().err
    assert [hashlib.sha256(memory.cat_file(f"/out/{name}")).hexdigest() for name in local] == [*local.values()]


@pytest.mark.parametrize(
    "engine", ["processes", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.skipif(no_ray, reason="no ray")])]
)
def test_two_workers_code_to_an_address(engine, folder, local, tmp_path):
    assert main(["encode", str(folder), f"file://{tmp_path}/out", *WORDS, "--workers", "2", "--engine", engine]) == 0
    assert digests(tmp_path / "out") == local and not list(tmp_path.rglob("*.part"))


def test_storage_that_fails_at_any_operation_is_one_sentence_for_each_video(folder, local, tmp_path, monkeypatch, capsys):
    refusals = {"Input/output error": OSError(errno.EIO, "Input/output error"), "Denied": ValueError("Denied\nby policy")}
    assert main(["encode", str(folder), f"failing://{tmp_path}/out0", *ONE]) == 0
    operations = FailingStorage.done
    assert {"makedirs", "open", "put_file", "mv"} == set(operations) and digests(tmp_path / "out0") == local
    for at in range(len(operations)):
        out, said = tmp_path / f"out{at + 1}", list(refusals)[at % 2]
        for name, value in (("at", at), ("count", 0), ("done", []), ("error", refusals[said])):
            monkeypatch.setattr(FailingStorage, name, value)
        capsys.readouterr()
        status = main(["encode", str(folder), f"failing://{out}", *ONE])
        errors = capsys.readouterr().err
        assert status == 2 and errors.count("error: ") == 1 and "Traceback" not in errors and "fault of dvcc" not in errors
        refused = [line for line in errors.splitlines() if " cannot be " in line]
        assert refused and all(f"{said}; check the storage" in line for line in refused), (at, errors)
        assert digests(out).items() <= local.items() and not list(out.rglob("*.part")), at
    monkeypatch.setattr(FailingStorage, "at", None)  # the last one but the record of the last video
    capsys.readouterr()
    assert main(["encode", str(folder), f"failing://{out}", *ONE]) == 0
    assert ": 1 video coded, 1 there already" in capsys.readouterr().out and digests(out) == local


def test_storage_that_forgets_a_part_has_no_file_of_that_name(folder, tmp_path, capsys):
    assert main(["encode", str(folder), f"forgetful://{tmp_path}/out", *ONE]) == 2
    errors = capsys.readouterr().err
    assert re.search(r"out/a\[1\]\.mp4 cannot be written: it has \d+ bytes of \d+; check the storage", errors)
    assert not digests(tmp_path / "out") and not list(tmp_path.rglob("*.part"))


def test_a_kill_in_the_middle_of_an_upload_leaves_no_part_of_that_name(folder, local, tmp_path):
    out, temporary = tmp_path / "out", tmp_path / "other temporary"
    temporary.mkdir()
    code = f"""
import os, signal, fsspec
from fsspec.implementations.local import LocalFileSystem
from dvcc.cli import main

class Killed(LocalFileSystem):
    protocol, uploads = "killed", 0

    def put_file(self, path1, path2, **options):
        Killed.uploads += 1
        if self.uploads < 3:
            return super().put_file(path1, path2)
        with open(path1, "rb") as whole, open(path2, "wb") as file:
            file.write(whole.read(500))
        os.kill(os.getpid(), signal.SIGKILL)

fsspec.register_implementation("killed", Killed)
main(["encode", {str(folder)!r}, "killed://{out}", *{ONE!r}])
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert digests(out) == {"a[1].mp4": local["a[1].mp4"]} and len(list((out / ".dvcc").glob("*.part"))) == 1
    assert main(["encode", str(folder), f"file://{out}", *ONE]) == 0 and digests(out) == local
    assert json.loads((out / ".dvcc" / "a[1].mp4.json").read_text())["sha256"] == local["a[1].mp4"]


@pytest.mark.parametrize(
    "change, match",
    [
        ({2: "nostorage://x"}, "nostorage://x cannot be reached: Protocol not known: nostorage; give the address of a folder"),
        ({2: "file://VIDEOS/out"}, "lies in .*videos, whose videos are coded"),
        ({1: "file://VIDEOS/", 2: "VIDEOS/out"}, "lies in file://.*, whose videos are coded"),
        ({1: "memory://nothing/"}, r"memory://nothing/ has no video \("),
        ({1: "file://VIDEOS/a[1].mp4/"}, "which is no file below it: give a folder"),
        ({1: "VIDEOS/a[1].mp4", 2: "memory://out"}, "is a video, and memory://out takes those of a folder"),
        ({1: "memory://videos"}, "add --live for one pass, or a / at the end of a folder's address"),
    ],
)
def test_addresses_that_do_not_serve_are_one_sentence(folder, tmp_path, capsys, change, match):
    command = ["encode", str(folder), str(tmp_path / "out"), *WORDS]
    for place, word in change.items():
        command[place] = word.replace("VIDEOS", str(folder))
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and re.search(match, errors), errors


def test_names_of_a_storage_lead_to_no_other_folder(tmp_path):
    fsspec.filesystem("memory").pipe_file("/in/../../x.mp4", b"x")
    with pytest.raises(ConfigError, match=r"memory://in has '../../x.mp4', which is no file below it"):
        _storage.open_folder("memory://in").names([".mp4"])


def test_packages_that_are_missing_are_named(monkeypatch):
    def no_package(*_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", no_package)
    with pytest.raises(MissingExtraError, match="s3://b cannot be reached: Install s3fs to access S3, by pip beside dvcc"):
        _storage.open_folder("s3://b")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DvccError, match=r"s3://b needs fsspec, which is not installed: .*\[remote\]"):
        _storage.open_folder("s3://b")
