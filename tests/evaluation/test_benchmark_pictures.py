"""What is drawn of a benchmark: names that fit, pictures of any shape, and figures of the whole clip told per frame."""

import pytest
import torch
from PIL import Image

from dvcc.codecs import JPEG, Quality
from dvcc.datasets import Example
from dvcc.evaluation.benchmark import pictures as benchmark_pictures
from dvcc.evaluation.benchmark.pictures import draw_strips, middle_of, shortened
from dvcc.evaluation.benchmark.run import Sweep
from dvcc.media.protocols import Protocol
from dvcc.tasks import ReconstructionTask
from tests.conftest import make_scene

LONG = "deeplabv3_r18-d8_4xb2-80k_cityscapes-769x769"


def test_a_long_name_keeps_its_ends():
    assert shortened("student") == "student"
    assert shortened(LONG) == "deeplabv3_r18..capes-769x769" and len(shortened(LONG)) <= 28


@pytest.mark.parametrize("size, shown", [((16, 4000), (16, 48)), ((4000, 16), (48, 16)), ((20, 50), (20, 50))])
def test_the_middle_of_a_long_picture_is_shown(size, shown):
    picture = torch.arange(size[0] * size[1]).view(1, *size).expand(3, -1, -1)
    middle = middle_of(picture)
    assert tuple(middle.shape) == (3, *shown)
    offset = [(whole - part) // 2 for whole, part in zip(size, shown, strict=True)]
    assert middle[0, 0, 0] == picture[0, offset[0], offset[1]]


def test_titles_tell_the_size_of_a_frame_and_fit_their_picture(tmp_path, monkeypatch):
    clip = make_scene(frames=3, height=16, width=640)
    drawn = {}
    monkeypatch.setattr(benchmark_pictures, "strip", lambda panels, path, columns: drawn.update(panels))
    sweep = Sweep(JPEG(), "quality", (20.0, 90.0), Protocol())
    example = Example("a", "a", lambda _: (clip, None))
    draw_strips(tmp_path, example, sweep, {LONG: ReconstructionTask()}, [90.0, 20.0], "JPEG quality")
    size = JPEG().encode(clip, Quality(90)).bits / 8000 / 3
    assert f"JPEG quality 90, {size:.1f} kB / frame" in drawn and size > 0.05
    assert f"{shortened(LONG)}: JPEG quality 90" in drawn and max(map(len, drawn)) <= 50
    assert all(picture.shape == (16, 48, 3) for picture in drawn.values())


def test_a_strip_of_a_panorama_is_a_picture_that_can_be_looked_at(tmp_path):
    clip = make_scene(frames=1, height=16, width=1600)
    sweep = Sweep(JPEG(), "quality", (20.0, 90.0), Protocol())
    draw_strips(tmp_path, Example("a", "a", lambda _: (clip, None)), sweep, {"a": ReconstructionTask()}, [90.0, 20.0], "quality")
    with Image.open(tmp_path / "pictures" / "a.png") as picture:
        assert picture.height > picture.width / 8
