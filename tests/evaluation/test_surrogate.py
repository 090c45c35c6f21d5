"""`evaluate.py surrogate` on tiny real encodes: every file and figure, floors that mean what they say, every refusal."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from dvcc import X264, QPMap
from dvcc.codecs.cache import EncodeCache
from dvcc.config.parse import parse
from dvcc.errors import CheckpointError, ConfigError, DvccError
from dvcc.evaluation.surrogate import report as surrogate_report
from dvcc.evaluation.surrogate import run as evaluation
from dvcc.evaluation.surrogate.descent import RealLoss, descent_test, task_gradient_at_equal_bits
from dvcc.evaluation.surrogate.rows import AveragedRow, Cost, DescentRow, MapRow
from dvcc.evaluation.surrogate.summary import averaged_shares, compare_surrogates, correlations, summarise_surrogate
from dvcc.networks.sources import CHECKPOINTS
from dvcc.networks.weights import Weights, save_weights
from dvcc.surrogate import build_surrogate, load_surrogate, one_hot_qp, training
from dvcc.surrogate.base import soft_qp
from dvcc.surrogate.random_maps import jittered, maps_of_equal_mean
from dvcc.surrogate.samples import LadderSamples
from dvcc.tasks import build_task
from dvcc.tasks.reconstruction import ReconstructionTask
from tests.conftest import make_scene

FIGURES = {"size_error_median", "size_error_p90", "psnr_gain_over_copy_db", "ssim", "rho2_bits", "rho2_task", "descent_share"}


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("surrogate")
    words = ["trainer.max_steps=2", "logger.pictures_every=1000", "trainer.accelerator=cpu", f"out={out}"]
    return training.run(parse("train", ["surrogate", *tiny, "data.test=[b.mp4,test.mp4]", *words])[1])


def configure(tiny, out, *words):
    always = [
        "data.test=[b.mp4,test.mp4]",
        "task=reconstruction",
        "mean_qps=[26,40]",
        "maps=6",
        "pictured_maps=3",
        "bootstrap=40",
    ]
    return parse("evaluate", ["surrogate", *tiny, *always, f"out={out}", *words])[1]


@pytest.fixture(scope="module")
def without_ladder(checkpoint, tmp_path_factory):
    """A surrogate of the same encoder that has other rungs, and reads none."""
    torch.manual_seed(0)
    model = {"name": "structured", "qps": [20, 30], "gop": 8, "width": 8}
    path = tmp_path_factory.mktemp("structured") / "surrogate.safetensors"
    about = {**load_surrogate(checkpoint)[1], "surrogate": model}
    save_weights(path, Weights("surrogate", about, build_surrogate(**model).state_dict()))
    return path


@pytest.fixture(scope="module")
def result(tiny, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, evaluation.run(configure(tiny, out, f"checkpoint={checkpoint}"))


def read_rows(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_every_file_is_written_and_the_tables_printed(result):
    out, printed = result
    assert {"report.json", "rows.csv", "descent.csv", "report.md", "curves.png"} <= {path.name for path in out.iterdir()}
    assert (out / "pictures" / "examples.png").stat().st_size > 10_000
    assert str(out / "report.md") in printed and "rho2_task_activity" in printed and "test.mp4" in printed
    tables = [[line.count("|") for line in table.splitlines() if line[:1] == "|"] for table in printed.split("\n\n")]
    assert len(tables) == 5 and all(len(set(pipes)) == 1 for pipes in tables)  # a bare pipe would split a cell


def test_a_surrogate_beside_is_measured_on_the_same_maps_with_its_cost(checkpoint, without_ladder, tiny, tmp_path):
    words = [f"beside=[{without_ladder}]", "draws=[1,2]", "second_judge=ssim", "mean_qps=[30]", "maps=3", "pictured_maps=2"]
    words += ["data.test=[b.mp4]", "data.clips_per_video=1", "bootstrap=0", f"checkpoint={checkpoint}"]
    out, printed = tmp_path, evaluation.run(configure(tiny, tmp_path, *words))
    report = json.loads((out / "report.json").read_text())
    first, second, activity = report["compared"]
    assert (first["surrogate"], second["surrogate"]) == (str(checkpoint), str(without_ladder))
    assert first["size_error_median"] == report["summary"]["size_error_median"] != second["size_error_median"]
    assert activity["rho2_bits"] == report["summary"]["rho2_bits_activity"]
    assert (first["num_encodes"], second["num_encodes"]) == (4, 1)  # all rungs; the frame types
    assert all(row[name] > 0 for row in (first, second) for name in ("encodes", "analysis", "one_map"))
    own, other = (read_rows(out / name) for name in ("rows.csv", "rows-beside-1.csv"))
    assert [row["real_log_bits"] for row in own] == [row["real_log_bits"] for row in other]
    assert {(row["draws"], row["judge"]) for row in report["averaged"]} == {(1, 0), (1, 1), (2, 0), (2, 1)}
    assert "second judge" in printed and "activity only" in printed


@pytest.mark.slow
def test_a_ladder_that_another_surrogate_predicts_costs_one_encode(checkpoint, without_ladder, tiny, tmp_path):
    words = ["mean_qps=[30]", "maps=3", "pictured_maps=2", "data.test=[b.mp4]", "data.clips_per_video=1", "bootstrap=0"]
    words.append(f"ladder={without_ladder}")
    evaluation.run(configure(tiny, tmp_path / "out", *words, f"checkpoint={checkpoint}"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["compared"][0]["num_encodes"] == 1 and report["compared"][0]["analysis"] > 0
    assert np.isfinite(float(read_rows(tmp_path / "out" / "descent.csv")[0]["gradient"]))
    with pytest.raises(ConfigError, match="would be read by nobody"):
        evaluation.run(configure(tiny, tmp_path / "none", *words, f"checkpoint={without_ladder}"))


def test_shares_and_gains_of_rows_made_by_hand():
    cases = [(1, 0, 0.5), (1, 0, 1.5), (4, 0, 0.5), (4, 1, float("nan")), (4, 1, 0.9)]
    shares = averaged_shares([AveragedRow("a", 0, 30, draws, judge, 1.0, step) for draws, judge, step in cases])
    assert [(row["draws"], row["judge"], row["cases"], row["share"]) for row in shares] == [
        (1, 0, 2, 0.5),
        (4, 0, 1, 1.0),
        (4, 1, 1, 1.0),
    ]
    shown = {"psnr": 33.0, "copy_psnr": 30.0, "preset_psnr": 34.0, "ssim": 0.9, "preset_ssim": 0.92, "mean_qp": 36}
    shown |= {"second_psnr": 50.0, "second_ssim": 1.0}  # the same encode: no yardstick
    maps = [row("a", i, **shown) for i in range(4)] + [row("a", 9, **{**shown, "mean_qp": 20, "psnr": 50.0, "ssim": 0.91})]
    (one, activity) = compare_surrogates({"x": maps}, {"x": Cost(1, 0.5, 1.0, 2.0)})
    assert one["gain_share"] == pytest.approx(3 / 4) and one["ssim_short"] == pytest.approx(0.02)
    assert one["frame_error_median"] == 0.1 and one["one_map"] == 2.0 and "gain_share" not in activity


def test_pictures_show_the_map_of_every_row(scene_sample, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(surrogate_report, "strip", lambda panels, path, **words: drawn.update(panels=panels, **words))
    clip, _, sample = scene_sample
    surrogate = build_surrogate("anchored", qps=tuple(range(16, 50, 4)), gop=8, width=8).eval()
    test = evaluation.TestClip(clip, "a", 0, sample, tuple(range(16, 50, 4)))
    surrogate_report.draw_examples(surrogate, test, X264(), tmp_path / "examples.png")
    assert len(drawn["panels"]) == 4 * drawn["columns"] and set(drawn["qp"]) <= set(drawn["panels"])
    assert drawn["qp"]["5/25/45: QP map"][0].tolist() == [5] * 3 + [25] * 3 + [45] * 2


def test_the_summary_has_the_fixed_figures_with_intervals(result):
    summary = json.loads((result[0] / "report.json").read_text())["summary"]
    assert set(summary) >= FIGURES and all(f"{name}_ci95" in summary for name in FIGURES)
    for name in ("size_error_median", "ssim", "rho2_bits", "rho2_task", "descent_share"):
        assert 0 <= summary[name] <= 1, name


def test_rows_are_real_encodes_and_flat_maps_on_a_rung_are_exact(result, tiny):
    rows = read_rows(result[0] / "rows.csv")
    clips = {(row["video"], row["start"]) for row in rows}
    assert len(rows) == len(clips) * 2 * 6 and {video for video, _ in clips} == {"b.mp4", "test.mp4"}
    flat = [row for row in rows if row["kind"] == "flat" and row["mean_qp"] == "26" and row["psnr"] != "nan"]
    assert len(flat) >= len(clips)  # a small random map may come out flat too
    for row in flat:
        assert abs(float(row["log_error"])) < 1e-4 and float(row["psnr"]) > 49 and float(row["ssim"]) > 0.9999
        assert float(row["task_loss"]) == pytest.approx(float(row["frames_task_loss"]), abs=1e-3)
    with_frames = [row for row in rows if np.isfinite(float(row["psnr"]))]
    assert len(with_frames) == len(clips) * 2 * 3
    # Where x264 takes a difference of one QP back, nearly the same map is the same encode; another preset is not.
    assert all(float(row["preset_psnr"]) < 49 and row["preset_psnr"] != row["second_psnr"] for row in with_frames)


def test_a_test_video_that_was_trained_on_is_refused(tiny, checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=r"was trained on a\.mp4.*data\.test"):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={checkpoint}", "data.test=[a.mp4]"))


@pytest.mark.parametrize(
    "word, reason",
    [
        ("codec.gop=4", "another encoder"),
        ("codec.preset=fast", "another encoder"),
        ("beside=[a,a]", r"beside are surrogates other than .*each once"),
        ("draws=[4,1]", r"draws are rising numbers from 1"),
        ("second_judge=ssim", r"judges the steps of draws: set draws"),
        ("codec.preset=fastt", "no preset 'fastt': choose one of"),
    ],
)
def test_another_encoder_is_refused_before_any_work(word, reason, tiny, checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={checkpoint}", word))
    assert not list(tmp_path.iterdir())


def test_other_rungs_missing_files_and_no_data_are_refused(tiny, checkpoint, tmp_path):
    with pytest.raises(ConfigError, match="rungs"):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={checkpoint}", "data.rungs=[16,46]"))
    with pytest.raises(CheckpointError, match="train one with dvcc train surrogate"):
        evaluation.run(configure(tiny, tmp_path, f"checkpoint={tmp_path / 'none'}"))
    with pytest.raises(ConfigError, match="mean_qps are QPs from 2 to 51, got"):
        configure(tiny, tmp_path, "mean_qps=[60]")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="holds no video"):
        evaluation.run(configure(tiny, tmp_path / "out", f"checkpoint={checkpoint}", f"data.root={tmp_path / 'empty'}"))


def test_every_clip_and_mean_qp_draws_maps_of_its_own(tiny, checkpoint, tmp_path, monkeypatch):
    drawn = []

    def record(clip, rng, **settings):
        drawn.append(str(rng.bit_generator.state))
        return maps_of_equal_mean(clip, rng, **settings)

    monkeypatch.setattr(evaluation, "maps_of_equal_mean", record)
    evaluation.run(configure(tiny, tmp_path, f"checkpoint={checkpoint}", "data.clips_per_video=1", "maps=3", "bootstrap=0"))
    assert len(drawn) == len(set(drawn)) == 2 * 2


def test_an_out_that_cannot_be_written_is_found_before_any_work(tiny, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "load_clips", lambda *arguments: pytest.fail("work before the check"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DvccError, match="cannot write to .*report: Not a directory; choose another folder with out=DIR"):
        evaluation.run(configure(tiny, tmp_path / "file" / "report", f"checkpoint={checkpoint}"))


@pytest.fixture(scope="module")
def scene_sample(tmp_path_factory):
    cache = EncodeCache(tmp_path_factory.mktemp("cache"))
    clip = make_scene(frames=4, height=96, width=128)
    samples = LadderSamples([clip], codec=X264(), cache=cache, qps=tuple(range(16, 50, 4)))
    return clip, cache, default_collate([samples[0]])


def test_the_gradient_at_equal_bits_is_orthogonal_to_that_of_the_bits(scene_sample):
    clip, _, sample = scene_sample
    surrogate = build_surrogate("anchored", qps=tuple(range(16, 50, 4)), gop=8, width=8).eval()
    task = build_task("reconstruction", model="psnr", weights=None)
    direction = task_gradient_at_equal_bits(surrogate, task, sample, clip.frames.float() / 255, mean_qp=32)
    qp = torch.full((1, *direction.shape), 32.0, requires_grad=True)
    (of_bits,) = torch.autograd.grad(surrogate(sample, soft_qp(qp)).log_clip_bits.sum(), qp)
    cosine = (of_bits[0].numpy() * direction).sum() / np.linalg.norm(of_bits) / np.linalg.norm(direction)
    assert abs(cosine) < 1e-3 and np.abs(direction).max() > 0


def test_descent_compares_real_losses_at_equal_real_bits(tmp_path):
    """With a task that only wants the left half, a step along the gradient must better the real left half at equal bits."""
    clip, cache = make_scene(height=96, width=192), EncodeCache(tmp_path)
    surrogate, stored = load_surrogate(CHECKPOINTS / "surrogate_anchored.safetensors")
    sample = LadderSamples([clip], codec=X264(), cache=cache, qps=tuple(stored["surrogate"]["qps"]))[0]

    class LeftHalf(ReconstructionTask):
        def loss(self, prediction, reference):
            return super().loss(prediction[..., :96], reference[..., :96])

    real = RealLoss(LeftHalf(), clip, X264(), cache)
    surrogate.eval().requires_grad_(False)
    descent = descent_test(surrogate, default_collate([sample]), real, mean_qp=32, rng=np.random.default_rng(0))
    assert descent.gradient < descent.flat - 0.02 and descent.gradient < descent.random
    assert descent.flat == pytest.approx(real(X264().encode(clip, QPMap.uniform(32, like=clip))))


def test_a_jittered_map_is_nearly_the_same():
    qp = QPMap(np.full((4, 20, 30), 51))
    moved = jittered(qp, np.random.default_rng(0)).values.astype(int) - 51
    assert set(np.unique(moved)) == {-1, 0}  # no QP above 51
    moved = jittered(QPMap(qp.values - 21), np.random.default_rng(0)).values.astype(int) - 30
    assert set(np.unique(moved)) == {-1, 0, 1} and abs((moved != 0).mean() - 0.4) < 0.03


def test_soft_qps_have_the_level_as_their_mean():
    qp = torch.tensor([0.0, 3.25, 30.0, 51.0], requires_grad=True)
    soft = soft_qp(qp)
    torch.testing.assert_close(soft @ torch.arange(52.0), qp)
    torch.testing.assert_close(soft.sum(-1), torch.ones(4))
    assert torch.equal(soft[2].detach(), one_hot_qp(torch.tensor(30)))


def row(video: str, index: int, **values: float | str) -> MapRow:
    base = MapRow(
        video, 0, 30, "mixed", 10 + index, 0.0, 0, 0, 0, index, index, -index, 10 + index, -index, 30 + (index % 2), 30.0, 0.1
    )
    return replace(base, **values)


def test_gains_over_the_nearest_rung_are_of_mixed_maps_that_were_looked_at():
    fidelity = {"psnr": 33.0, "nearest_psnr": 30.0, "second_psnr": 38.0, "copy_psnr": 29.0}
    maps = [row("a", 0, **fidelity), row("a", 1, **fidelity, kind="flat"), row("a", 2)]
    maps.append(row("b", 3, **{**fidelity, "second_psnr": 36.0}))
    maps.append(row("c", 4, **{**fidelity, "second_psnr": 37.0}))
    summary = summarise_surrogate(maps, [], bootstrap=40, seed=0)
    assert summary["psnr_gain_over_nearest_db"] == pytest.approx(3.0)
    assert summary["psnr_gain_over_nearest_db_second_encode"] == pytest.approx(7.0)
    low, high = summary["psnr_gain_over_nearest_db_second_encode_ci95"]
    assert 6 <= low < 7 < high <= 8


def test_steps_whose_bits_were_not_enclosed_count_nowhere():
    """Neither in the summary nor in the table per video: there is no loss at equal bits to compare."""
    nan = float("nan")
    losses = {"a": [(0.5, nan), (nan, nan), (2.0, 0.5)], "b": [(nan, 0.5)]}
    steps = [DescentRow(v, 0, 30, 1.0, gradient, nan, random) for v, pairs in losses.items() for gradient, random in pairs]
    maps = [row("a", 0), row("b", 0)]
    of_a, of_b = surrogate_report._video_table(maps, [], steps).splitlines()[2:]
    assert [cell.strip() for cell in of_a.split("|")[-3:-1]] == ["50% of 2", "100% of 1"]
    assert [cell.strip() for cell in of_b.split("|")[-3:-1]] == ["-", "100% of 1"]
    summary = summarise_surrogate(maps, steps, bootstrap=0, seed=0)
    assert (summary["descent_share"], summary["descent_share_random"]) == (0.5, 1.0)


def test_figures_of_rows_made_by_hand():
    good = [row("a", i) for i in range(6)]
    bad = [row("b", i, log_error=0.1 * (-1) ** i, predicted_task_loss=float((i * 7) % 5)) for i in range(6)]
    summary = summarise_surrogate([*good, *bad], [], bootstrap=50, seed=0)
    assert summary["size_error_median"] == pytest.approx(np.percentile([0] * 6 + [np.expm1(0.1), -np.expm1(-0.1)] * 3, 50))
    assert summary["overestimated_share"] == pytest.approx(3 / 12)
    entries = {entry["video"]: entry for entry in correlations([*good, *bad])}
    assert entries["a"]["bits"] == pytest.approx(1) and entries["a"]["task"] == pytest.approx(1)
    assert entries["a"]["bits_activity"] == 0  # does not vary
    assert entries["a"]["task_frames"] == pytest.approx(1)  # the sign does not matter
    assert entries["a"]["bits_second_encode"] == pytest.approx(1) and entries["b"]["task_second_encode"] == pytest.approx(1)
    expected = np.corrcoef(range(6), [(i * 7) % 5 for i in range(6)])[0, 1] ** 2
    assert entries["b"]["task"] == pytest.approx(expected)
    assert summary["descent_share"] is None and summary["ssim"] is None  # nothing was measured
    assert summary["rho2_bits_ci95"] is None  # two videos
    third = [replace(row, video="c") for row in good]
    low, high = summarise_surrogate([*good, *bad, *third], [], bootstrap=50, seed=0)["size_error_p90_ci95"]
    assert low == 0 and high > 0.09
