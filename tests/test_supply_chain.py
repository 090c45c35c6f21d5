"""What dvcc is made of and what it lets in: hashes, licences, no network, no pickle that runs, no log that nobody asked for."""

from __future__ import annotations

import ast
import importlib.util
import pickle
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dvcc import CRF, X264, QPMap
from dvcc.cli import main
from dvcc.codecs.cache import EncodeCache
from dvcc.config.build import build_plan
from dvcc.config.parse import parse
from dvcc.errors import DvccError
from dvcc.evaluation.benchmark.rows import RowStore
from dvcc.networks.weights import load_weights
from tests import network
from tests.conftest import make_scene

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dvcc"


def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_of_the_lock_has_a_version_and_a_hash():
    text = re.sub(r"\s*#.*", "", (ROOT / "requirements.lock").read_text()).replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip()]
    assert len(requirements) > 100
    for line in requirements:
        assert re.match(r"[\w.-]+==\S+( ;[^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*$", line), line


def test_every_package_of_the_lock_has_its_licence_on_the_page():
    """Those of other systems or versions of Python are named, and nothing is asked of what is not installed here."""
    script = licences()
    rows = dict.fromkeys(script.PAGE.read_text().splitlines())
    by_package = {tuple(row.strip("| ").split(" | ")[:2]): row.strip("| ").split(" | ")[2] for row in rows if row.count("|") == 4}
    locked = list(script.locked())
    assert set(locked) == set(by_package) - {("package", "version"), ("---", "---")}, "run python docs/licences.py"
    for name, version in locked:
        here = script.licence(name)
        assert here is None or by_package[name, version] == here, "run python docs/licences.py"


# -- the network


def test_what_asks_for_the_network_is_seen():
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="no network"):
        urllib.request.urlopen("https://example.org", timeout=1)
    assert len(network.tried) == 2
    network.tried.clear()


@pytest.mark.slow
def test_importing_every_module_reaches_for_no_host_and_leaves_the_log_of_others_alone():
    """Weights & Biases is imported where a training asks for it. In a process of its own: other tests do ask."""
    code = """
import pkgutil, sys
from tests import network
network.close()
import dvcc
for module in pkgutil.walk_packages(dvcc.__path__, "dvcc."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print(network.tried, "wandb" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["[]", "False"]


def test_weights_and_biases_is_named_in_one_place_and_is_no_default():
    importing = [path for path in PACKAGE.rglob("*.py") if re.search(r"import .*(wandb|WandbLogger)", path.read_text())]
    assert [path.relative_to(PACKAGE).as_posix() for path in importing] == ["training/run.py"]
    defaults = [path for path in (ROOT / "configs").rglob("*.yaml") if re.search(r"logger: *wandb", path.read_text())]
    assert not defaults


# -- code in data

RUNS_CODE = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "dill.load"),
    *("joblib.load", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "os.system"),
}
ANSWERS_OF_OWN_PROCESSES = {"engines/base.py"}
"""What a process that the command itself began sends back through a pipe; nobody else can write there."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def running_code(path: Path) -> list[str]:
    """Calls of a file that would run what they read."""
    found = []
    for name, call in calls(path):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        unsafe = name in RUNS_CODE
        unsafe |= name == "torch.load" and options.get("weights_only") != "True"
        unsafe |= name in ("np.load", "numpy.load") and options.get("allow_pickle") != "False"
        if unsafe:
            found.append(f"{path.name}:{call.lineno}: {name}")
    return found


def test_nothing_in_the_package_runs_what_it_reads():
    found = {path.relative_to(PACKAGE).as_posix(): running_code(path) for path in PACKAGE.rglob("*.py")}
    assert {name for name, calls_of_it in found.items() if calls_of_it} <= ANSWERS_OF_OWN_PROCESSES, found


def test_a_call_that_would_is_found(tmp_path):
    lines = ["torch.load(p)", "torch.load(p, weights_only=True)", "np.load(p)", "pickle.load(f)", "yaml.load(t, L)"]
    (tmp_path / "m.py").write_text("\n".join(lines))
    assert [line.split(":")[1] for line in running_code(tmp_path / "m.py")] == ["1", "3", "4", "5"]


class Payload:
    """Writes a file when it is loaded as a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def ran(tmp_path) -> Iterator[Path]:
    """The file that a payload would write; there is none after the test."""
    path = tmp_path / "code-was-run"
    yield path
    assert not path.exists()


def test_the_payload_of_these_tests_runs_where_it_is_let(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_a_pickle_in_place_of_weights_or_a_control_is_refused(ran, tmp_path, videos, capsys):
    for name, data in (("a.safetensors", pickle.dumps(Payload(ran))), ("a.onnx", pickle.dumps(Payload(ran)))):
        (tmp_path / name).write_bytes(data)
    torch.save({"state_dict": Payload(ran)}, tmp_path / "a.pth")
    for kind in ("surrogate", "control"):
        with pytest.raises(DvccError, match="not a whole safetensors file"):
            load_weights(tmp_path / "a.safetensors", kind=kind)
    video = str(videos / "a.mp4")
    rate, page = ["--target-kbps", "100"], ["--out", str(tmp_path / "page")]
    judge = ["--task", "segmentation", "--model", "espnetv2", "--weights", str(tmp_path / "a.pth")]
    for words in (
        ["encode", video, str(tmp_path / "out.mp4"), *rate, "--checkpoint", str(tmp_path / "a.onnx")],
        ["compare", video, *rate, *judge, *page],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error, error
    assert not (tmp_path / "out.mp4").exists() and not (tmp_path / "page").exists()


def test_a_pickle_in_a_cache_is_made_again(ran, tmp_path):
    clip, cache = make_scene(frames=2), EncodeCache(tmp_path / "cache")
    coded = cache.encode(X264(), clip, CRF(30))
    (entry,) = (tmp_path / "cache").rglob("*.npz")
    np.savez(entry, meta=np.array([Payload(ran)]), bitstream=np.array([Payload(ran)]), bits=np.zeros(2))
    assert cache.encode(X264(), clip, CRF(30)).bitstream == coded.bitstream
    store = RowStore(tmp_path)
    row = store.entries.find(f"00/{'0' * 64}.pt")
    row.parent.mkdir(parents=True)
    torch.save({"bits": Payload(ran)}, row)
    assert store.read("0" * 64) is None
    np.savez(tmp_path / "map.npz", qp=np.array([Payload(ran)]))
    with pytest.raises(DvccError, match="not a QP map"):
        QPMap.load(tmp_path / "map.npz")


@pytest.mark.parametrize("where, said", [("last.ckpt", "more than tensors"), ("config.yaml", "cannot be read")])
def test_a_pickle_in_the_folder_of_a_run_is_refused(where, said, ran, tiny, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    words = [*tiny, f"out={out}", "resume=true", "trainer.max_steps=2"]
    settings = build_plan(parse("train", ["surrogate", *words])[1]).lasting_settings
    harmful = f"out: !!python/object/apply:builtins.open [{ran}, w]"
    (out / "config.yaml").write_text(harmful if where == "config.yaml" else yaml.safe_dump(settings))
    torch.save({"state_dict": Payload(ran), "global_step": 1}, out / "last.ckpt")
    assert main(["train", "surrogate", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error, error
