"""Summaries of hand-made rows, where every figure is known."""

import math
from dataclasses import replace

import pytest
import torch

from dvcc.evaluation.control.clips import ClipName
from dvcc.evaluation.control.rows import Measured, Row
from dvcc.evaluation.control.summary import figures_of, seed_spread, summarise, summarise_pairs
from dvcc.evaluation.control.table import Table
from dvcc.tasks import OpticalFlowTask, build_task
from dvcc.tasks.judging import State, pooled

TARGETS = (100.0, 200.0, 400.0, 800.0)


def state(mse: float) -> State:
    return {"squared_error": torch.tensor(mse, dtype=torch.float64), "count": torch.tensor(1.0, dtype=torch.float64)}


def rows_of(controller: str, video: str, *, spent: float, gain_db: float, less_loss: float = 0.0) -> list[tuple[Row, State]]:
    """Spends `spent` times the target; 3 dB better per octave of bits, and `gain_db` on top. The loss falls by 1 per octave."""
    rows = []
    for index, target in enumerate(TARGETS):
        psnr = 30 + 3 * index + gain_db
        loss = 5.0 - index - less_loss
        row = Row(video, 0, controller, index, target, spent * target, spent * target / 1000, psnr, loss, 2)
        rows.append((row, state(10 ** (-psnr / 10))))
    return rows


def summary_of(*rows: list[tuple[Row, State]], bootstrap: int = 0) -> dict:
    task = build_task("reconstruction", model="psnr")
    return summarise(measured(*rows), task, clips=clips_of(*rows), baseline="abr2", bootstrap=bootstrap, seed=0)


def measured(*rows: list[tuple[Row, State]]) -> list[Measured]:
    return [(row, state, None) for some in rows for row, state in some]


def clips_of(*rows: list[tuple[Row, State]]) -> list[ClipName]:
    return [ClipName(video, 0, video) for video in dict.fromkeys(row.video for some in rows for row, _ in some)]


def test_tolerances_decide_who_met_the_target():
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in "abcd"]
    spends = {"a": 0.99, "b": 1.04, "c": 1.08, "d": 1.5}
    ours = [rows_of("ours", video, spent=spends[video], gain_db=0) for video in "abcd"]
    summary = summary_of(*base, *ours)["ours"]
    assert summary["met_share"] == {"0": 0.25, "0.05": 0.5, "0.1": 0.75}
    assert summary["strict_metric"]["0"] == pytest.approx([30 / 4, 33 / 4, 36 / 4, 39 / 4])
    assert summary["strict_metric"]["0.1"] == pytest.approx([30 * 0.75, 33 * 0.75, 36 * 0.75, 39 * 0.75])
    assert summary_of(*base)["abr2"]["met_share"]["0"] == 1  # exactly at the target is met


def test_bd_figures_of_a_constant_gain():
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in "abc"]
    better = [rows_of("ours", video, spent=1.0, gain_db=1.0, less_loss=0.5) for video in "abc"]
    summary = summary_of(*base, *better, bootstrap=50)["ours"]
    assert summary["bd_metric"] == pytest.approx(1.0)
    assert summary["bd_rate_percent"] == pytest.approx(100 * (2 ** (-1 / 3) - 1), abs=0.5)  # 3 dB an octave
    assert summary["bd_rate_ci95"] == pytest.approx((summary["bd_rate_percent"],) * 2, abs=0.01)  # all videos alike
    assert summary["bd_rate_of_loss_percent"] == pytest.approx(100 * (2**-0.5 - 1), abs=0.5)  # half an octave
    assert summary["bd_rate_of_loss_ci95"] == pytest.approx((summary["bd_rate_of_loss_percent"],) * 2, abs=0.01)
    assert summary["num_encodes"] == 2


def test_the_interval_covers_videos_that_differ():
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in "abcdef"]
    ours = [rows_of("ours", video, spent=1.0, gain_db=gain) for video, gain in zip("abcdef", (-2, -1, 0, 1, 2, 3), strict=True)]
    summary = summary_of(*base, *ours, bootstrap=100)["ours"]
    low, high = summary["bd_rate_ci95"]
    assert low < summary["bd_rate_percent"] < high and high - low > 10


