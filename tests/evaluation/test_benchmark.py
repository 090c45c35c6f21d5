"""`evaluate.py benchmark` on tiny real encodes: every codec, what is kept, what is shared, every refusal."""

from __future__ import annotations

import csv
import importlib
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from dvcc.codecs import JPEG, X264
from dvcc.errors import VideoError
from dvcc.evaluation.benchmark import run as benchmark
from dvcc.media.protocols import PAPER as PROTOCOLS
from dvcc.networks.zoo import PAPER
from dvcc.pixels import as_float
from dvcc.tasks import SegmentationTask, Task
from dvcc.tasks.reconstruction import ReconstructionTask
from tests.evaluation.benchmarks import configure, report_of, write_pictures


def test_jpeg_loses_more_at_lower_quality_and_costs_less(words, tmp_path):
    printed = benchmark.run(configure("codec=jpeg", "levels=[95,50,5]", *words))
    points = report_of(tmp_path)["summary"]["psnr"]
    assert [point["level"] for point in points] == ["uncoded", "noise", 95, 50, 5]
    psnr = [point["relative"]["PSNR (dB)"]["value"] for point in points]
    assert psnr[0] is None and psnr[1] > psnr[2] > psnr[3] > psnr[4]  # without any difference it is infinite
    bits = [point["bits_per_pixel"] for point in points[2:]]
    assert bits[0] > bits[1] > bits[2] > 0 and points[0]["bits_per_pixel"] is None
    assert points[2]["relative"]["PSNR (dB)"]["ci95"] is not None
    assert str(tmp_path / "out" / "report.md") in printed and "Audit" in printed
    for name in ("report.md", "rows.csv", "curves.png", "bits.png", "pictures/psnr.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines()))
    assert len(rows) == 4 * 5 and {row["example"] for row in rows} == {"0.png", "1.png", "2.png", "3.png"}


@pytest.mark.parametrize("rate, levels", [("cqp", "[10,40]"), ("crf", "[10,40]"), ("abr", "[400,40]")])
def test_video_at_every_kind_of_rate(rate, levels, tiny, tmp_path):
    root = next(word for word in tiny if word.startswith("data.root="))
    size = ["data.frames=4", "data.stride=1", "data.size=[32,48]", "data.max_clips=2", f"data.cache={tmp_path / 'cache'}"]
    benchmark.run(configure(root, *size, f"rate={rate}", f"levels={levels}", f"out={tmp_path / 'out'}"))
    fine, coarse = report_of(tmp_path)["summary"]["psnr"][2:]
    assert fine["kbps"] > coarse["kbps"]
    assert fine["relative"]["PSNR (dB)"]["value"] > coarse["relative"]["PSNR (dB)"]["value"]


def test_constant_qp_is_the_papers_encoder():
    assert benchmark.build_sweep(configure("data.root=x")).codec == X264.perspective()
    assert benchmark.build_sweep(configure("data.root=x", "rate=crf", "codec.gop=30")).codec == X264(gop=30)
    assert benchmark.build_sweep(configure("data.root=x", "codec=jpeg")).codec == JPEG()


def test_pixel_format_paper_is_the_papers_command_on_rgb_of_any_size(tmp_path):
    (tmp_path / "pictures").mkdir()
    waves = np.add.outer(np.arange(65), np.arange(99))[..., None] * np.array([1, 2, 3])
    Image.fromarray((waves % 256).astype(np.uint8)).save(tmp_path / "pictures" / "odd.png")
    words = [f"data.root={tmp_path / 'pictures'}", f"data.cache={tmp_path / 'cache'}", f"out={tmp_path / 'out'}"]
    benchmark.run(configure("pixel_format=paper", "levels=[0,40]", *words))
    report = report_of(tmp_path)
    assert "yuv444p" in report["codec"] and report["protocol"] == "RGB"
    fine, coarse = report["summary"]["psnr"][2:]
    assert fine["relative"]["PSNR (dB)"]["value"] > 45 > coarse["relative"]["PSNR (dB)"]["value"]
    assert coarse["file_kilobytes"] > coarse["kilobytes"] > 0
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines()))
    assert {(row["height"], row["width"]) for row in rows} == {("65", "99")}


