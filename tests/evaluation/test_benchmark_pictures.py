"""What is drawn of a benchmark: names that fit, pictures of any shape, and figures of the whole clip told per frame."""

import pytest
import torch
from PIL import Image

from dvcc.codecs import JPEG, Quality
from dvcc.datasets import DataSet, Example
from dvcc.errors import ConfigError
from dvcc.evaluation.benchmark import pictures as benchmark_pictures
from dvcc.evaluation.benchmark.pictures import chosen_example, draw_panels, draw_strips, middle_of, overlay, shortened
from dvcc.evaluation.benchmark.sweep import Sweep
from dvcc.media.protocols import Protocol
from dvcc.tasks import ReconstructionTask
from tests.conftest import make_scene

LONG = "deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769"


def test_a_long_name_keeps_its_ends():
    assert shortened("student") == "student"
    assert shortened(LONG) == "deeplabv3_r18..capes-769x769" and len(shortened(LONG)) <= 28


@pytest.mark.parametrize("size, cut", [((16, 4000), (16, 48)), ((4000, 16), (48, 16)), ((20, 50), (20, 50))])
def test_the_middle_of_a_long_picture_is_shown(size, cut):
    picture = torch.arange(size[0] * size[1]).view(1, *size).expand(3, -1, -1)
    middle = middle_of(picture)
    assert tuple(middle.shape) == (3, *cut)
    offset = [(whole - part) // 2 for whole, part in zip(size, cut, strict=True)]
    assert middle[0, 0, 0] == picture[0, offset[0], offset[1]]


def test_titles_tell_the_size_of_the_clip_and_the_metric_and_fit_their_picture(tmp_path, monkeypatch):
    clip = make_scene(frames=3, height=16, width=640)
    drawn = {}
    monkeypatch.setattr(benchmark_pictures, "strip", lambda panels, path, columns: drawn.update(panels))
    sweep = Sweep(JPEG(), "quality", (20.0, 90.0), Protocol())
    example = Example("a", "a", lambda _: (clip, None))
    draw_strips(tmp_path, example, sweep, {LONG: ReconstructionTask()}, [90.0, 20.0], "JPEG quality")
    size = JPEG().encode(clip, Quality(90)).bits / 8000
    assert f"JPEG quality 90, {size:.1f} kB (3 frames)" in drawn and size > 0.05
    below = next(title for title in drawn if title.startswith(f"{shortened(LONG)}: JPEG quality 90, PSNR (dB) "))
    assert float(below.rpartition(" ")[2]) > 20 and max(map(len, drawn)) <= 65
    assert all(picture.shape == (16, 48, 3) for picture in drawn.values())


def test_a_flow_strip_shows_the_first_two_frames_over_each_other():
    frames = torch.tensor([0, 101, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(-1, 3, 16, 16)
    assert (overlay(frames, 1) == 50).all() and (overlay(frames, 0) == 0).all()


def test_any_example_is_chosen_by_name_or_number():
    data = DataSet("x", tuple(Example(name, name, lambda _: (make_scene(), None)) for name in ("a", "b", "2", "c")))
    assert [chosen_example(data, word, []).name for word in ("b", "0", "2")] == ["b", "a", "2"]
    with pytest.raises(ConfigError, match="example=7 is none of the 4: give a name such as a, or 0 to 3"):
        chosen_example(data, "7", [])


def test_a_panel_of_each_network_has_the_metrics_that_the_paper_draws_together(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(benchmark_pictures, "panels", lambda figures, path, **labels: drawn.update({path.name: figures}))
    figure = {name: {"value": 0.5, "ci95": None} for name in ("AP50", "mAP", "mAP50", "mAP75")}
    point = {"level": 40, "bits_per_pixel": 0.1, "relative": figure, "absolute": None}
    metrics = {"net": list(figure)}
    assert draw_panels(tmp_path, {"net": [point]}, metrics, "detection", "QP") == ["relative.png"]
    assert list(drawn["relative.png"]["net"]) == ["mAP", "mAP50", "mAP75"] and len(drawn) == 1
    assert draw_panels(tmp_path, {"net": [{**point, "absolute": figure}]}, metrics, "tracking", "QP") == [
        "relative.png",
        "absolute.png",
    ]
    assert drawn["absolute.png"]["net"] == {"AP50": [(40, 0.5, None)]}


def test_a_strip_of_a_panorama_is_a_picture_that_can_be_looked_at(tmp_path):
    clip = make_scene(frames=1, height=16, width=1600)
    sweep = Sweep(JPEG(), "quality", (20.0, 90.0), Protocol())
    draw_strips(tmp_path, Example("a", "a", lambda _: (clip, None)), sweep, {"a": ReconstructionTask()}, [90.0, 20.0], "quality")
    with Image.open(tmp_path / "pictures" / "a.png") as picture:
        assert picture.height > picture.width / 8