def test_pairs_have_the_interval_of_what_differs_between_the_two():
    """What is hard in a video is hard for both: one is 1 dB better in all videos, and each differs from the baseline."""
    gains = dict(zip("abcdef", (-2, -1, 0, 1, 2, 3), strict=True))
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in gains]
    ours = [rows_of("ours", video, spent=1.0, gain_db=gain) for video, gain in gains.items()]
    better = [rows_of("better", video, spent=1.0, gain_db=gain + 1) for video, gain in gains.items()]
    rows, task = [*base, *ours, *better], build_task("reconstruction", model="psnr")
    settings = {"clips": clips_of(*rows), "bootstrap": 50, "seed": 0}
    pairs = summarise_pairs(measured(*rows), task, rivals=["ours", "abr2"], **settings)
    paired, alone = pairs["ours"]["better"], pairs["abr2"]["better"]
    assert paired["bd_rate_percent"] == pytest.approx(100 * (2 ** (-1 / 3) - 1), abs=0.5) and paired["better_share"] == 1
    width, alone_width = (high - low for low, high in (paired["bd_rate_ci95"], alone["bd_rate_ci95"]))
    assert width < 1 < 10 < alone_width
    summary = summarise(measured(*rows), task, baseline="abr2", **settings)["better"]
    assert alone == {key: summary[key] for key in alone}


def test_unreachable_rows_are_counted_and_not_scored():
    base = rows_of("abr2", "a", spent=1.0, gain_db=0)
    nothing = Row("b", 0, "abr2", 0, 100.0, status="unreachable")
    task, clips = build_task("reconstruction", model="psnr"), [ClipName("a", 0, "a"), ClipName("b", 0, "b")]
    summary = summarise([*measured(base), (nothing, None, None)], task, clips=clips, baseline="abr2", bootstrap=0, seed=0)
    assert summary["abr2"]["unreachable"] == 1 and summary["abr2"]["metric"] == pytest.approx([30, 33, 36, 39])


def flow_rows(controller: str, video: str, *, spent: float, better: float, motion: float = 5.0) -> list[tuple[Row, State]]:
    """The end-point error halves per octave of bits, from 0.8 px, and is `better` times smaller; the motion is of `motion` px."""
    rows = []
    for index, target in enumerate(TARGETS):
        error = 0.8 / 2**index / better
        row = Row(video, 0, controller, index, target, spent * target, spent * target / 1000, error, 3.0 - index, 2)
        state = {"error": 10 * error, "motion": 10 * motion, "pixels": 10.0}
        rows.append((row, {name: torch.tensor(value, dtype=torch.float64) for name, value in state.items()}))
    return rows


def flow_summary(*rows: list[tuple[Row, State]]) -> dict:
    task = OpticalFlowTask.__new__(OpticalFlowTask)  # no network is asked
    return summarise(measured(*rows), task, clips=clips_of(*rows), baseline="abr2", bootstrap=0, seed=0)


def test_less_of_an_error_is_better():
    base = [flow_rows(name, video, spent=1.0, better=1.0) for name in ("abr2", "abr2_corrected") for video in "ab"]
    ours = [flow_rows("ours", video, spent=1.0, better=1.25) for video in "ab"]
    summary = flow_summary(*base, *ours)["ours"]
    assert summary["metric"] == pytest.approx([0.64, 0.32, 0.16, 0.08])
    assert summary["bd_metric"] == pytest.approx(0.2 * (0.8 / 2 + 0.4 + 0.2 + 0.1 / 2) / 3, rel=0.01)  # positive: better
    assert summary["bd_rate_percent"] == pytest.approx(-20, abs=3)  # an octave halves the error
    assert summary["strict_gain_percent"] == pytest.approx(20)
    worse = flow_summary(*base, *[flow_rows("ours", video, spent=1.0, better=0.8) for video in "ab"])["ours"]
    assert worse["strict_gain_percent"] == pytest.approx(-25) and worse["bd_rate_percent"] > 0 > worse["bd_metric"]


