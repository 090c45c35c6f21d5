"""The cache is filled before the first step, by as many processes as one likes, and a training from it asks no encoder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dvcc.codecs.cache import EncodeCache
from dvcc.control import training as control
from dvcc.errors import ConfigError
from dvcc.surrogate import fill, judged
from dvcc.surrogate import training as surrogate
from dvcc.training import workers
from tests.training.conftest import configure, losses

RUNS = {"surrogate": surrogate.run, "control": control.run}
SMALL = ["data.crops_per_clip=1", "trainer.max_steps=3", "task=reconstruction"]


def refuse(*_):
    pytest.fail("the cache was filled before, and this was asked for again")


@pytest.mark.parametrize("stage", RUNS)
def test_a_training_from_a_filled_cache_asks_no_encoder(stage, tiny, trained, tmp_path, monkeypatch, capsys):
    words = [*SMALL, f"data.cache={tmp_path / 'cache'}"]
    words.append(f"surrogate={trained}" if stage == "control" else "surrogate.width=8")
    filling = configure(stage, tiny, tmp_path / "run", *words, "cache_only=true", "data.cache_workers=2")
    assert RUNS[stage](filling) == str(tmp_path / "cache") and not (tmp_path / "run").exists()
    assert "clips to encode, about " in capsys.readouterr().out
    monkeypatch.setattr(EncodeCache, "encode", refuse)
    monkeypatch.setattr(judged, "judge_ladder", refuse)
    monkeypatch.setattr("dvcc.datasets.clips.read_clip", refuse)
    assert RUNS[stage](filling) == str(tmp_path / "cache")
    assert RUNS[stage](configure(stage, tiny, tmp_path / "run", *words)).is_file() and len(losses(tmp_path / "run")) == 3
    assert "to encode" not in capsys.readouterr().out


@pytest.mark.slow
def test_losses_do_not_depend_on_processes_nor_on_the_store(tiny, tmp_path):
    words = [*SMALL, "surrogate.width=8", "data.groups=2"]
    folders = []
    for name, more in {
        "plain": ["data.store_pixels=false"],
        "stored": [],
        "workers": ["data.num_workers=2", "data.cache_workers=2", f"data.cache={tmp_path / 'cache'}"],
    }.items():
        surrogate.run(configure("surrogate", tiny, tmp_path / name, *words, *more))
        folders.append(losses(tmp_path / name))
    assert folders[0] == folders[1] == folders[2] and len(folders[0]) == 3


def test_a_disk_without_room_for_the_pixels_is_named_before_the_encodes(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(fill.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    asked, encode = set(), EncodeCache.encode

    def remembered(self, codec, clip, rate):
        asked.add(clip.digest)
        return encode(self, codec, clip, rate)

    monkeypatch.setattr(EncodeCache, "encode", remembered)
    words = [*SMALL, f"data.cache={tmp_path / 'cache'}"]
    with pytest.raises(ConfigError, match=r"decoded samples need \d\.\d MB more in .*0\.0 MB free.*data\.store_pixels=false"):
        surrogate.run(configure("surrogate", tiny, tmp_path / "run", *words))
    assert len(asked) == 1  # the clip that tells how large the others are


def test_loaders_are_as_many_as_cores_but_one_unless_they_are_set(monkeypatch):
    for cores, loading in ((1, 0), (2, 1), (16, 8)):
        monkeypatch.setattr(workers, "cores", lambda cores=cores: cores)
        assert workers.loader_workers(None) == loading
    assert workers.loader_workers(3) == 3
