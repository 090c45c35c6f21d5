"""`evaluate.py benchmark preset=paper`: claims, agreement and the page of figures that were made up, and a tiny real run."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from dvcc.cli import main
from dvcc.codecs import JPEG
from dvcc.config.parse import parse
from dvcc.errors import ConfigError
from dvcc.evaluation.benchmark.paper import run as paper
from dvcc.evaluation.benchmark.paper.agreement import agreement, spearman
from dvcc.evaluation.benchmark.paper.claim import COMMANDS, Claim, verdict
from dvcc.evaluation.benchmark.paper.claims import CLAIMS
from dvcc.evaluation.benchmark.paper.evidence import alike, at_level, differing, falling, kept_of_labels, linear
from dvcc.evaluation.benchmark.paper.page import page
from dvcc.evaluation.benchmark.paper.result import Result
from dvcc.evaluation.benchmark.paper.studies import STUDIES, Material, Study
from dvcc.evaluation.benchmark.paper.times import Times
from tests.evaluation.test_benchmark import Thresholds, count_calls, write_camvid

MATERIAL = Material("segmentation", "camvid", "streets", "pictures", 2, blocks=True)
STUDY = Study("jpeg-segmentation", "Segmentation on JPEG", MATERIAL, ("student",), JPEG(), "quality", (20, 90))


def made_up(relative, absolute=None, *, levels=(90, 50, 10), higher=True, spread=0.01, study=STUDY):
    """A result of networks with these figures at the levels (finest first), resampled with a little noise that networks share;
    uncoded they agree with themselves, and have 0.8 (an error of 0.1) against the labels."""
    rng = np.random.default_rng(0)
    noise = spread * rng.standard_normal((40, 1))
    curves, metrics = {}, {}
    for kind, figures in (("relative", relative), ("absolute", absolute or {})):
        for name, values in figures.items():
            best = {"relative": float(higher), "absolute": 0.8 if higher else 0.1}[kind]
            row = np.array([best, best, *values], float)
            curves[name, kind, "mIoU"] = np.vstack([row, row + noise * (1 + 0.1 * np.arange(len(row)))])
            metrics[name] = ("mIoU",)
    sizes = dict.fromkeys(levels, 3.0)
    return Result(study, ("uncoded", "noise", *levels), curves, metrics, higher, sizes, examples=5, groups=5)


def test_a_level_is_compared_with_its_bound_for_every_network():
    evidence = {"s": made_up({"a": (0.95, 0.7, 0.05), "b": (0.9, 0.8, 0.3)})}
    found = at_level("s", 10, lambda kept: kept < 0.1)(evidence)
    assert [(one.subject, one.holds) for one in found] == [("a", True), ("b", False)] and found[0].words.startswith("0.05 [")
    claim = Claim("words", "1", "-", "as", at_level("s", 10, lambda kept: kept < 0.1), "seg-jpeg")
    assert verdict(claim, found) == "holds for 1 of 2"
    assert verdict(claim, found[:1]) == "holds" and verdict(claim, found[1:]) == "does not hold"
    assert verdict(claim, claim.findings({})) == "not measured"
    untestable = replace(claim, test=None)
    assert verdict(untestable, untestable.findings(evidence)) == "cannot be tested here"


def test_what_no_interval_tells_from_zero_is_undecided():
    clear = {"s": made_up({"small": (0.9, 0.6, 0.1), "large": (0.95, 0.7, 0.2)})}
    same = {"s": made_up({"small": (0.9, 0.6, 0.1), "large": (0.9, 0.6, 0.1)})}
    levels = (90, 50)
    assert differing("s", levels, "small", "large")(clear)[0].holds is True
    assert differing("s", levels, "large", "small")(clear)[0].holds is False
    assert differing("s", levels, "small", "large")(same)[0].holds is None
    assert alike("s", levels, "small", "large")(same)[0].holds and not alike("s", levels, "small", "large")(clear)[0].holds
    alone = {"s": replace(clear["s"], curves={key: curve[:1] for key, curve in clear["s"].curves.items()})}
    assert differing("s", levels, "small", "large")(alone)[0].holds is None


def test_falling_and_linear_see_a_rise_and_a_bend():
    evidence = {"s": made_up({"falls": (0.9, 0.5, 0.1), "rises": (0.4, 0.7, 0.1)})}
    assert [one.holds for one in falling("s")(evidence)] == [True, False]
    assert "50" in falling("s")(evidence)[1].words
    error = {"s": made_up({"straight": (1, 2, 3, 4), "bent": (0, 0, 0, 4)}, levels=(15, 25, 35, 45), higher=False)}
    assert [one.holds for one in linear("s", 15)(error)] == [True, False]


def test_of_labels_the_share_of_the_uncoded_figure_counts():
    evidence = {"s": made_up({"a": (1, 1, 1)}, {"a": (0.79, 0.4, 0.1)})}
    found = kept_of_labels("s", 90, lambda kept: kept >= 0.98)(evidence)
    assert found[0].holds and found[0].words.startswith("0.80")
    assert not kept_of_labels("s", 50, lambda kept: kept >= 0.98)(evidence)[0].holds


def test_rank_correlation_is_one_for_one_order_and_shares_ranks():
    assert spearman(np.array([1.0, 2, 9]), np.array([0.1, 0.2, 0.3])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2, 9]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert spearman(np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(0.9487, abs=1e-4)
    assert np.isnan(spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])))


def test_agreement_looks_over_levels_and_over_networks():
    relative = {"a": (0.9, 0.5, 0.1), "b": (0.8, 0.4, 0.05), "c": (0.7, 0.3, 0.0)}
    same = agreement(made_up(relative, {name: [0.8 * value for value in values] for name, values in relative.items()}))
    assert all(draws[0] == pytest.approx(1) for draws in same.over_levels.values())
    assert same.over_networks[0] == pytest.approx(1) and same.over_all[0] == pytest.approx(1) and len(same.over_all) == 41
    swapped = agreement(made_up(relative, {"a": relative["c"], "b": relative["b"], "c": relative["a"]}))
    assert swapped.over_networks[0] == pytest.approx(-1) and swapped.over_levels["a"][0] == pytest.approx(1)
    assert agreement(made_up(relative)) is None


def test_the_page_has_every_claim_once_and_names_what_was_left_out(tmp_path):
    figures = {"efficientvit_b0": (0.99, 0.6, 0.05), "espnetv2": (0.95, 0.5, 0.08)}
    result = made_up(figures, levels=(99, 60, 1))
    text = page({STUDY.name: result}, {"h264-flow": "no videos"}, {STUDY.name: [60.0, 90.0]}, "2 cores", tmp_path, ["x.png"])
    for claim in CLAIMS:
        assert text.count(f"| {claim.words} |") == 1 and claim.command in COMMANDS
    row = next(line for line in text.splitlines() if CLAIMS[1].words in line)
    assert "| holds |" in row and "efficientvit_b0 0.05 [" in row
    assert "h264-flow: no videos" in text and "1 minutes of a processor" in text and f"{tmp_path.name}/x.png" in text
    for drawn in re.findall(rf"\({tmp_path.name}/(jpeg.*?)\)", text):
        assert (tmp_path / drawn).stat().st_size > 1000


def test_every_study_of_a_claim_exists_with_its_levels():
    """A claim whose study was renamed would say "not measured" for ever."""
    names = {network for study in STUDIES for network in study.networks}
    evidence = {}
    for study in STUDIES:
        levels = sorted(study.levels, reverse=study.rate == "quality")
        higher = study.material.task != "optical_flow"
        values = {name: [0.5] * len(levels) for name in study.networks}
        evidence[study.name] = made_up(values, values, levels=levels, higher=higher, study=study)
    assert len(names) > 10
    for claim in CLAIMS:
        assert claim.test is None or claim.findings(evidence), claim.words


@pytest.fixture
def street(tmp_path, monkeypatch):
    write_camvid(tmp_path / "streets")
    monkeypatch.setattr("dvcc.evaluation.benchmark.paper.measuring.build_task", lambda *_, **__: Thresholds(11))
    monkeypatch.setattr(paper, "draw_street", lambda folder: [])
    return tmp_path


def test_a_run_measures_what_it_can_resumes_and_adds_up_its_time(street, monkeypatch):
    elsewhere = replace(STUDY, name="h264-flow", title="Flow", material=replace(MATERIAL, data="middlebury", root="nowhere"))
    options = {"out": street / "out", "cache": street / "cache", "bootstrap": 0, "seed": 0, "studies": (STUDY, elsewhere)}
    calls = count_calls(monkeypatch)
    printed = paper.run_paper(street, **options)
    assert calls["encode"] == 4
    assert "left out: h264-flow:" in printed and "nowhere" in printed and "not measured: " in printed
    first = Times(street / "out" / "claims" / "times.json").seconds[STUDY.name]
    paper.run_paper(street, **options)
    assert calls["encode"] == 4
    assert Times(street / "out" / "claims" / "times.json").seconds[STUDY.name][0] > first[0]
    assert (street / "out" / "claims.md").read_text().startswith("# What coding costs networks")


@pytest.mark.parametrize(
    "root, said",
    [("nowhere", "nowhere does not exist: set data.root, or DVCC_ASSETS"), (".", r"with data.root=.*expected: ROOT")],
)
def test_without_any_data_one_sentence_says_so(root, said, tmp_path):
    options = {"out": tmp_path / "out", "cache": tmp_path / "cache", "bootstrap": 0, "seed": 0}
    with pytest.raises(ConfigError, match=said) as error:
        paper.run_paper(tmp_path / root, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words, said",
    [
        (["preset=papers"], "takes no preset=papers: did you mean preset=paper?"),
        (["preset=paper", "networks=[student]"], "leave out networks"),
        (["preset=paper", "levels=[3]", "rate=cqp"], "leave out rate, levels"),
    ],
)
def test_a_preset_refuses_what_it_brings_itself(words, said):
    with pytest.raises(ConfigError) as error:
        parse("evaluate", ["benchmark", *words])
    assert said in str(error.value)


def test_the_preset_needs_no_data_root(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVCC_ASSETS", str(tmp_path / "mine"))
    seen = []
    monkeypatch.setattr(paper, "run_paper", lambda assets, **options: seen.append(assets) or "page")
    assert main(["evaluate", "benchmark", "preset=paper"]) == 0
    assert seen == [tmp_path / "mine"] and capsys.readouterr().out == "page\n"
