"""The bench for detection: scenes of a corpus, several rates of every target, by one process or two."""

import csv
import json
import os
import resource

import numpy as np
import pytest

from dvcc.clip import Clip
from dvcc.codecs import CRF, X264
from dvcc.config.parse import parse
from dvcc.errors import ConfigError
from dvcc.evaluation.control import run as evaluation
from dvcc.evaluation.control.verdicts import Verdicts
from dvcc.tasks import DetectionTask, build_task
from dvcc.tasks.judging import judge, predict_frames
from tests.conftest import make_scene
from tests.datasets.test_table import write_corpus


def configure(root, detector, out, *words):
    given = [
        "task=detection",
        f"task.model={detector}",
        "task.layout=fastestdet",
        "data=corpus",
        "scenario=scenes",
        f"data.root={root}",
    ]
    given += ["data.min_frames=8", "targets_bpp=[0.1,0.4]", f"data.cache={out}-cache", f"out={out}", "bootstrap=30", *words]
    return parse("evaluate", ["control", *given])[1]


def rows_of(out):
    return list(csv.DictReader((out / "rows.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("scenes") / "corpus")


@pytest.mark.slow
def test_every_target_is_coded_at_every_factor_and_one_process_or_two_measure_the_same(root, detector, tmp_path):
    """Also where a process may have few files open: a table has thousands of tensors, and each would be one."""
    words = ["controllers=[abr2,boxes]", "judged_every=1", "data.frames=10"]
    printed = evaluation.run(configure(root, detector, tmp_path / "one", "workers=1", *words))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 60, hard))
        evaluation.run(configure(root, detector, tmp_path / "two", "workers=2", *words))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    rows = rows_of(tmp_path / "one")
    assert rows == rows_of(tmp_path / "two") and len(rows) == 2 * 2 * 3 * 2
    assert {row["video"] for row in rows} == {"b.mp4", "c.mp4"}
    assert {row["rate_factor"] for row in rows} == {"0.96", "1.0", "1.04"}
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    assert report["summary"]["boxes"]["kinds"]["sport"]["groups"] == 1
    assert set(report["under_noise"]) == {"AP50", "mAP50"} and "of the gain of boxes" in printed
    assert [clip["group"] for clip in report["clips"]] == ["street-2", "game"]


def test_what_is_cached_is_not_encoded_nor_judged_again(root, detector, tmp_path, monkeypatch):
    config = configure(root, detector, tmp_path / "out", "workers=1", "controllers=[abr2]")
    evaluation.run(config)
    first = rows_of(tmp_path / "out")
    monkeypatch.setattr("dvcc.codecs.passes._run_dry", lambda *_, **__: pytest.fail("encoded again"))
    monkeypatch.setattr("dvcc.evaluation.control.verdicts.judge", lambda *_: pytest.fail("judged again"))
    evaluation.run(config)
    assert rows_of(tmp_path / "out") == first


def test_a_verdict_is_keyed_by_all_that_decides_it(detector, tmp_path):
    clip = make_scene(frames=6)
    coded = X264().encode(clip, CRF(40))
    task = build_task("detection", model="fastestdet", weights=detector)
    kept = Verdicts(task, tmp_path, every=2)
    reference = predict_frames(task, kept.judged(clip))
    assert len(reference) == 3
    fresh = judge(task, coded.clip().frames[::2], reference)
    for _ in range(2):  # made, then read
        verdict = kept.verdict(clip, coded, reference)
        assert (verdict.metric, verdict.loss) == (fresh.metric, fresh.loss) and set(verdict.state) == set(fresh.state)
        assert (verdict.state["objects"] == fresh.state["objects"]).all()
        assert all((a == b).all() for a, b in zip(verdict.state["matches"], fresh.state["matches"], strict=True))
    entries = set(tmp_path.rglob("*.npz"))
    other_clip = Clip(clip.y, clip.u, np.zeros_like(clip.v), clip.fps)
    with_threshold = DetectionTask(model="fastestdet", weights=detector, score=0.9)
    for verdicts, of, encode in (
        (kept, other_clip, coded),
        (kept, clip, X264().encode(clip, CRF(41))),
        (Verdicts(task, tmp_path, every=3), clip, coded),
        (Verdicts(with_threshold, tmp_path, every=2), clip, coded),
    ):
        verdicts.verdict(of, encode, predict_frames(verdicts.task, verdicts.judged(of)))
        found_now = set(tmp_path.rglob("*.npz"))
        assert len(found_now) == len(entries) + 1
        entries = found_now
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-30])  # damaged: judged again
    assert kept.verdict(clip, coded, reference).loss == fresh.loss


def test_settings_that_do_not_fit_are_refused(root, detector, tmp_path):
    with pytest.raises(ConfigError, match="controllers must include abr2, which the others"):
        configure(root, detector, tmp_path, "controllers=[objects]")
    with pytest.raises(ConfigError, match="rate_factors are positive numbers"):
        configure(root, detector, tmp_path, "rate_factors=[0,1]")
    with pytest.raises(ConfigError, match="targets_bpp are positive bits per pixel"):
        configure(root, detector, tmp_path, "targets_bpp=[]")
    config = parse(
        "evaluate",
        [
            "control",
            "task=optical_flow",
            "data=corpus",
            "scenario=scenes",
            f"data.root={root}",
            "controllers=[abr2]",
            f"out={tmp_path / 'out'}",
            f"data.cache={tmp_path}",
        ],
    )[1]
    with pytest.raises(ConfigError, match="needs neighbouring frames: set judged_every=1, got 3"):
        evaluation.run(config)


def test_a_scenario_is_for_training_too():
    """What only an evaluation asks is left out of a training's settings."""
    config = parse("train", ["control", "task=segmentation", "scenario=scenes", "data=folder", "data.root=x"])[1]
    assert config.data.frames == 30 and config.codec.gop == 30


def test_x265_takes_offsets_and_no_map(root, detector, tmp_path):
    words = ["workers=1", "codec=x265", "codec.gop=30", "codec.preset=veryfast", "data.max_clips=1", "rate_factors=[1]"]
    evaluation.run(configure(root, detector, tmp_path / "out", "controllers=[abr2,boxes]", *words))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"].startswith("x265") and all(row["status"] == "ok" for row in rows_of(tmp_path / "out"))
    with pytest.raises(ConfigError, match="only x264 tells it"):
        evaluation.run(configure(root, detector, tmp_path / "out", "controllers=[abr2,saliency]", *words))
