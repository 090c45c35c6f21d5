"""`evaluate.py control` on tiny real encodes: every file, every figure, every refusal."""

from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from dvcc.config.parse import parse
from dvcc.control.deployed.reader import MeanReader, SegmenterReader
from dvcc.control.deployed.runtime import load_control
from dvcc.control.eyes.painting import load_rule
from dvcc.control.network import ControlNetwork
from dvcc.datasets.clips import video_key
from dvcc.errors import CheckpointError, ConfigError, DvccError
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.control.measure import looking_once
from dvcc.evaluation.control.page import findings
from dvcc.networks.detectors.base import Boxes
from dvcc.networks.sources import CHECKPOINTS
from dvcc.rate_control.abr import AverageBitrate
from dvcc.rate_control.analysed import AnalysedControl
from dvcc.rate_control.objects import Objects, looking_every
from dvcc.rate_control.task_reader import TaskReader
from dvcc.tasks import TASKS, ReconstructionTask
from tests.videos import write_control

FIGURES = {
    *("bd_rate_percent", "bd_rate_ci95", "bd_metric", "met_share", "strict_metric", "metric"),
    *("achieved_kbps", "target_kbps", "bits_per_pixel", "num_encodes"),
}


def configure(tiny, out, *words):
    return parse("evaluate", ["control", "task=reconstruction", *tiny, f"out={out}", "bootstrap=30", "workers=1", *words])[1]


def read_rows(out) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "rows.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("control") / "control.onnx"
    network = ControlNetwork(width=8)
    network.prior.coefficients.copy_(__import__("torch").tensor([12.0, -9.0, 0.0, 0.0, 0.0]))
    codec = {"name": "x264", "preset": "medium", "gop": 8, "bframes": None}
    run = {"task": {"name": "reconstruction", "model": "psnr", "weights": None}, "data": {}, "codec": codec}
    return write_control(path, network, {"run": run})


