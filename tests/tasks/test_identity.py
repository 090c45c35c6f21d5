"""A cache key changes with everything that decides an answer, and with nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import onnx
import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from dvcc import CQP, X264, _source
from dvcc.codecs.cache import EncodeCache
from dvcc.evaluation.benchmark.rows import NOISE, UNCODED, RowStore
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.media.protocols import Protocol
from dvcc.surrogate.judged import JudgedLadders
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks import DetectionTask, SegmentationTask, build_task, identity
from dvcc.tasks.identity import task_key
from tests.conftest import make_scene
from tests.networks.detectors.finder import write_finder
from tests.networks.segmenters import write_segmenter


class _Own(nn.Module):
    def __init__(self, slope: float = 0.1, shift: float = 0.0) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1, bias=False)
        nn.init.constant_(self.mix.weight, 0.5)
        self.bend = nn.LeakyReLU(slope)
        self.register_buffer("shift", torch.tensor(shift), persistent=False)
        self.gain = 2.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bend(self.mix(images)) * self.gain + self.shift


@pytest.mark.parametrize("name", ["w.data", "w" * 200 + ".data"])
def test_weights_beside_a_file_count(name, tmp_path):
    """An ONNX file names the file that it keeps its weights in; from 128 letters on, the name's length has two bytes."""
    path = write_segmenter(tmp_path / "a.onnx")
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=name, size_threshold=0)
    key = task_key(SegmentationTask(model=str(path)))
    weights = bytearray((tmp_path / name).read_bytes())
    weights[-1] ^= 1  # a sign or an exponent
    (tmp_path / name).write_bytes(weights)
    assert task_key(SegmentationTask(model=str(path))) != key


def test_files_of_equal_weights_are_different_networks(tmp_path):
    files = {
        "quarter": write_segmenter(tmp_path / "a.onnx"),
        "fixed": write_segmenter(tmp_path / "b.onnx", size=(64, 96)),
        "softmax": write_segmenter(tmp_path / "c.onnx", "softmax"),
        "leaky": write_segmenter(tmp_path / "d.onnx", "leaky", alpha=0.0),
        "leakier": write_segmenter(tmp_path / "e.onnx", "leaky", alpha=0.9),
        "half": write_segmenter(tmp_path / "f.onnx", half=True),
        "trained": write_segmenter(tmp_path / "g.onnx", seed=1),
    }
    keys = {name: task_key(SegmentationTask(model=str(path))) for name, path in files.items()}
    assert len(set(keys.values())) == len(files)
    shutil.copy(files["quarter"], tmp_path / "copy.onnx")
    task = SegmentationTask(model=str(tmp_path / "copy.onnx"))
    assert task_key(task) == keys["quarter"]
    task.check_trainable()  # makes the module of torch
    task.predict(torch.zeros(1, 3, 64, 96, requires_grad=True))
    assert task_key(task) == keys["quarter"]


def test_layout_and_every_part_of_the_feed_count(tmp_path):
    path = str(write_finder(tmp_path / "net.onnx", "yolov5"))
    settings = [
        {},
        {"colours": "bgr"},
        {"resize": "stretch"},
        {"range": 255},
        {"mean": (0.1, 0.0, 0.0)},
        {"deviation": (0.5, 1.0, 1.0)},
        {"score": 0.3},
    ]
    tasks = [DetectionTask(model=path, layout="yolov5", **more) for more in settings]
    tasks.append(DetectionTask(model=path, layout="yolox_decoded"))
    tasks.append(DetectionTask(model=path, layout="yolox_decoded", colours="rgb", range=1, resize="letterbox"))
    keys = [task_key(task) for task in tasks]
    assert len(set(keys)) == len(keys) and task_key(DetectionTask(model=path, layout="yolov5")) == keys[0]
    sizes = [SegmentationTask(model=str(write_segmenter(tmp_path / "a.onnx")), size=size) for size in (None, (64, 64), (64, 96))]
    assert len({task_key(task) for task in sizes}) == 3


def test_settings_buffers_and_attributes_of_a_users_module_count(tmp_path):
    changed = _Own()
    changed.gain = 3.0
    nets = [_Own(), _Own(slope=0.2), _Own(shift=1.0), changed]
    keys = [task_key(SegmentationTask(net=net)) for net in nets]
    assert len(set(keys)) == 4 and task_key(SegmentationTask(net=_Own())) == keys[0]


def test_what_is_measured_counts():
    assert task_key(build_task("reconstruction", model="psnr")) != task_key(build_task("reconstruction", model="ssim"))


def test_the_code_of_the_adapter_and_the_library_count(tmp_path, monkeypatch):
    task = SegmentationTask(model=str(write_segmenter(tmp_path / "a.onnx")))
    before = task_key(task)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "source_digest", lambda *_, **__: "another version")
        assert task_key(task) != before
    with monkeypatch.context() as patch:
        patch.setattr("onnxruntime.__version__", "0.1")
        assert task_key(task) != before
    assert task_key(task) == before


