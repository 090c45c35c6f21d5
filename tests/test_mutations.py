"""Inputs that `benchmarks/mutations.py` found to end in a traceback, and their kind: one sentence each, or made again."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.mutating import files as mutate_files
from dvcc import CRF, X264, QPMap
from dvcc._files import read_arrays
from dvcc.codecs.cache import EncodeCache
from dvcc.config.build import build_plan
from dvcc.config.parse import parse
from dvcc.control.deployed.onnx_export import control_to_onnx
from dvcc.control.deployed.runtime import load_control
from dvcc.control.network import ControlNetwork, load_network
from dvcc.errors import CheckpointError, DvccError, VideoError
from dvcc.evaluation.benchmark.rows import RowStore
from dvcc.networks.weights import Weights, save_weights
from dvcc.surrogate import load_surrogate
from dvcc.training.folder import check_out
from tests.conftest import make_scene

ROOT = Path(__file__).parents[1]


def control_that_says(key: str, value: str) -> bytes:
    """A control with another property, and the checksum of that."""
    import onnx

    model = onnx.load_from_string(control_to_onnx(ControlNetwork(width=8), {"run": {}}))
    (stored,) = [prop for prop in model.metadata_props if prop.key == key]
    if key == "config":
        value = json.dumps({**json.loads(stored.value), **json.loads(value)}) if value.startswith("{") else value
    stored.value = value
    return mutate_files.signed(model.SerializeToString(deterministic=True))


@pytest.mark.parametrize(
    "key, value",
    [
        ("prior", "[1, 2]"),
        ("prior", '["x", 0, 0, 0, 0]'),
        ("prior", "[NaN, 0, 0, 0, 0]"),
        ("prior", "{"),
        ("config", "[]"),
        ("config", "x"),
        ("config", '{"control": 5}'),
        ("config", '{"control": {}}'),
        ("config", '{"control": {"extra_planes": "x"}}'),
        ("config", '{"control": {"extra_planes": 0, "rates": [1]}}'),
        ("config", '{"control": {"extra_planes": 0, "rule": {"strong": 1}}}'),
        ("config", '{"control": {"extra_planes": 0, "eyes": {"file": 3}}}'),
    ],
)
def test_a_control_that_says_nonsense_of_itself_is_refused(key, value, tmp_path):
    (tmp_path / "control.onnx").write_bytes(control_that_says(key, value))
    with pytest.raises(CheckpointError, match="control.onnx"):
        load_control(tmp_path / "control.onnx")


@pytest.mark.parametrize("config", [{}, {"surrogate": {}}, {"surrogate": {"name": "network", "qps": "x"}}, {"surrogate": 5}])
def test_weights_that_say_nonsense_of_themselves_are_refused(config, tmp_path):
    for kind, load in (("surrogate", load_surrogate), ("control", load_network)):
        save_weights(tmp_path / "w.safetensors", Weights(kind, config, {"a": torch.ones(1)}))
        with pytest.raises(DvccError):
            load(tmp_path / "w.safetensors")


def huge_array() -> bytes:
    """An array of three terabytes, as its head has it."""
    buffer, plain = io.BytesIO(), io.BytesIO()
    np.save(plain, np.zeros((8, 4, 6), np.int8))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("qp.npy", plain.getvalue().replace(b"(8, 4, 6), }", b"(99999999999, 4, 6), }"))
    return buffer.getvalue()


def test_an_array_larger_than_any_memory_is_damage(tmp_path):
    path = tmp_path / "map.npz"
    path.write_bytes(huge_array())
    with pytest.raises(VideoError, match="is not a QP map"):
        QPMap.load(path)
    assert read_arrays(path, "qp") is None


NO_SIZE, NO_RATE = b'{"fps": "25", "size": 5, "codec": "h264"}', b'{"fps": "0/0", "size": [64, 96]}'


@pytest.mark.parametrize("meta", [b"{}", b"[]", b"x", NO_SIZE, NO_RATE])
def test_an_entry_of_the_cache_that_says_nonsense_is_made_again(meta, tmp_path):
    clip, cache = make_scene(frames=2), EncodeCache(tmp_path)
    coded = cache.encode(X264(preset="ultrafast"), clip, CRF(30))
    (entry,) = tmp_path.rglob("*.npz")
    with np.load(entry) as stored:
        arrays = {**stored, "meta": np.frombuffer(meta, np.uint8)}
    np.savez(entry, **arrays)
    assert cache.encode(X264(preset="ultrafast"), clip, CRF(30)).bitstream == coded.bitstream


def test_a_row_of_a_benchmark_that_is_no_row_is_measured_again(tmp_path):
    store = RowStore(tmp_path)
    path = store.entries.find(f"00/{'0' * 64}.pt")
    path.parent.mkdir(parents=True)
    for damaged in (b"", b"PK\3\4", b"\x80\x02}q\x00.", b"\x80\x02cbuiltins\nprint\n(tR."):
        path.write_bytes(damaged)
        assert store.read("0" * 64) is None
    torch.save([1, 2], path)
    assert store.read("0" * 64) is None


def test_settings_of_a_run_that_are_none_are_refused(tiny, tmp_path):
    plan = build_plan(parse("train", ["surrogate", *tiny, f"out={tmp_path}", "resume=true"])[1])
    for text in ("", "[]", "a: [", "\x00", "5", "? {a: 1}", "[" * 1100, "out: !!python/none"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(DvccError):
            check_out(plan)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plan.lasting_settings))
    check_out(plan)


WRONG_BEFORE = "1122,1835,7141"
LONGEST = "793,1157,635,1192,756,1160,593,917,819,1177,992,658,1087,1170,1137,1052,1130,1077,1139,1009"


@pytest.mark.slow
@pytest.mark.parametrize(
    "which",
    [["--count", "40", "--only", "videos,command lines,onnx,maps"], ["--numbers", f"{WRONG_BEFORE},{LONGEST}"]],
    ids=["first", "worst"],
)
def test_mutated_inputs_end_in_a_result_or_a_sentence(which, tmp_path):
    """Those that were wrong, and the longest of the first 2355 of this seed. The others are run by hand: docs/faults.md."""
    words = [sys.executable, str(ROOT / "benchmarks" / "mutations.py"), *which]
    done = subprocess.run(words, capture_output=True, text=True, timeout=800, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