def test_coded_twice_costs_more_and_the_report_says_how(words, tmp_path):
    benchmark.run(configure("codec=jpeg", "levels=[90]", *words))
    once = report_of(tmp_path)["summary"]["psnr"][2]
    printed = benchmark.run(configure("codec=[x264,jpeg]", "first_level=40", "levels=[90]", *words))
    twice = report_of(tmp_path)["summary"]["psnr"][2]
    assert twice["relative"]["PSNR (dB)"]["value"] < once["relative"]["PSNR (dB)"]["value"] - 1
    assert "CRF 40 first, then JPEG 4:2:0" in printed


def test_pictures_that_were_coded_before_are_named_with_their_quality(tmp_path):
    folder = write_pictures(tmp_path / "pictures", count=2)
    for quality in (40, 60):
        Image.open(folder / "0.png").save(folder / f"{quality}.jpg", quality=quality)
    words = [f"data.root={folder}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}", "codec=jpeg", "levels=[90]"]
    assert "2 of 4 files are JPEGs already, of about quality 40 to 60 (median 50): what" in benchmark.run(configure(*words))


def count_calls(monkeypatch):
    calls = {"encode": 0, "predict": 0}
    encode, predict = JPEG.encode, ReconstructionTask.predict

    def counted_encode(self, *arguments):
        calls["encode"] += 1
        return encode(self, *arguments)

    def counted_predict(self, frames):
        calls["predict"] += 1
        return predict(self, frames)

    monkeypatch.setattr(JPEG, "encode", counted_encode)
    monkeypatch.setattr(ReconstructionTask, "predict", counted_predict)
    return calls


PICTURED = 2  # encodes for the strips, of two levels


def test_an_encode_serves_every_network(words, tmp_path, monkeypatch):
    calls = count_calls(monkeypatch)
    benchmark.run(configure("codec=jpeg", "levels=[90,20]", "networks=[psnr,ssim]", *words))
    assert calls["encode"] == 4 * 2 + PICTURED
    assert set(report_of(tmp_path)["summary"]) == {"psnr", "ssim"}


def test_an_interrupted_sweep_goes_on_and_a_finished_one_is_only_read(words, tmp_path, monkeypatch):
    calls = count_calls(monkeypatch)
    measured = JPEG.encode

    def interrupted(self, clip, rate):
        if calls["encode"] == 3:
            raise KeyboardInterrupt
        return measured(self, clip, rate)

    monkeypatch.setattr(JPEG, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt, match="kept in .*cache, and the same command goes on"):
        benchmark.run(configure("codec=jpeg", "levels=[90,20]", *words))
    monkeypatch.setattr(JPEG, "encode", measured)
    benchmark.run(configure("codec=jpeg", "levels=[90,20]", *words))
    assert calls["encode"] == 4 * 2 + PICTURED
    assert report_of(tmp_path)["rows_kept"] == 4 + 3  # all of one picture, and of the next all but a level
    first = report_of(tmp_path)["summary"]
    calls["encode"] = calls["predict"] = 0
    assert "16 of 16 rows were there already" in benchmark.run(configure("codec=jpeg", "levels=[90,20]", *words))
    assert calls["encode"] == PICTURED and calls["predict"] == 1 + PICTURED  # the pictures of the report
    assert report_of(tmp_path)["summary"] == first


def test_a_damaged_row_is_measured_again(words, tmp_path):
    benchmark.run(configure("codec=jpeg", "levels=[90,20]", *words))
    first = report_of(tmp_path)["summary"]["psnr"][2]["relative"]
    for path in (tmp_path / "cache" / "rows").rglob("*.pt"):
        path.write_bytes(path.read_bytes()[:50])
    benchmark.run(configure("codec=jpeg", "levels=[90,20]", *words))
    assert report_of(tmp_path)["summary"]["psnr"][2]["relative"] == first