def test_a_lost_flow_is_no_motion():
    base = [flow_rows(name, video, spent=1.0, better=1.0) for name in ("abr2", "abr2_corrected") for video in "ab"]
    ours = [flow_rows("ours", "a", spent=1.0, better=1.0), flow_rows("ours", "b", spent=1.07, better=8.0, motion=3.0)]
    summary = flow_summary(*base, *ours)["ours"]
    assert summary["strict_metric"]["0"] == pytest.approx([(error + 3.0) / 2 for error in (0.8, 0.4, 0.2, 0.1)])
    assert summary["strict_metric"]["0.1"] == pytest.approx([error * (1 + 1 / 8) / 2 for error in (0.8, 0.4, 0.2, 0.1)])
    assert summary["strict_gain_percent"] < -200


def detected(task, *, hits: int, missed: int) -> State:
    """Of a picture in which so many objects of as many classes are found, and others are missed."""
    metric = task.metric()
    corners = torch.tensor([[i / 8, 0.0, (i + 1) / 8, 1.0] for i in range(hits + missed)])
    truth = torch.cat([corners, torch.arange(hits + missed)[:, None] % 3], 1)[None]
    scores = torch.nn.functional.one_hot(truth[0, :, 4].long(), 3).float()
    scores[hits:] = 0
    metric.update(torch.cat([corners, scores], 1)[None], truth)
    return metric.state


def weighted(task, row: Row, state: State) -> tuple[Row, State]:
    return replace(row, metric=pooled(task.metric(), [state]), weight=task.weight(state)), state


def test_clips_without_anything_to_find_leave_the_strict_metric_defined(detector):
    """Of two clips the one without objects meets its target: average precision is not defined over it."""
    task = build_task("detection", model="fastestdet", weights=detector)
    row = rows_of("abr2", "a", spent=1.0, gain_db=0)[0][0]
    empty = weighted(task, row, task.metric().state)
    seen = weighted(task, replace(row, video="b", achieved_kbps=2 * row.target_kbps), detected(task, hits=1, missed=0))
    clips = clips_of([empty, seen])
    both = Table(measured([empty, seen]), task, clips)
    assert both.strict("abr2", clips, 0, 0.0) == 0.0 and both.strict("abr2", clips, 0, 1.0) == pytest.approx(1.0)
    assert math.isnan(Table(measured([empty]), task, clips).strict("abr2", clips, 0, 0.0))


def test_a_clip_out_of_reach_counts_at_equal_metric_and_not_where_the_bandwidth_is_strict():
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in "ab"]
    over = [(replace(row, within_reach=row.video == "a", achieved_kbps=row.target_kbps * 1.5), s) for row, s in base[1]]
    summary = summary_of(base[0], over)["abr2"]
    assert summary["met_share"]["0"] == 1 and summary["rate_ratio"] == [1, 1, 1]
    assert summary["achieved_kbps"] == pytest.approx([1.25 * target for target in TARGETS])


def test_objects_weigh_in_the_mean_over_clips(detector):
    """A clip with one object counts a third of one with three, and none where there is nothing; classes are pooled."""
    task = build_task("detection", model="fastestdet", weights=detector)
    row = rows_of("abr2", "a", spent=1.0, gain_db=0)[0][0]
    clips = [
        weighted(task, replace(row, video=name), state)
        for name, state in (
            ("a", detected(task, hits=1, missed=0)),
            ("b", detected(task, hits=1, missed=2)),
            ("c", task.metric().state),
        )
    ]
    table = Table(measured(clips), task, clips_of(clips))
    third = clips[1][0].metric
    assert third == pytest.approx(34 / 101)  # recalls 0, 0.01 .. 0.33
    assert table.figure(clips) == pytest.approx((1 + 3 * third) / 4)
    assert figures_of(task, [state for _, state in clips])["AP50"] == pytest.approx((1 + 3 * third) / 4)
    crowd = replace(clips[0][0], weight=task.weight({"objects": torch.full((3,), 100.0)}))
    assert crowd.weight == 40