def test_a_digest_of_source_follows_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "keyed").mkdir()
    (tmp_path / "keyed/__init__.py").write_text("")
    (tmp_path / "keyed/one.py").write_text("from keyed import two\n")
    (tmp_path / "keyed/two.py").write_text("x = 1\n")
    first = _source.source_digest("keyed.one", within=("keyed",))
    alone = _source.source_digest("keyed.one")
    (tmp_path / "keyed/two.py").write_text("x = 2\n")
    _source.source_digest.cache_clear()
    assert _source.source_digest("keyed.one", within=("keyed",)) != first and _source.source_digest("keyed.one") == alone


def test_every_ingredient_of_a_benchmarks_row_is_in_its_key(tmp_path, monkeypatch):
    clip, store = make_scene(frames=2, height=32, width=48), RowStore(tmp_path)
    task = SegmentationTask(model=str(write_segmenter(tmp_path / "a.onnx")))
    sweep = Sweep(X264(), "cqp", (20, 30), Protocol())
    base = (clip, None, sweep, 20, task)
    variants = [
        base,
        (make_scene(frames=2, height=32, width=48, seed=1), *base[1:]),
        (replace(clip, fps=Fraction(30)), *base[1:]),
        (replace(clip, full_range=True), *base[1:]),
        (clip, "labels", *base[2:]),
        (clip, None, replace(sweep, codec=X264(gop=4)), *base[3:]),
        (clip, None, replace(sweep, rate="crf"), *base[3:]),
        (*base[:3], 30, task),
        (*base[:3], UNCODED, task),
        (*base[:3], NOISE, task),
        (*base[:4], SegmentationTask(model=str(tmp_path / "a.onnx"), colours="bgr")),
    ]
    keys = [store.key(*variant) for variant in variants]
    assert len(set(keys)) == len(keys) and RowStore(tmp_path).key(*base) == keys[0]
    monkeypatch.setattr("dvcc.evaluation.benchmark.rows.source_digest", lambda *_: "another version")
    assert store.key(*base) != keys[0]


def test_verdicts_of_one_network_are_not_those_of_another(tmp_path):
    """Equal weights, other graph: two files, each with the network's own verdicts."""
    samples = LadderSamples([make_scene(frames=2, height=32, width=48)], codec=X264(), cache=EncodeCache(tmp_path), qps=(20, 40))
    sample = default_collate([samples[0]])
    keys = []
    for alpha in (0.0, 0.9):
        task = SegmentationTask(model=str(write_segmenter(tmp_path / f"{alpha}.onnx", "leaky", alpha=alpha)))
        keys.append(JudgedLadders(task, samples).degradation(0, sample))
    assert len(list((tmp_path / "judged").iterdir())) == 2 and not torch.equal(*keys)


@pytest.mark.parametrize("change", ["clip", "codec", "rate", "map"])
def test_every_ingredient_of_an_encode_is_in_its_key(change, tmp_path):
    from dvcc.qp import QPMap

    cache, clip = EncodeCache(tmp_path), make_scene(frames=2, height=32, width=48)
    other = {
        "clip": (X264(), replace(clip, fps=Fraction(30)), CQP(30)),
        "codec": (X264(bframes=0), clip, CQP(30)),
        "rate": (X264(), clip, CQP(31)),
        "map": (X264(), clip, QPMap.uniform(30, like=clip)),
    }
    for arguments in ((X264(), clip, CQP(30)), other[change], (X264(), clip, CQP(30))):
        cache.encode(*arguments)
    assert len(list(tmp_path.glob("*/*.npz"))) == 2


@pytest.mark.parametrize("place", ["source_digest", "av"])
def test_an_encode_by_other_code_or_another_pyav_is_not_served(place, tmp_path, monkeypatch):
    cache, clip = EncodeCache(tmp_path), make_scene(frames=2, height=32, width=48)
    encodes = []
    encode = X264.encode
    monkeypatch.setattr(X264, "encode", lambda *arguments: encodes.append(1) or encode(*arguments))
    cache.encode(X264(), clip, CQP(30)), cache.encode(X264(), clip, CQP(30))
    assert len(encodes) == 1
    other = {"source_digest": lambda *_: "another version", "av": SimpleNamespace(__version__="0", ffmpeg_version_info="0")}
    monkeypatch.setattr(f"dvcc.codecs.cache.{place}", other[place])
    cache.encode(X264(), clip, CQP(30))
    assert len(encodes) == 2


def test_the_code_of_an_encode_is_that_of_all_codecs_and_of_its_own(monkeypatch, tmp_path):
    """A wrapper outside `dvcc.codecs` counts, too."""
    asked = []
    monkeypatch.setattr("dvcc.codecs.cache.source_digest", lambda *modules: asked.append(modules) or "")

    class Wrapped(X264):
        pass

    EncodeCache(tmp_path).encode(Wrapped(), make_scene(frames=2, height=32, width=48), CQP(30))
    assert asked == [("dvcc.codecs", __name__)]
