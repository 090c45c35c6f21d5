"""Every example runs as its first lines say, at tiny size."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from dvcc.errors import DvccError

ROOT = Path(__file__).parents[1]


def example(name: str):
    """examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MOST_LINES = {"published_method": 350}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples").glob("*.py")))
def test_an_example_is_short_and_says_what_it_prints(name):
    text = (ROOT / "examples" / f"{name}.py").read_text()
    assert len(text.splitlines()) <= MOST_LINES.get(name, 80)
    head = text.split('"""')[1]
    assert f"python examples/{name}.py" in head and "print" in head


def test_encode_codes_twice_and_says_what_it_cost(tmp_path, capsys):
    example("encode").main(folder=str(tmp_path))
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("abr2 ") and second.startswith("objects ") and "2 encodes" in second and "kbit/s" in first
    assert "less x264's: -" in last and (tmp_path / "objects.mp4").stat().st_size > 5000


def test_the_page_of_the_demo_has_both_parts_once_they_are_there(tmp_path, capsys):
    from dvcc.evaluation.pages.document import document

    for part in ("compare", "evaluation"):
        (tmp_path / part).mkdir()
        article = f'<article data-view="picture"><h1>{part} by h1</h1><section><h2 id="{part}">2</h2></section></article>'
        (tmp_path / part / "index.html").write_text(document(part, [article]))
    whole, page = tmp_path / "evaluation" / "index.html", tmp_path / "index.html"
    later = whole.read_text()
    whole.unlink()
    example("demo_page").main(str(tmp_path))
    assert capsys.readouterr().out == f"open in a browser: {page.as_uri()}\n"
    assert "compare by h1" in page.read_text() and "evaluation by h1" not in page.read_text()
    assert "reload this page" in page.read_text()
    whole.write_text(later)
    example("demo_page").main(str(tmp_path))
    both = page.read_text()
    assert "<h2>compare by h1</h2>" in both and '<h3 id="evaluation">2</h3>' in both and "reload this page" not in both
    assert both.count("<h1>") == both.count("<style>") == both.count("<script>") == 1
    whole.write_text("no page")
    with pytest.raises(DvccError, match=r"evaluation.index.html is no page of results"):
        example("demo_page").main(str(tmp_path))


def test_own_controller_is_compared(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")  # as of a script that is run
    example("own_controller").main([*tiny, "targets_kbps=[100,300]", "stability=0", "workers=1", f"out={tmp_path / 'report'}"])
    printed = capsys.readouterr().out
    assert "own_controller:Middle" in printed and (tmp_path / "report" / "report.md").is_file()


@pytest.mark.slow
def test_own_network_trains_a_control_and_compares_it(tiny, tmp_path, capsys, monkeypatch):
    from dvcc.surrogate import training as surrogate
    from tests.training.conftest import configure

    small = [*tiny, "data.max_clips=2", "data.crops_per_clip=1"]
    path = surrogate.run(configure("surrogate", small, tmp_path / "surrogate", "trainer.max_steps=1", "surrogate.width=8"))
    monkeypatch.syspath_prepend(ROOT / "examples")  # as of a script that is run
    words = [f"surrogate={path}", f"out={tmp_path / 'own'}", "trainer.max_steps=2", "trainer.accelerator=cpu"]
    example("own_network").main([*small, *words])
    printed = capsys.readouterr().out
    assert "mIoU @ achieved kbit/s" in printed and "| learned" in printed
    assert (tmp_path / "own" / "control.safetensors").is_file() and (tmp_path / "own" / "report" / "report.md").is_file()


@pytest.fixture(scope="module")
def published():
    """examples/published_method.py as a module."""
    return example("published_method")


def test_the_published_method_trains_and_is_scored_under_strict_bandwidth(published, videos, tmp_path, capsys, monkeypatch):
    real = published.judge
    monkeypatch.setattr(published, "judge", lambda *asked: replace(real(*asked), metric=0.8))
    words = ["--root", str(videos), "--test", "test.mp4", "--cache", str(tmp_path), "--frames", "3", "--clips", "1"]
    words += ["--size", "64", "96", "--surrogate-steps", "2", "--control-steps", "2"]
    table = {name: figures for name, *figures in published.main(words)}
    printed = capsys.readouterr().out
    assert list(table) == ["two-pass ABR", "flat map", "control"] and all(name in printed for name in table)
    for strict, metric, within in table.values():
        assert (strict, metric) == pytest.approx((0.8 * within, 0.8))  # a clip over its target counts as 0
    assert table["two-pass ABR"][2] > 0


def test_the_published_control_starts_at_the_flat_map_and_learns_from_hard_qps(published):
    control, frames = published.Control((20.0, -6.0)), torch.rand(1, 3, 3, 70, 100)
    logits = control(frames, torch.tensor([-2.0]))
    assert logits.shape == (1, 3, 5, 7, 52) and (logits.argmax(-1) == 32).all()
    qp = published.gumbel_softmax(logits)
    assert set(qp.unique().tolist()) == {0.0, 1.0} and (qp.sum(-1) == 1).all()
    coded, log_bits = published.Surrogate()(frames, qp)
    assert coded.shape == frames.shape and log_bits.shape == (1,)
    (coded.square().mean() + log_bits.sum()).backward()
    assert control.head.weight.grad.abs().sum() > 0


def test_what_a_control_variate_explains_is_no_loss(published):
    real = torch.tensor([1.0, 2.0, 4.0, 3.0])
    assert published.control_variate_loss(real, 5 - 2 * real).item() == pytest.approx(0, abs=1e-6)
    assert published.control_variate_loss(real, torch.tensor([1.0, -1.0, 1.0, -1.0])).item() > 0.9


class Capture:
    """OpenCV's, of a camera that gives 40 pictures."""

    def __init__(self, source):
        self.source, self.left = source, 40

    def isOpened(self):  # OpenCV's name
        return self.source in (0, "film.mp4")

    def get(self, what):
        return 20.0

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((64, 96, 3), 5 * self.left % 256, np.uint8)

    def release(self):
        self.left = 0


def test_what_opencv_gives_is_coded_without_a_camera(tmp_path, monkeypatch, capsys):
    fake = SimpleNamespace(VideoCapture=Capture, CAP_PROP_FPS=5)
    monkeypatch.setitem(sys.modules, "cv2", fake)
    spec = importlib.util.spec_from_file_location("opencv_camera", ROOT / "examples" / "opencv_camera.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main("0", str(tmp_path / "out.mp4"), "1.5")
    printed = capsys.readouterr().out
    assert "30 frames" in printed and "of 467" in printed  # 600, 200 and 600 kbit/s
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30
    with pytest.raises(SystemExit, match="no camera or file nothing"):
        module.main("nothing")
