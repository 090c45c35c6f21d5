"""Caches and results at an address: what one machine has made another one finds, and a refusal of the storage is one sentence."""

from __future__ import annotations

import errno
import json

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from dvcc._cache import Cache
from dvcc.cli import main
from dvcc.codecs import CQP, X264
from dvcc.codecs.cache import EncodeCache
from dvcc.errors import DvccError
from dvcc.evaluation.benchmark import run as benchmark
from dvcc.evaluation.control import run as evaluation
from dvcc.surrogate import training as surrogate
from tests.conftest import make_scene
from tests.evaluation.benchmarks import configure, write_pictures
from tests.evaluation.test_control import configure as configure_evaluation
from tests.evaluation.test_control import read_rows
from tests.training.conftest import configure as configure_training


class RefusingStorage(LocalFileSystem):
    """Cannot be written to any more, or not even read."""

    protocol = "refusing"
    refused = ()

    def put_file(self, path1, path2, callback=None, **options):
        if "put" in self.refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().put_file(path1, path2)

    def open(self, path, mode="rb", **options):
        if "open" in self.refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().open(path, mode, **options)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Begin on another machine: what this one has copied is another folder."""

    def begin(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    begin("first")
    return begin


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_entry_of_an_address_is_uploaded_and_fetched_once_by_another_machine(tmp_path, machine):
    place = f"file://{tmp_path / 'storage'}"
    made = Cache(place)
    assert not made.find("ab/entry").exists()
    made.keep("ab/entry", b"content")
    assert made.find("ab/entry").read_bytes() == b"content" and files(tmp_path / "storage") == {"ab/entry": b"content"}
    machine("second")
    part = Cache(place).part("ab")
    assert part.find("entry").read_bytes() == b"content" and not part.find("other").exists()
    (tmp_path / "storage" / "ab" / "entry").unlink()
    assert part.find("entry").read_bytes() == b"content"


def test_encodes_of_an_address_are_made_once_and_again_where_the_storage_has_a_damaged_one(tmp_path, machine, monkeypatch):
    clip, place = make_scene(frames=2), f"file://{tmp_path / 'storage'}"
    coded = EncodeCache(place).encode(X264(), clip, CQP(30))
    (name, whole), *others = files(tmp_path / "storage").items()
    assert not others
    machine("second")
    (tmp_path / "storage" / name).write_bytes(whole[:-40])
    assert EncodeCache(place).encode(X264(), clip, CQP(30)).bitstream == coded.bitstream
    assert files(tmp_path / "storage").keys() == {name} and len(files(tmp_path / "storage")[name]) == len(whole)
    machine("third")
    monkeypatch.setattr(X264, "encode", None)
    assert EncodeCache(place).encode(X264(), clip, CQP(30)).bitstream == coded.bitstream


def test_a_storage_that_refuses_is_one_sentence(tmp_path, machine, monkeypatch):
    fsspec.register_implementation("refusing", RefusingStorage, clobber=True)
    cache = Cache(f"refusing://{tmp_path / 'storage'}")
    cache.keep("entry", b"content")
    machine("second")
    cache = Cache(f"refusing://{tmp_path / 'storage'}")
    monkeypatch.setattr(RefusingStorage, "refused", ("open",))
    with pytest.raises(DvccError, match=r"/storage/entry cannot be read: Permission denied; check the storage"):
        cache.find("entry")
    monkeypatch.setattr(RefusingStorage, "refused", ("put",))
    with pytest.raises(DvccError, match=r"/storage/other cannot be written: No space left on device; check the storage"):
        cache.keep("other", b"content")


def test_a_benchmark_at_an_address_goes_on_on_another_machine(tmp_path, machine):
    pictures, storage = write_pictures(tmp_path / "pictures", count=2), tmp_path / "storage"
    words = [f"data.root={pictures}", f"data.cache=file://{storage}/rows", "codec=jpeg", "levels=[90,20]", "networks=[psnr]"]
    told = benchmark.run(configure(*words, "workers=1", f"out=file://{storage}/report"))
    assert f"file://{storage}/report/report.md" in told
    report = json.loads((storage / "report" / "report.json").read_text())
    assert report["rows_kept"] == 0 and report["config"]["out"] == f"file://{storage}/report"
    machine("second")
    benchmark.run(configure(*words, "workers=1", f"out={tmp_path / 'local'}"))
    again = json.loads((tmp_path / "local" / "report.json").read_text())
    assert again["rows_kept"] == again["rows"] == report["rows"]
    assert files(tmp_path / "local").keys() == files(storage / "report").keys()


@pytest.mark.slow
def test_an_evaluation_and_a_training_keep_what_they_make_at_an_address(tiny, tmp_path, machine, monkeypatch):
    storage = tmp_path / "storage"
    mine = [word for word in tiny if not word.startswith("data.cache=")]
    words = [*mine, "controllers=[abr2]", "targets_kbps=[150,300]", "stability=0", f"data.cache=file://{storage}"]
    for place in (f"file://{tmp_path / 'out'}", str(tmp_path / "local")):
        evaluation.run(configure_evaluation(words, place, "workers=1"))
        machine("second")
    there, here = ([row["metric"] for row in read_rows(tmp_path / folder)] for folder in ("out", "local"))
    assert there == here and files(tmp_path / "out").keys() == files(tmp_path / "local").keys()
    config = ["surrogate.width=8", "cache_only=true", f"data.cache=file://{storage}"]
    assert surrogate.run(configure_training("surrogate", mine, tmp_path / "run", *config)) == f"file://{storage}"
    machine("third")
    monkeypatch.setattr(X264, "encode", None)
    surrogate.run(configure_training("surrogate", mine, tmp_path / "run", *config))


def test_a_training_refuses_an_address_for_its_folder(capsys):
    assert main(["train", "surrogate", "out=s3://bucket/run"]) == 2
    assert "out=s3://bucket/run is an address: take a folder" in capsys.readouterr().err