def test_a_target_is_the_mean_of_its_rate_factors():
    rows = []
    for factor, gain in ((0.96, -1.0), (1.04, 2.0)):
        for row, _ in rows_of("abr2", "a", spent=factor, gain_db=gain):
            psnr = row.metric
            rows.append((replace(row, rate_factor=factor), state(10 ** (-psnr / 10))))
    summary = summary_of(rows)["abr2"]
    assert summary["metric"] == pytest.approx([30.5 + 3 * i for i in range(4)])
    assert summary["achieved_kbps"] == pytest.approx(TARGETS)


def test_single_clips_are_compared_by_curves_that_rise(detector):
    base = rows_of("abr2", "a", spent=1.0, gain_db=0)
    ours = rows_of("ours", "a", spent=0.8, gain_db=0)
    jumping = [
        (replace(row, metric=row.metric + (-1) ** i * 2), s)
        for i, (row, s) in enumerate(rows_of("up", "a", spent=0.8, gain_db=0))
    ]
    flat = [(replace(row, metric=30.0), s) for row, s in rows_of("flat", "a", spent=1.0, gain_db=0)]
    summary = summary_of(base, ours, jumping, flat)
    table = Table(measured(base, ours, jumping, flat), build_task("reconstruction", model="psnr"), clips_of(base))
    clip = table.clips[0]
    assert table.clip_difference("ours", "abr2", clip) == pytest.approx(-20)
    assert -40 < table.clip_difference("up", "abr2", clip) < 0
    assert table.clip_difference("flat", "abr2", clip) == math.inf and table.clip_difference("flat", "flat", clip) == 0
    assert summary["ours"]["better_share"] == summary["ours"]["not_worse_share"] == 1 and summary["flat"]["not_worse_share"] == 0


def test_kinds_of_scenes_have_their_own_figures():
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in "abcdef"]
    ours = [rows_of("ours", video, spent=0.5 if video in "abc" else 1.0, gain_db=0) for video in "abcdef"]
    clips = [ClipName(video, 0, video, "street" if video in "abc" else "sport") for video in "abcdef"]
    task = build_task("reconstruction", model="psnr")
    kinds = summarise(measured(*base, *ours), task, clips=clips, baseline="abr2", bootstrap=30, seed=0)["ours"]["kinds"]
    assert kinds["street"]["bd_rate_percent"] == pytest.approx(-50) and kinds["street"]["groups"] == 3
    assert kinds["sport"]["bd_rate_percent"] == pytest.approx(0) and kinds["sport"]["bd_rate_ci95"] == pytest.approx((0, 0))


def test_trainings_that_differ_in_their_seeds_alone_show_their_spread():
    summary = {"learned": {"bd_rate_percent": -6.0}, "learned b": {"bd_rate_percent": 2.0}, "learned c": {"bd_rate_percent": 9.0}}
    runs = {"learned": {"seed": 0, "steps": 5}, "learned b": {"seed": 1, "steps": 5}, "learned c": {"seed": 2, "steps": 7}}
    spread = seed_spread(summary, runs)
    assert spread == {name: {"seeds": [0, 1], "bd_rates": [-6.0, 2.0]} for name in ("learned", "learned b")}
    assert seed_spread(summary, {"learned": {"seed": 0}, "learned b": {"seed": 0}}) == {}


def test_what_a_bd_rate_stands_on_is_beside_it():
    base = [rows_of("abr2", video, spent=1.0, gain_db=0) for video in "abc"]
    ours = [rows_of("ours", video, spent=1.0, gain_db=1.0) for video in "abc"]
    basis = summary_of(*base, *ours, bootstrap=20)["ours"]["bd_basis"]
    assert basis["points"] == 4 and basis["overlap"] == pytest.approx(8 / 10) and basis["monotone_share"] == 1
    assert basis["reason"] == ""
    few = [[item for item in rows if item[0].target_index < 3] for rows in (*base, *ours)]
    short = summary_of(*few)["ours"]
    assert short["bd_rate_percent"] is None and short["bd_basis"]["reason"].startswith("3 of the 4 rising points")