@pytest.fixture(scope="module")
def result(tiny, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    words = [word for word in tiny if not word.startswith("data.test")]
    words += ["data.test=[a.mp4,test.mp4]", f"checkpoint={checkpoint}", "num_targets=3", "rivals=[crf]"]
    printed = evaluation.run(configure(words, out))
    return out, printed


def test_every_file_is_written_and_the_table_printed(result):
    out, printed = result
    assert {"report.json", "rows.csv", "report.md", "curves.png"} <= {path.name for path in out.iterdir()}
    assert (out / "pictures" / "middle_target.png").stat().st_size > 10_000
    assert str(out / "report.md") in printed and "learned_corrected" in printed and "baseline" in printed
    assert "BD-rate" in (out / "report.md").read_text()


def test_the_page_has_the_findings_the_curves_and_every_figure(result):
    out, printed = result
    page, report = (out / "index.html").read_text(), json.loads((out / "report.json").read_text())
    assert str(out / "index.html") in printed and "<article>" in page and page.count("<svg") == 1
    for name, figures in report["summary"].items():
        assert page.count(f'<th scope="row">{name}</th>') >= 2, name
        cells = [f"<td>{m:.3f} @ {r:.1f}</td>" for m, r in zip(figures["metric"], figures["achieved_kbps"], strict=True)]
        assert all(cell in page for cell in cells), name
    found = findings(report)
    assert len(found) == 4 and all(sentence in page for sentence in found)
    assert "data:image/png;base64," in page and 'src="http' not in page


def test_a_finding_says_whether_chance_explains_it():
    learned = {"bd_rate_percent": -3.0, "bd_rate_ci95": [-6.0, 1.0]}
    learned |= {"bd_rate_of_loss_percent": None, "bd_rate_of_loss_ci95": None}
    report = {"metric": "mIoU", "baseline": "abr2", "summary": {"abr2": {}, "crf": {}, "learned": learned}}
    at_metric, at_loss = findings(report)
    assert at_metric.startswith("At equal mIoU, learned takes 3.0 % fewer bits than abr2 (95 % interval -6.0 to +1.0 %).")
    assert at_metric.endswith("not statistically significant.") and "no figure for learned" in at_loss
    learned["bd_rate_ci95"] = [-6.0, -1.0]
    assert "significant" not in findings(report)[0]
    learned["bd_rate_ci95"] = None
    assert findings(report)[0].endswith("too few groups of videos for an interval.")


def test_the_summary_has_the_fixed_figures_for_every_controller(result):
    report = json.loads((result[0] / "report.json").read_text())
    summary = report["summary"]
    assert set(summary) == {"abr1", "abr2", "abr2_corrected", "crf", "cqp", "learned", "learned_corrected"}
    for name, figures in summary.items():
        assert set(figures) >= FIGURES, name
        assert len(figures["metric"]) == len(figures["achieved_kbps"]) == 3
        assert all(0 <= share <= 1 for share in figures["met_share"].values())
        assert figures["met_share"]["0"] <= figures["met_share"]["0.05"] <= figures["met_share"]["0.1"]
    assert summary["abr2"]["bd_rate_percent"] == 0 and summary["abr2"]["num_encodes"] == 2
    assert summary["abr2"]["metric"] == sorted(summary["abr2"]["metric"])
    assert report["settings"].startswith("x264 - core") and report["versions"]["ffmpeg"]


def test_all_are_paired_with_a_further_rival(result):
    out, printed = result
    report = json.loads((out / "report.json").read_text())
    assert set(report["pairs"]) == {"crf"} and set(report["pairs"]["crf"]) == set(report["summary"]) - {"crf"}
    assert "Paired with crf: the same clips, the same encodes" in printed


def test_rows_add_up_to_the_summary(result):
    out, _ = result
    rows = read_rows(out)
    clips = {(row["video"], row["start"]) for row in rows}
    assert len(rows) == len(clips) * 3 * 7
    summary = json.loads((out / "report.json").read_text())["summary"]["learned"]
    for index in range(3):
        mine = [row for row in rows if row["controller"] == "learned" and row["target_index"] == str(index)]
        assert summary["achieved_kbps"][index] == pytest.approx(sum(float(r["achieved_kbps"]) for r in mine) / len(mine))
        met = [r for r in mine if float(r["achieved_kbps"]) <= float(r["target_kbps"])]
        mse = sum(10 ** (-float(r["metric"]) / 10) for r in met) / max(1, len(met))
        strict = -10 * math.log10(mse) * len(met) / len(mine) if met else 0.0
        assert summary["strict_metric"]["0"][index] == pytest.approx(strict, rel=1e-4)


def test_targets_out_of_reach_are_rows_not_failures(tiny, tmp_path):
    words = ["controllers=[abr2,crf]", "targets_kbps=[1,300]"]
    evaluation.run(configure(tiny, tmp_path, *words))
    rows = read_rows(tmp_path)
    assert {row["status"] for row in rows if row["target_kbps"] == "1.0"} == {"unreachable"}
    assert {row["status"] for row in rows if row["target_kbps"] == "300.0"} == {"ok"}
    summary = json.loads((tmp_path / "report.json").read_text())["summary"]["abr2"]
    assert summary["metric"][0] is None and summary["metric"][1] > 20
    assert summary["bd_rate_ci95"] is None  # one test video: no interval


def test_an_unstable_network_is_gated(tiny, tmp_path):
    with pytest.raises(ConfigError, match="disagrees with itself"):
        evaluation.run(configure(tiny, tmp_path, "stability=1.5", "controllers=[abr2]"))


def test_a_control_is_not_judged_on_a_video_it_was_trained_on(tiny, videos, tmp_path):
    write_control(tmp_path / "c.onnx", ControlNetwork(width=8), {"run": {}, "trained_on": [video_key(videos / "test.mp4")]})
    with pytest.raises(ConfigError, match=r"was trained on test\.mp4"):
        evaluation.run(configure(tiny, tmp_path / "out", f"checkpoint={tmp_path / 'c.onnx'}"))


def test_a_control_is_not_judged_on_another_encoder(tiny, checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=r"another encoder.*'medium'.*codec\.\*"):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={checkpoint}", "codec.preset=fast"))


def test_the_report_says_when_the_judge_is_the_trainee(result):
    out, printed = result
    report = json.loads((out / "report.json").read_text())
    same = report["trained_for"]["task"] == report["config"]["task"]
    assert same == ("is the network that the control was trained for" in printed)


def test_other_controls_are_rows_of_their_own(tiny, videos, checkpoint, tmp_path):
    write_control(tmp_path / "idle.onnx", ControlNetwork(width=8))
    words = [f"checkpoint={checkpoint}", f"extra_checkpoints=[{tmp_path / 'idle.onnx'}]", "controllers=[abr2,learned]"]
    evaluation.run(configure(tiny, tmp_path / "out", *words, "targets_kbps=[100,300]"))
    summary = json.loads((tmp_path / "out" / "report.json").read_text())["summary"]
    assert set(summary) == {"abr2", "learned", "learned idle"}
    assert summary["learned idle"]["metric"] == summary["abr2"]["metric"]  # an untrained control is the baseline
    write_control(tmp_path / "seen.onnx", ControlNetwork(width=8), {"run": {}, "trained_on": [video_key(videos / "test.mp4")]})
    with pytest.raises(ConfigError, match=r"seen\.onnx was trained on test\.mp4"):
        evaluation.run(configure(tiny, tmp_path / "out", *words, f"extra_checkpoints=[{tmp_path / 'seen.onnx'}]"))


def test_refusals(tiny, tmp_path):
    with pytest.raises(CheckpointError, match="none.safetensors"):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={tmp_path / 'none.safetensors'}", "controllers=[abr2,learned]"))
    with pytest.raises(ConfigError, match="abr2"):
        evaluation.run(configure(tiny, tmp_path, "controllers=[abr1]"))
    with pytest.raises(ConfigError, match="no rate controller 'vbr'"):
        evaluation.run(configure(tiny, tmp_path, "controllers=[abr2,vbr]"))
    with pytest.raises(CheckpointError, match="none.safetensors"):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={tmp_path / 'none.safetensors'}"))
    with pytest.raises(ConfigError, match="within reach"):
        evaluation.run(configure(tiny, tmp_path, "targets_kbps=[0.5,2]", "controllers=[abr2]"))
    with pytest.raises(ConfigError, match="positive"):
        configure(tiny, tmp_path, "targets_kbps=[-5]")
    assert not list(tmp_path.iterdir())


def test_an_out_that_cannot_be_written_is_found_before_any_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "opened", lambda *arguments: pytest.fail("work before the check"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(DvccError, match=f"cannot write to {out}: .*choose another folder with out=DIR"):
            evaluation.run(configure(tiny, out, "controllers=[abr2]"))


def test_another_network_can_be_the_judge(tiny, tmp_path):
    """With random weights, which no gate would let pass: the published ones are not in the repository."""
    import torch

    from dvcc.networks.espnetv2 import ESPNetv2

    torch.manual_seed(0)
    torch.save(ESPNetv2(scale=1.0).state_dict(), tmp_path / "espnetv2.pth")
    words = ["task=segmentation", "task.model=espnetv2", f"task.weights={tmp_path / 'espnetv2.pth'}", "controllers=[abr2,crf]"]
    evaluation.run(configure(tiny, tmp_path / "out", *words, "targets_kbps=[150,300]", "stability=0"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["judge"] == "espnetv2" and report["metric"] == "mIoU" and report["trained_for"] is None
    assert all(0 <= value <= 1 for value in report["summary"]["abr2"]["metric"])


def test_an_error_is_judged_like_an_accuracy(tiny, tmp_path):
    """Of optical flow less is better: targets go from more of it to less."""
    words = ["task=optical_flow", "controllers=[abr2,abr2_corrected,crf]", "num_targets=3", "stability=0"]
    printed = evaluation.run(configure(tiny, tmp_path, *words))
    assert "EPE (px), less is better, @" in printed and "counts as no motion" in printed
    summary = json.loads((tmp_path / "report.json").read_text())["summary"]
    metric, rates = summary["abr2"]["metric"], summary["abr2"]["bits_per_pixel"]
    assert rates == sorted(rates) and metric == sorted(metric, reverse=True) and metric[0] > 0
    reached = [row for row in read_rows(tmp_path) if row["status"] == "ok"]
    assert reached and all(float(row["loss"]) > 0 for row in reached)


def test_a_clip_of_one_frame_has_no_flow(tiny, tmp_path):
    words = [word for word in tiny if not word.startswith("data.frames")]
    with pytest.raises(ConfigError, match="two frames or more"):
        evaluation.run(configure(words, tmp_path, "task=optical_flow", "data.frames=1", "controllers=[abr2]"))


class Rising(ReconstructionTask):
    """PSNR, over a range that tiny clips reach."""

    def __init__(self):
        super().__init__(metric="psnr")
        self.metric_range = (30.0, 36.0)


class Falling(Rising):
    """The same, as an error."""

    def __init__(self):
        super().__init__()
        self.metric_range = (-30.0, -36.0)

    def metrics(self):
        return {self.metric_name: NegativePSNR()}


class NegativePSNR(type(Rising().metric())):
    higher_is_better = False

    def compute(self):
        return -super().compute()


def test_targets_lead_from_the_worse_end_of_the_range_to_the_better(tiny, tmp_path, monkeypatch):
    targets = []
    for kind in (Rising, Falling):
        monkeypatch.setitem(TASKS, "reconstruction", lambda model, weights, kind=kind: kind())
        evaluation.run(configure(tiny, tmp_path / kind.__name__, "controllers=[abr2]", "num_targets=3"))
        targets.append(json.loads((tmp_path / kind.__name__ / "report.json").read_text()))
    assert targets[0]["targets_bits_per_pixel"] == pytest.approx(targets[1]["targets_bits_per_pixel"])
    metric = [report["summary"]["abr2"]["metric"] for report in targets]
    assert metric[0] == pytest.approx([-value for value in metric[1]]) and 28 < metric[0][0] < metric[0][-1] < 38


def test_streams_are_longer_and_of_other_gops_than_what_a_control_was_trained_for(tiny, checkpoint, tmp_path):
    """A GOP of 25 and whole shots; the figures of the strict question are there, too."""
    words = [word for word in tiny if not word.startswith(("data.frames", "data.stride"))]
    words += [
        "scenario=stream",
        "data.frames=40",
        "data.min_frames=8",
        f"checkpoint={checkpoint}",
        "targets_kbps=[100,300]",
        "rate_factors=[1]",
        "reach=1.25",
    ]
    controllers = "controllers=[abr1_vbv,abr2,abr2_corrected,learned_corrected]"
    evaluation.run(configure(words, tmp_path, *words[-6:], controllers))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["config"]["codec"]["gop"] == 25 and report["config"]["data"]["stride"] == 1
    assert "keyint=25" in report["settings"]
    for name, figures in report["summary"].items():
        low, middle, high = figures["rate_ratio"]
        assert 0 < low <= middle <= high
        assert (figures["strict_gain_percent"] is None) == (name == "abr2_corrected")


@pytest.mark.parametrize(
    "words, kind", [([], SegmenterReader), (["readers=[psnr]"], TaskReader), (["readers=[ssim,psnr]"], MeanReader)]
)
def test_who_reads_the_analysis_encodes_of_a_control(words, kind, tiny, tmp_path):
    mine = [word for word in tiny if not word.startswith("data.test")]
    given = [
        "data.test=[a.mp4,test.mp4]",
        f"checkpoint={CHECKPOINTS / 'control_segmentation.onnx'}",
        "controllers=[abr2,learned]",
    ]
    bench = evaluation.build_bench(configure(mine, tmp_path, *given, *words))
    reader = bench.controls["learned"].reader
    assert isinstance(reader, kind)
    if kind is not SegmenterReader:
        readers = getattr(reader, "readers", [reader])
        assert readers[-1].task is bench.task and [one.task.metric_name for one in readers[:-1]] == ["SSIM"] * (len(readers) - 1)


@pytest.mark.parametrize("kind", [AverageBitrate, AnalysedControl])
def test_a_detector_is_asked_of_every_picture_once(kind, scene):
    """A clip is coded at many targets, and the rule sees the same each time."""
    asked = []
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    detector = SimpleNamespace(detect=lambda rgb, least_score: asked.append(1) or [nothing])
    objects = looking_every(Objects(detector, load_rule()), 1)
    if kind is AnalysedControl:
        published, reader = load_control(CHECKPOINTS / "control_segmentation.onnx"), TaskReader(ReconstructionTask())
        controller = AnalysedControl(published, reader=reader, objects=objects)
    else:
        controller = AverageBitrate(control=objects)
    looking = looking_once(controller)
    assert all(looking.encode(scene, target).bits > 0 for target in (90.0, 250.0))
    assert len(asked) == scene.num_frames