def test_pictures_smaller_than_the_papers_crop_are_left_out_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("dvcc.evaluation.benchmark.networks.build_task", lambda *_, **__: Thresholds(11))
    folder = write_pictures(tmp_path / "pictures", count=2)
    Image.fromarray(np.arange(520 * 530, dtype=np.uint8).reshape(520, 530)).save(folder / "large.png")
    monkeypatch.setitem(PROTOCOLS, "segmentation", PROTOCOLS["optical_flow"])  # 512x512
    words = [f"data.root={folder}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}", "protocol=paper", "levels=[90]"]
    with pytest.raises(
        VideoError, match=r"0\.png: a crop of 512x512 is larger than the 64x96 picture: .*protocol=none.*skip_bad"
    ):
        benchmark.run(configure("task=segmentation", "codec=jpeg", *words))
    printed = benchmark.run(configure("task=segmentation", "codec=jpeg", "skip_bad=true", *words))
    assert "2 left out that cannot be used: 0.png: a crop" in printed and "- 1 picture or clip in 1 group (" in printed
    assert report_of(tmp_path)["examples"] == 1


@pytest.mark.parametrize("count, given", [(2, False), (3, True)])
def test_intervals_need_three_groups(count, given, tmp_path):
    folder = write_pictures(tmp_path / "pictures", count=count)
    words = [f"data.root={folder}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}", "codec=jpeg", "levels=[90,50,20]"]
    printed = benchmark.run(configure(*words))
    assert (report_of(tmp_path)["summary"]["psnr"][2]["relative"]["PSNR (dB)"]["ci95"] is not None) == given
    assert ("- No intervals: 2 groups cannot say" in printed) != given and ("(95 % intervals)" in printed) == given
    assert "what is lost at JPEG quality 50, the middle one of the levels (say which is yours with audit_level=)" in printed
    if given:
        assert "what is lost at your setting, JPEG quality 20," in benchmark.run(configure(*words, "audit_level=20"))


def test_labels_of_another_task_are_named(tmp_path):
    words = [f"data.root={write_camvid(tmp_path / 'camvid')}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}"]
    printed = benchmark.run(configure("data=camvid", "codec=jpeg", "levels=[95]", *words))
    assert "The labels are of segmentation and not of reconstruction: they were left out" in printed


def write_camvid(root):
    """Two pictures whose labels, in SegNet's numbers, are what a colour says: 0 on the left, 1 on the right, a void line."""
    for folder in ("val", "valannot"):
        (root / folder).mkdir(parents=True)
    for i in range(2):
        labels = np.zeros((64, 96), np.uint8)
        labels[:, 48:], labels[:4] = 1, 11
        Image.fromarray(labels).save(root / "valannot" / f"{i}.png")
        picture = np.where(labels[..., None] == 1, 200 - i, 60 + i).repeat(3, -1).astype(np.uint8)
        Image.fromarray(picture).save(root / "val" / f"{i}.png")
    return root


class Thresholds(SegmentationTask):
    """The second of two classes where a pixel is bright, else the first."""

    def __init__(self, num_classes, classes=(0, 1)):
        Task.__init__(self)
        self.net, self.model, self.classes = Namespace(num_classes=num_classes), "thresholds", classes

    def predict(self, frames):
        bright = as_float(frames).mean(-3) - 0.5
        logits = [torch.full_like(bright, -9.0)] * self.net.num_classes
        logits[self.classes[0]], logits[self.classes[1]] = -bright, bright
        return torch.stack(logits, -3)


@pytest.mark.parametrize("num_classes, compared", [(11, True), (12, True), (21, False)])
def test_labels_count_where_they_mean_what_the_network_answers(num_classes, compared, tmp_path, monkeypatch):
    monkeypatch.setattr("dvcc.evaluation.benchmark.networks.build_task", lambda *_, **__: Thresholds(num_classes))
    words = [f"data.root={write_camvid(tmp_path / 'camvid')}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}"]
    printed = benchmark.run(configure("task=segmentation", "data=camvid", "codec=jpeg", "levels=[95]", *words))
    uncoded = report_of(tmp_path)["summary"]["student"][0]
    assert uncoded["relative"]["mIoU"]["value"] == 1
    if compared:
        assert uncoded["absolute"]["mIoU"]["value"] == pytest.approx(1) and "labels of the data set" in printed
    else:
        assert uncoded["absolute"] is None and "The labels have 11 classes and student has 21" in printed
        assert "taken for 21 classes" in printed


