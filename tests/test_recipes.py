"""docs/recipes.md: what each recipe says is done, with the page's own files."""

from __future__ import annotations

import io
import re
import sys
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from dvcc import QPMap, QPOffsets
from dvcc.codecs import Quantizer
from dvcc.errors import CodecError
from dvcc.media.format import VideoFormat
from dvcc.media.source import VideoSource
from dvcc.rate_control import Means, build_rate_controller
from dvcc.tasks import build_task
from tests.conftest import make_scene

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The page's files, in the current folder; called with a name, imports one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        Path(f"{name}.py").write_text(text)
    yield import_module
    for name in FILES:
        sys.modules.pop(name, None)


def test_every_recipe_has_a_file_and_is_run_here():
    assert [title.removeprefix("## Add a").split()[-1] for title in re.findall(r"## Add an? .*", PAGE)] == [
        "task",
        "controller",
        "format",
        "codec",
    ]
    assert list(FILES) == ["sharpness", "middle", "csv_map", "mpeg4"]


def test_add_a_task(recipe):
    task = build_task("sharpness:SharpnessTask", model="own").eval()
    frames = torch.rand(1, 2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(frames[0], 3, 1, 1)[None].requires_grad_()
    prediction, reference = task.predict(blurred), task.predict(frames)
    assert task.degradation(prediction, reference).shape == (1, 2, 1, 1)
    loss = task.loss(prediction, reference)
    assert loss.item() > 0.3 and task.loss(reference, reference).item() == 0
    loss.sum().backward()
    assert blurred.grad.abs().sum() > 0
    metric = task.metric()
    metric.update(reference, task.labels(reference))
    assert float(metric.compute()) == 1


def test_add_a_rate_controller(recipe):
    scene, codec = make_scene(frames=6, height=128, width=128), Means().codec
    coded = build_rate_controller("middle:Middle", Means(codec)).encode(scene, 200)
    qp = coded.realised_qp().values[0]  # an I frame: little of it is skipped
    assert qp[2:6, 2:6].mean() < qp[[0, -1]].mean() and coded.num_encodes == 2


@pytest.mark.parametrize("kind, said", [(QPMap, "QPs"), (QPOffsets, "offsets")])
def test_add_an_export_format(recipe, kind, said):
    picture = VideoFormat(48, 64, Fraction(25), Fraction(1, 1000), 1)
    source = VideoSource(Path("/videos/in.mp4"), 0, picture, "bt709", None, 0, ())
    maps = [kind(np.arange(24, dtype=np.int16).reshape(2, 3, 4) % 20), kind(np.full((1, 3, 4), 7, np.int16))]
    file = io.BytesIO()
    command = recipe("csv_map").CSV().write(file, iter(maps), source=source, out=Path("x.qp.csv"), gop=2)
    rows = np.loadtxt(io.StringIO(file.getvalue().decode()), delimiter=",", dtype=int)
    np.testing.assert_array_equal(rows.reshape(3, 3, 4), np.concatenate([one.values for one in maps]))
    assert said in command and "GOP 2" in command


def test_add_a_codec(recipe, scene):
    codec = recipe("mpeg4").MPEG4()
    fine, coarse = (codec.encode(scene, Quantizer(level)) for level in (4, 60))
    assert fine.frames.shape == scene.frames.shape and fine.bits > 2 * coarse.bits
    errors = [float((one.frames.float() - scene.frames.float()).square().mean()) for one in (fine, coarse)]
    assert errors[0] < errors[1]
    with pytest.raises(CodecError, match="MPEG4 takes Quantizer"):
        codec.encode(scene, QPMap.uniform(30, like=scene))