@pytest.mark.parametrize("classes, expected", [((10, 2), 1.0), ((2, 10), 0.0)])
def test_cityscapes_classes_are_merged_to_those_of_camvid(classes, expected, tmp_path, monkeypatch):
    """Of Cityscapes' classes 10 is sky and 2 a building, which CamVid calls 0 and 1. Rows are kept for one map of classes."""
    data = [f"data.root={write_camvid(tmp_path / 'camvid')}", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}"]
    words = ["task=segmentation", "data=camvid", "codec=jpeg", "levels=[95]", *data]
    monkeypatch.setattr("dvcc.evaluation.benchmark.networks.build_task", lambda *_, **__: Thresholds(20, classes))
    printed = benchmark.run(configure(*words))
    report = report_of(tmp_path)
    assert report["summary"]["student"][0]["absolute"]["mIoU"]["value"] == pytest.approx(expected)
    assert len(report["labels_merged"]["student"]) == 20 and "student: its classes were merged to those of the labels" in printed
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines()))
    assert {float(row["absolute"]) for row in rows if row["level"] == "uncoded"} == {expected}
    monkeypatch.setattr("dvcc.evaluation.benchmark.run.label_classes", lambda *_: [*[1] * 10, 0, *[1] * 9])
    benchmark.run(configure(*words))
    assert report_of(tmp_path)["rows_kept"] == 0


def test_identities_stand_in_the_report_of_video_and_not_of_pictures(tiny, detector, words, tmp_path):
    root = next(word for word in tiny if word.startswith("data.root="))
    network = ["task=detection", f"task.model={detector}", "task.score=0.05", "data.size=[64,64]", "levels=[20,45]"]
    clips = [root, "data.frames=4", "data.stride=1", "data.max_clips=2"]
    title = "identities kept against the network's own answer"
    assert title not in benchmark.run(configure(*words, *network, "data.max_clips=2"))
    printed = benchmark.run(configure(*words[1:], *network, *clips))
    assert title in printed and title in (tmp_path / "out" / "report.md").read_text()
    table = printed.partition(title)[2].partition("Audit")[0]
    fine, coarse = (point["relative"]["identities kept"]["value"] for point in report_of(tmp_path)["summary"]["tiny"][2:])
    assert f" {fine:.3f} " in table and f" {coarse:.3f} " in table and fine > coarse


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", ["classification", "detection", "optical_flow", "segmentation"])
def test_the_papers_networks_go_through_the_whole_benchmark(task, tiny, tmp_path, monkeypatch):
    """All 23, with random weights."""
    module = importlib.import_module(f"dvcc.tasks.{task}")
    loader = "load_flow_net" if task == "optical_flow" else f"load_{task}_net"
    monkeypatch.setattr(module, loader, partial(getattr(module, loader), random=True))
    names = [entry.name for entry in PAPER if entry.task == task]
    root = next(word for word in tiny if word.startswith("data.root="))
    # Wide pictures: detectors scale the smaller side to 800, but the larger to 1333 at most.
    data = [
        root,
        "data.frames=2",
        "data.stride=1",
        "data.max_clips=2",
        f"data.size={'[16,64]' if task == 'detection' else '[32,48]'}",
    ]
    keys = [f"task={task}", f"networks=[{','.join(names)}]", "levels=[30]", f"data.cache={tmp_path}", f"out={tmp_path / 'out'}"]
    benchmark.run(configure(*keys, *data))
    summary = report_of(tmp_path)["summary"]
    assert list(summary) == names
    for points in summary.values():
        assert [point["level"] for point in points] == ["uncoded", "noise", 30] and points[2]["bits_per_pixel"] > 0
